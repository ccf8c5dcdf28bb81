//! The loop around a session: selects, feeds and sends. Both ends share it.

mod queries;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use atoll_model::{Clock, Kind, ZoneUid};
use atoll_runtime::clock::SystemClock;
use atoll_sync::{Event, Fault, Message, Review, Session, View, proto, proto::drain::Code};
use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use queries::{Answers, Asked};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    LinkStatus, QueryError,
    peer::{Outcome, PeerStore, Unapplied},
    soft::{SoftBoard, SoftSink},
    status,
    zone::Answerer,
};

/// How often a status is published at most, unless the phase changes.
const STATUS_PAUSE: Duration = Duration::from_millis(50);
/// How long a stream that takes nothing is left alone.
const BLOCKED: Duration = Duration::from_millis(500);
/// How long the end of a session waits for the store.
const LAST_APPLY: Duration = Duration::from_secs(10);
/// How many messages wait for the stream at most.
pub(crate) const OUTBOX: usize = 8;

/// What a loop needs of its program.
pub(crate) struct Context {
    pub(crate) zone: ZoneUid,
    pub(crate) peer: PeerStore,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) review: Arc<dyn Review>,
    pub(crate) soft: Arc<dyn SoftSink>,
    pub(crate) board: SoftBoard,
    pub(crate) answerer: Arc<dyn Answerer>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The word of an operator that this session acts on; withdrawn when it is done.
    pub(crate) follow: Option<watch::Sender<Option<uuid::Uuid>>>,
    /// Soft shutdown.
    pub(crate) stop: CancellationToken,
    /// Gets the status; called seldom.
    pub(crate) publish: Box<dyn FnMut(LinkStatus) + Send>,
}

/// What others want of a session.
pub(crate) enum Command {
    /// Ask the peer.
    Ask { path: String, body: Bytes, reply: oneshot::Sender<Result<Bytes, QueryError>> },
    /// Do held deletions.
    Release(Kind),
    /// Keep what a restore would delete.
    Keep(Kind),
    /// End the stream.
    End { code: Code, reason: String },
}

/// Why a loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The session said so.
    Fault(Fault),
    /// The stream broke; with the status, if the peer gave one.
    Broken(Option<tonic::Status>),
    /// This program ends.
    Shutdown,
    /// Somebody here wanted it.
    Ordered,
    /// The zone has a newer stream to another instance.
    Superseded,
}

/// How a message goes out.
pub(crate) trait Outgoing: Send + 'static {
    fn of(message: Message) -> Self;
}

impl Outgoing for proto::ToGlobal {
    fn of(message: Message) -> Self {
        message.into_to_global()
    }
}

impl Outgoing for Result<proto::ToZone, tonic::Status> {
    fn of(message: Message) -> Self {
        Ok(message.into_to_zone())
    }
}

type Applying = Pin<Box<dyn Future<Output = Result<Outcome, Unapplied>> + Send>>;

/// A session with all that runs around it.
pub(crate) struct Driver<Out> {
    session: Session,
    context: Context,
    out: mpsc::Sender<Out>,
    started: Instant,
    applying: Option<Applying>,
    answers: Answers,
    asked: Asked,
    soft_turn: u64,
    soft_changed: watch::Receiver<u64>,
    chores: FuturesUnordered<BoxFuture<'static, ()>>,
    status: LinkStatus,
    shown: LinkStatus,
    shown_at: Instant,
    opened: bool,
}

impl<Out: Outgoing> Driver<Out> {
    pub(crate) fn new(session: Session, context: Context, out: mpsc::Sender<Out>, status: LinkStatus) -> Self {
        let soft_changed = context.board.subscribe();
        let started = Instant::now();
        Self {
            session,
            out,
            started,
            applying: None,
            answers: Answers::default(),
            asked: Asked::default(),
            soft_turn: 0,
            soft_changed,
            chores: FuturesUnordered::new(),
            shown: status.clone(),
            status,
            shown_at: started,
            opened: false,
            context,
        }
    }

    /// Runs until the session ends. Gives why, and whether it ever opened.
    pub(crate) async fn run<In: Into<Message> + Send>(
        mut self,
        mut incoming: impl Stream<Item = Result<In, tonic::Status>> + Unpin + Send,
    ) -> (End, bool) {
        let end = loop {
            if let Err(fault) = self.advance() {
                break End::Fault(fault);
            }
            let blocked = self.out.capacity() == 0;
            let wake = if blocked { Instant::now() + BLOCKED } else { self.next_wake() };
            tokio::select! {
                message = incoming.next() => match message {
                    Some(Ok(message)) => if let Err(fault) = self.take(message.into()) { break End::Fault(fault) },
                    Some(Err(status)) => break End::Broken(Some(status)),
                    None => break End::Broken(None),
                },
                changed = self.context.views.changed() => if changed.is_err() { break End::Shutdown },
                outcome = finished(&mut self.applying) => match outcome {
                    Ok(outcome) => self.session.on_applied(outcome.local, outcome.refused, self.started.elapsed()),
                    Err(Unapplied::Closed) => break End::Shutdown,
                    Err(Unapplied::Superseded) => break End::Superseded,
                },
                closed = is_closed(&self.out), if blocked => if closed { break End::Broken(None) },
                Some(()) = self.chores.next() => {}
                Some((id, answer)) = self.answers.next() => self.session.answer(id, answer),
                Some(command) = self.context.commands.recv() => if self.obey(command) { break End::Ordered },
                _ = self.soft_changed.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
                () = self.context.stop.cancelled() => {
                    self.session.drain(Code::Shutdown, "the control plane restarts", Duration::ZERO);
                    break End::Shutdown;
                }
            }
        };
        let opened = self.opened;
        self.end(&end).await;
        (end, opened)
    }

