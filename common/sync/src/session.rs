//! One end of one stream: a sender, a receiver and what belongs to both. Messages go in, messages and changes come out.

mod handshake;
mod setup;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use atoll_model::Kind;
use bytes::Bytes;
use setup::Side;
pub use setup::{GlobalSetup, ZoneSetup};

use crate::{
    Epoch, Message, Review, View,
    flow::Moment,
    proto::{self, drain::Code},
    receiver::{Apply, Receiver},
    sender::{Progress, Sender},
    wire::Item,
};

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;
/// How often a sign of life goes out.
const BEAT: Duration = Duration::from_secs(5);
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(15);
/// Largest part of an answer.
const QUERY_PART: usize = 64 * 1024;

/// One end of one stream. [`Moment`]s count from its start.
#[derive(Debug)]
pub struct Session {
    side: Side,
    phase: Phase,
    /// The phase when a restore is through.
    restored: Phase,
    sender: Sender,
    receiver: Receiver,
    /// Goes before everything else.
    control: VecDeque<Message>,
    /// Goes after changes.
    soft: BTreeMap<String, Bytes>,
    /// Goes last.
    parts: VecDeque<proto::QueryPart>,
    events: VecDeque<Event>,
    last_heard: Moment,
    last_beat: Moment,
    greeting: Greeting,
    /// On global: the zone's epochs, until they may be remembered.
    epochs: Vec<Epoch>,
    /// The history of the views that it reads.
    history: Option<u64>,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Hello and Welcome are not through.
    Greeting,
    /// Changes flow.
    Open,
    /// The peer has another history: nothing of it is taken. What this plane owns still flows.
    OtherHistory,
    /// This zone takes global's copy of its own resources first.
    Restoring,
}

/// What the peer said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Its process.
    pub instance: String,
    /// Its program's version.
    pub software: String,
    /// Its newest epoch, if it sent one: what [`ZoneSetup::follow`] may name.
    pub epoch: Option<uuid::Uuid>,
}

/// Something for the program around the session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Hello and Welcome are through.
    Opened,
    /// A soft value, or its withdrawal.
    Soft(String, Option<Bytes>),
    /// The peer asks.
    Query(proto::Query),
    /// The peer answers.
    QueryPart(proto::QueryPart),
    /// Digests differ in these kinds; they are being sent again.
    Healing(Vec<String>),
    /// On global: the zone's epochs, to be remembered for the next [`GlobalSetup::known`].
    Epochs(Vec<uuid::Uuid>),
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer broke a rule.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Nothing came for too long.
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    /// This process has not yet read what the peer already holds.
    #[error("this instance is behind what the peer holds")]
    Behind,
    /// This process's table was replaced by one of an earlier time: what was said on the stream does not hold any more.
    #[error("this plane's store went back to an earlier state")]
    WentBack,
    /// The peer belongs to another cluster.
    #[error("the peer belongs to cluster {0}")]
    OtherCluster(uuid::Uuid),
    /// The peer says that it ends the stream.
    #[error("the peer ended the stream: {reason}")]
    Drained {
        /// What kind of end.
        code: Code,
        /// In words.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
}

impl Session {
    /// Global's end.
    pub fn global(setup: GlobalSetup) -> Self {
        let route = crate::Route::Down(setup.zone);
        let receiver = Receiver::new(crate::Route::Up(setup.zone), setup.has, setup.local);
        Self::new(Side::Global(setup), Sender::new(route), receiver)
    }

    /// A zone's end. Says hello at once.
    pub fn zone(setup: ZoneSetup, view: &View) -> Self {
        let route = crate::Route::Up(setup.zone);
        let receiver = Receiver::new(crate::Route::Down(setup.zone), setup.has, setup.local);
        let hello = handshake::hello(&setup, &receiver, view);
        let mut session = Self::new(Side::Zone(setup), Sender::new(route), receiver);
        session.control.push_back(Message::Hello(hello));
        session
    }

    fn new(side: Side, sender: Sender, receiver: Receiver) -> Self {
        Self {
            side,
            phase: Phase::Greeting,
            restored: Phase::Open,
            sender,
            receiver,
            control: VecDeque::new(),
            soft: BTreeMap::new(),
            parts: VecDeque::new(),
            events: VecDeque::new(),
            last_heard: Moment::ZERO,
            last_beat: Moment::ZERO,
            greeting: Greeting::default(),
            epochs: Vec::new(),
            history: None,
        }
    }

    /// Takes a message of the peer.
    ///
    /// # Errors
    /// When the session is over.
    pub fn on_message(&mut self, message: Message, view: &Arc<View>, now: Moment) -> Result<(), Fault> {
        self.last_heard = now;
        match message {
            Message::Hello(hello) => return self.on_hello(&hello, view),
            Message::Welcome(welcome) => return self.on_welcome(&welcome, view),
            Message::Drain(drain) => return Err(drained(drain)),
            Message::Unknown => return Ok(()),
            _ if self.phase == Phase::Greeting => return Err(Fault::Protocol("a message before the greeting".to_owned())),
            Message::Batch(batch) => self.receiver.on_batch(batch, now).map_err(|broken| Fault::Protocol(broken.0))?,
            Message::Ack(ack) => self.sender.on_ack(ack, now),
            Message::Heartbeat(heartbeat) => self.receiver.on_heartbeat(heartbeat),
            Message::Resync(resync) => self.sender.on_resync(resync),
            Message::Soft(soft) => {
                let value = Some(soft.value).filter(|value| !value.is_empty());
                self.events.push_back(Event::Soft(soft.key, value));
            }
            Message::Query(query) => self.events.push_back(Event::Query(query)),
            Message::QueryPart(part) => self.events.push_back(Event::QueryPart(part)),
        }
        Ok(())
    }