    /// Feeds the session and sends what it has.
    fn advance(&mut self) -> Result<(), Fault> {
        let view = self.context.views.borrow_and_update().clone();
        let now = self.started.elapsed();
        self.session.on_tick(now)?;
        self.session.on_view(&view)?;
        if self.session.receiver().has_moved()
            && let Some(follow) = self.context.follow.take()
        {
            // The other history is this zone's now; a third one needs a new word.
            follow.send_replace(None);
        }
        self.feed_soft();
        if self.applying.is_none()
            && let Some(apply) = self.session.poll_apply(&view, &*self.context.review, now)
        {
            self.applying = Some(Box::pin(self.context.peer.clone().apply(apply)));
        }
        while let Ok(room) = self.out.try_reserve() {
            let Some(message) = self.session.poll_send(&view, now) else { break };
            room.send(Out::of(message));
        }
        self.handle_events();
        self.publish();
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), Fault> {
        let view = self.context.views.borrow().clone();
        self.status.last_seen = Some(SystemClock.now());
        self.session.on_message(message, &view, self.started.elapsed())
    }

    fn feed_soft(&mut self) {
        if self.soft_turn != *self.soft_changed.borrow_and_update() {
            let (values, turn) = self.context.board.since(self.soft_turn);
            values.into_iter().for_each(|(key, value)| self.session.put_soft(key, value));
            self.soft_turn = turn;
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened => self.opened = true,
                Event::Soft(key, value) => self.context.soft.put(self.context.zone, &key, value),
                Event::Query(query) => self.answers.begin(self.context.answerer.clone(), query),
                Event::QueryPart(part) => self.asked.take(part),
                Event::Healing(kinds) => {
                    self.status.healed += kinds.len() as u64;
                    tracing::error!(zone = %self.context.zone, ?kinds, "digests differ from the peer's; taking these kinds again");
                }
                Event::Epochs(epochs) => {
                    let peer = self.context.peer.clone();
                    self.chores.push(Box::pin(async move {
                        if let Err(error) = peer.remember_epochs(&epochs).await {
                            tracing::warn!(error = &error as &dyn std::error::Error, "cannot remember a zone's epochs");
                        }
                    }));
                }
            }
        }
    }

    /// Gives true when the stream must end.
    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Ask { path, body, reply } => {
                let query = self.asked.begin(path, body, reply);
                self.session.ask(query);
            }
            Command::Release(kind) => self.session.release(kind),
            Command::Keep(kind) => self.session.keep(kind),
            Command::End { code, reason } => {
                self.session.drain(code, reason, Duration::ZERO);
                return true;
            }
        }
        false
    }

    fn next_wake(&self) -> Instant {
        let session = self.started + self.session.next_wake();
        let status = (self.status != self.shown).then_some(self.shown_at + STATUS_PAUSE);
        status.map_or(session, |due| due.min(session)).max(Instant::now() + Duration::from_millis(1))
    }

    fn publish(&mut self) {
        status::read(&self.session, &mut self.status);
        let due = self.shown_at.elapsed() >= STATUS_PAUSE && self.status != self.shown;
        if due || self.status.phase != self.shown.phase {
            self.shown_at = Instant::now();
            self.shown.clone_from(&self.status);
            (self.context.publish)(self.status.clone());
        }
    }

    /// Says the last words and notes why.
    async fn end(mut self, end: &End) {
        if matches!(end, End::Superseded) {
            self.session.drain(Code::Replaced, end.to_string(), Duration::ZERO);
        }
        if let End::Fault(fault) = end {
            let (code, reason) = match fault {
                Fault::Behind | Fault::WentBack => (Code::Behind, fault.to_string()),
                Fault::Protocol(_) | Fault::OtherCluster(_) => (Code::Protocol, fault.to_string()),
                Fault::Silent | Fault::Drained { .. } => (Code::Unspecified, String::new()),
            };
            if code != Code::Unspecified {
                self.session.drain(code, reason, Duration::ZERO);
            }
        }
        let view = self.context.views.borrow().clone();
        if let (Some(drain @ Message::Drain(_)), Ok(room)) =
            (self.session.poll_send(&view, self.started.elapsed()), self.out.try_reserve())
        {
            room.send(Out::of(drain));
        }
        // What the store is doing is finished, so that the next session starts from where it led.
        if let Some(applying) = self.applying.take() {
            let _ = tokio::time::timeout(LAST_APPLY, applying).await;
        }
        status::ended(&mut self.status, end);
        (self.context.publish)(self.status);
    }
}

/// Waits for room, or for the end of the stream.
async fn is_closed<T>(out: &mpsc::Sender<T>) -> bool {
    out.reserve().await.is_err()
}

/// Waits for the store; for ever while it has nothing to do.
async fn finished(applying: &mut Option<Applying>) -> Result<Outcome, Unapplied> {
    match applying {
        Some(future) => {
            let outcome = future.await;
            *applying = None;
            outcome
        }
        None => std::future::pending().await,
    }
}