    /// Looks at the time.
    ///
    /// # Errors
    /// When the peer is silent for too long.
    pub fn on_tick(&mut self, now: Moment) -> Result<(), Fault> {
        if now.saturating_sub(self.last_heard) > SILENCE { Err(Fault::Silent) } else { Ok(()) }
    }

    /// Looks at the table.
    ///
    /// # Errors
    /// When it shows that the peer was taken for one of another history, and is not, or when the table went back: the peer should
    /// come again.
    pub fn on_view(&mut self, view: &View) -> Result<(), Fault> {
        if *self.history.get_or_insert(view.history()) != view.history() {
            return Err(Fault::WentBack);
        }
        if self.phase == Phase::OtherHistory && self.sender.misjudged(view) { Err(Fault::Behind) } else { Ok(()) }
    }

    /// The next message for the peer. Control, then changes, then soft values, then answers.
    pub fn poll_send(&mut self, view: &Arc<View>, now: Moment) -> Option<Message> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        if self.phase == Phase::Greeting {
            return None;
        }
        if self.phase == Phase::Restoring && self.receiver.poll_restored(view) {
            self.sender.send_everything(view);
            self.phase = self.restored;
        }
        if let Some(resync) = self.receiver.poll_resync() {
            if !resync.own {
                self.events.push_back(Event::Healing(resync.kinds.clone()));
            }
            return Some(Message::Resync(resync));
        }
        if let Some(ack) = self.receiver.poll_ack() {
            return Some(Message::Ack(ack));
        }
        if now >= self.last_beat + BEAT {
            return Some(self.beat(view, now));
        }
        if let Some(batch) = self.sender.pull(view, now) {
            return Some(Message::Batch(batch));
        }
        if let Some((key, value)) = self.soft.pop_first() {
            return Some(Message::Soft(proto::Soft { key, value }));
        }
        self.parts.pop_front().map(Message::QueryPart)
    }

    fn beat(&mut self, view: &Arc<View>, now: Moment) -> Message {
        self.last_beat = now;
        let pulled = self.sender.pull(view, now);
        let (quiet, heartbeat) = self.sender.heartbeat(view, now);
        let mut batches = [pulled, quiet].into_iter().flatten().map(Message::Batch).collect::<VecDeque<_>>();
        match batches.pop_front() {
            None => Message::Heartbeat(heartbeat),
            Some(first) => {
                self.control.extend(batches);
                self.control.push_back(Message::Heartbeat(heartbeat));
                first
            }
        }
    }

    /// The next changes for the store, unless it is busy with the last.
    pub fn poll_apply(&mut self, view: &View, review: &dyn Review, now: Moment) -> Option<Apply> {
        if self.phase == Phase::Greeting { None } else { self.receiver.poll_apply(view, review, now) }
    }

    /// The store has applied what [`Session::poll_apply`] gave; its revision `local` contains it. `refused` it could not take.
    pub fn on_applied(&mut self, local: atoll_model::Revision, refused: Vec<(Item, String)>, now: Moment) {
        self.receiver.on_applied(local, refused, now);
        self.learn_epochs();
    }

    /// The next thing for the program around the session.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to look again, if nothing happens.
    pub fn next_wake(&self) -> Moment {
        let beat = if self.phase == Phase::Greeting { self.last_heard + SILENCE } else { self.last_beat + BEAT };
        let silence = self.last_heard + SILENCE + Duration::from_millis(1);
        [self.sender.next_wake(), self.receiver.next_wake()].into_iter().flatten().fold(beat.min(silence), Moment::min)
    }

    /// Sends a soft value, the newest only; `None` withdraws it.
    pub fn put_soft(&mut self, key: String, value: Option<Bytes>) {
        self.soft.insert(key, value.unwrap_or_default());
    }

    /// Asks the peer.
    pub fn ask(&mut self, query: proto::Query) {
        self.control.push_back(Message::Query(query));
    }

    /// Answers the peer, in parts.
    pub fn answer(&mut self, id: u64, answer: Result<Bytes, String>) {
        match answer {
            Err(error) => self.parts.push_back(proto::QueryPart { id, body: Bytes::new(), last: true, error }),
            Ok(mut body) => loop {
                let part = body.split_to(body.len().min(QUERY_PART));
                let last = body.is_empty();
                self.parts.push_back(proto::QueryPart { id, body: part, last, error: String::new() });
                if last {
                    return;
                }
            },
        }
    }

    /// Tells the peer that the stream ends.
    pub fn drain(&mut self, code: Code, reason: impl Into<String>, retry_after: Duration) {
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        self.control.push_front(Message::Drain(proto::Drain { code: code.into(), reason: reason.into(), retry_after_ms }));
    }

    /// Does the implied deletions of a kind that are held: an operator's word.
    pub fn release(&mut self, kind: Kind) {
        self.receiver.release(kind);
    }

    /// Keeps what global's copy of this zone's own resources lacks, and goes on: an operator's word.
    pub fn keep(&mut self, kind: Kind) {
        self.receiver.keep(kind);
    }

    /// How far the session is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What the peer said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// What the peer has of this plane's.
    pub fn progress(&self) -> &Progress {
        self.sender.progress()
    }

    /// What this plane has of the peer's.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}

fn drained(drain: proto::Drain) -> Fault {
    Fault::Drained { code: drain.code(), reason: drain.reason, retry_after: Duration::from_millis(drain.retry_after_ms) }
}
