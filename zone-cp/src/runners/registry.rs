//! The one owner of what runners said: feeds liveness, and carries its effects into the store.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use atoll_model::{Clock, Timestamp};
use atoll_runtime::tasks::Tasks;
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    admission::Principal,
    liveness::{Busy, Effect, Event, Limits, Liveness, Presence, ProxyId, ProxyStatus, StreamId, Word},
    proto,
    registration::{About, Authored, Registration},
    store::{DataplaneStore, StoreRefusal, StoredDataplane},
};

/// How often silence, holds and refused writes are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The most commands that are taken before their effects are stored.
const BATCH: usize = 256;

/// Why a runner was not attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefusal {
    /// Another one has the name.
    #[error(transparent)]
    Busy(Busy),
    /// Neither the runner nor the store has a document.
    #[error("no Dataplane {0} exists in this zone: run with --dataplane-file, or create the resource first")]
    Missing(ProxyId),
    /// The store did not take it.
    #[error("the zone cannot store the Dataplane: {0}")]
    Store(StoreRefusal),
    /// This plane is ending.
    #[error("the zone's control plane is stopping")]
    Stopping,
}

/// What is known of this zone's proxies, for people and for other stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Every proxy.
    pub proxies: BTreeMap<ProxyId, ProxyView>,
    /// Departures that are held, and until when.
    pub held: BTreeMap<ProxyId, Timestamp>,
}

/// What is known of one proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyView {
    /// Its streams and its state.
    pub status: ProxyStatus,
    /// What its runner told about itself; none until a runner registered.
    pub about: Option<Arc<About>>,
    /// The range for its outbounds.
    pub bind_outbounds: Option<IpNet>,
}

/// Handle to the owner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Runners {
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<Arc<View>>,
}

#[derive(Debug)]
enum Command {
    Attach { registration: Box<Registration>, by: Principal, orders: mpsc::Sender<proto::Order>, reply: AttachReply },
    Event { id: ProxyId, event: Event, done: Option<oneshot::Sender<()>> },
    Order { id: ProxyId, order: Box<proto::Order>, reply: oneshot::Sender<bool> },
}

impl Command {
    fn is_news(&self) -> bool {
        !matches!(self, Command::Event { event: Event::RunnerSaid { word: None, .. }, .. } | Command::Order { .. })
    }
}

type AttachReply = oneshot::Sender<Result<StreamId, AttachRefusal>>;

impl Runners {
    /// Starts the owner. When `stop` is cancelled it ends at once and withdraws nobody: cancel it before the streams end.
    pub fn start(
        store: Arc<dyn DataplaneStore>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (publish, view) = watch::channel(Arc::default());
        let owner = Owner::new(store, clock, limits, publish);
        tasks.spawn("runners", owner.run(inbox, stop));
        Self { commands, view }
    }

    /// What is known now, and when it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Notes that Envoy opened a discovery stream; drop the result when the stream ends.
    pub fn envoy_attached(&self, id: ProxyId) -> EnvoyPresence {
        self.tell(&id, Event::EnvoyAttached);
        EnvoyPresence { runners: self.clone(), id }
    }

    /// Sends an order to a proxy's runner; false when none is attached.
    pub async fn order(&self, id: &ProxyId, order: proto::Order) -> bool {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Order { id: id.clone(), order: Box::new(order), reply });
        answer.await.unwrap_or(false)
    }

    /// Registers a runner; its endpoints are stored when this returns.
    pub(super) async fn attach(
        &self,
        registration: Registration,
        by: Principal,
        orders: mpsc::Sender<proto::Order>,
    ) -> Result<Attachment, AttachRefusal> {
        let id = registration.id.clone();
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Attach { registration: Box::new(registration), by, orders, reply });
        let stream = answer.await.unwrap_or(Err(AttachRefusal::Stopping))?;
        Ok(Attachment { runners: self.clone(), id, stream })
    }

    fn tell(&self, id: &ProxyId, event: Event) {
        let _ = self.commands.send(Command::Event { id: id.clone(), event, done: None });
    }

    /// Tells, and waits until what follows is stored: so a stream has one event under way at most.
    async fn tell_and_wait(&self, id: &ProxyId, event: Event) {
        let (done, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Event { id: id.clone(), event, done: Some(done) });
        let _ = answer.await;
    }
}

/// An open discovery stream of an Envoy.
#[derive(Debug)]
pub struct EnvoyPresence {
    runners: Runners,
    id: ProxyId,
}

impl Drop for EnvoyPresence {
    fn drop(&mut self) {
        self.runners.tell(&self.id, Event::EnvoyClosed);
    }
}

/// An open stream of a runner.
#[derive(Debug)]
pub(super) struct Attachment {
    runners: Runners,
    id: ProxyId,
    stream: StreamId,
}

impl Attachment {
    pub(super) async fn said(&self, word: Option<Word>) {
        self.runners.tell_and_wait(&self.id, Event::RunnerSaid { stream: self.stream, word }).await;
    }

    /// Returns when the endpoints are withdrawn.
    pub(super) async fn draining(&self) {
        self.runners.tell_and_wait(&self.id, Event::Draining { stream: self.stream }).await;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.runners.tell(&self.id, Event::RunnerClosed { stream: self.stream });
    }
}

/// What the registry knows of a proxy beside its liveness.
struct Known {
    authored: Authored,
    by: Principal,
    about: Option<Arc<About>>,
    bind_outbounds: Option<IpNet>,
    orders: Option<mpsc::Sender<proto::Order>>,
    /// A runner registered it; others are never deleted.
    ours: bool,
}

/// A write that the store has not taken yet.
#[derive(Clone, Debug)]
enum Pending {
    Put(Presence),
    Delete,
}

struct Owner {
    store: Arc<dyn DataplaneStore>,
    clock: Arc<dyn Clock>,
    liveness: Liveness,
    entries: BTreeMap<ProxyId, Known>,
    pending: BTreeMap<ProxyId, Pending>,
    publish: watch::Sender<Arc<View>>,
    last_stream: u64,
    /// Something changed that the view shows. Heartbeats change nothing, and there are many.
    news: bool,
}

/// Who waits for the effects of a batch.
#[derive(Default)]
struct Waiting {
    attached: Vec<(ProxyId, StreamId, AttachReply)>,
    done: Vec<oneshot::Sender<()>>,
}

impl Owner {
    fn new(store: Arc<dyn DataplaneStore>, clock: Arc<dyn Clock>, limits: Limits, publish: watch::Sender<Arc<View>>) -> Self {
        let journal = store.journal();
        let liveness = Liveness::new(limits, journal.iter().map(|stored| stored.id.clone()), clock.now());
        let entry = |StoredDataplane { id, authored }: StoredDataplane| {
            let by = Principal::of(&id, None);
            (id, Known { authored, by, about: None, bind_outbounds: None, orders: None, ours: true })
        };
        let entries = journal.into_iter().map(entry).collect();
        Self { store, clock, liveness, entries, pending: BTreeMap::new(), publish, last_stream: 0, news: true }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                taken = inbox.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                _ = ticks.tick() => {
                    let effects = self.liveness.tick(self.clock.now());
                    self.note(effects);
                    self.news = true;
                }
            }
            self.news |= batch.iter().any(Command::is_news);
            let waiting = self.take(&mut batch);
            let refused = self.flush().await;
            self.answer(waiting, &refused);
            if std::mem::take(&mut self.news) {
                self.show();
            }
        }
    }

    fn take(&mut self, batch: &mut Vec<Command>) -> Waiting {
        let mut waiting = Waiting::default();
        for command in batch.drain(..) {
            match command {
                Command::Attach { registration, by, orders, reply } => match self.attach(*registration, by, orders) {
                    Ok((id, stream)) => waiting.attached.push((id, stream, reply)),
                    Err(refusal) => drop(reply.send(Err(refusal))),
                },
                Command::Event { id, event, done } => {
                    if matches!(event, Event::Draining { .. }) {
                        info!(mesh = %id.mesh, dataplane = %id.name, "dataplane {id} drains");
                    }
                    let effects = self.liveness.handle(&id, event, self.clock.now());
                    self.note(effects);
                    waiting.done.extend(done);
                }
                Command::Order { id, order, reply } => {
                    let orders = self.entries.get(&id).and_then(|entry| entry.orders.as_ref());
                    let _ = reply.send(orders.is_some_and(|orders| orders.try_send(*order).is_ok()));
                }
            }
        }
        waiting
    }

    fn attach(
        &mut self,
        registration: Registration,
        by: Principal,
        orders: mpsc::Sender<proto::Order>,
    ) -> Result<(ProxyId, StreamId), AttachRefusal> {
        let now = self.clock.now();
        let Registration { id, authored, instance, bind_outbounds, word, about, access_log: _ } = registration;
        self.liveness.claim(&id, &instance, now).map_err(AttachRefusal::Busy)?;
        let ours = authored.is_some();
        let authored = match (authored, self.entries.get(&id)) {
            (Some(authored), _) => authored,
            (None, Some(entry)) => entry.authored.clone(),
            (None, None) => self.store.get(&id).ok_or_else(|| AttachRefusal::Missing(id.clone()))?.authored,
        };
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let ours = ours || self.entries.get(&id).is_some_and(|entry| entry.ours);
        let entry = Known { authored, by, about: Some(Arc::new(about)), bind_outbounds, orders: Some(orders), ours };
        self.entries.insert(id.clone(), entry);
        let effects = self.liveness.handle(&id, Event::RunnerAttached { stream, instance, word }, now);
        self.note(effects);
        // The document may be new though the presence is not.
        if let Some(presence) = self.liveness.presence(&id) {
            self.pending.insert(id.clone(), Pending::Put(presence.clone()));
        }
        Ok((id, stream))
    }

    fn note(&mut self, effects: Vec<Effect>) {
        self.news |= !effects.is_empty();
        for effect in effects {
            match effect {
                Effect::Publish(id, presence) => drop(self.pending.insert(id, Pending::Put(presence))),
                Effect::Delete(id) => drop(self.pending.insert(id, Pending::Delete)),
            }
        }
    }

    /// Puts what is pending into the store, all at once, so that the store can commit it together. What it did not take waits
    /// for the next round.
    async fn flush(&mut self) -> BTreeMap<ProxyId, StoreRefusal> {
        let pending = std::mem::take(&mut self.pending);
        let writes = pending.iter().map(|(id, write)| self.write(id, write));
        let results = futures::future::join_all(writes).await;
        let mut refused = BTreeMap::new();
        for ((id, write), result) in pending.into_iter().zip(results) {
            match (result, write) {
                (Ok(()), Pending::Delete) => drop(self.entries.remove(&id)),
                (Ok(()), Pending::Put(_)) => {}
                (Err(refusal), write) => {
                    warn!(mesh = %id.mesh, dataplane = %id.name, "dataplane {id} cannot be stored: {refusal}");
                    if let (StoreRefusal::Later(_), Entry::Vacant(free)) = (&refusal, self.pending.entry(id.clone())) {
                        free.insert(write);
                    }
                    refused.insert(id, refusal);
                }
            }
        }
        refused
    }

    async fn write(&self, id: &ProxyId, write: &Pending) -> Result<(), StoreRefusal> {
        let Some(entry) = self.entries.get(id) else { return Ok(()) };
        match write {
            Pending::Put(presence) => self.store.put(id, &entry.authored.labels, entry.authored.with(presence), &entry.by).await,
            Pending::Delete if entry.ours => self.store.delete(id, &entry.by).await,
            Pending::Delete => Ok(()),
        }
    }

    fn answer(&mut self, waiting: Waiting, refused: &BTreeMap<ProxyId, StoreRefusal>) {
        for (id, stream, reply) in waiting.attached {
            let answer = match refused.get(&id) {
                None => Ok(stream),
                Some(refusal) => Err(AttachRefusal::Store(refusal.clone())),
            };
            let taken = answer.is_ok();
            // Nobody will hold the stream: neither a refused runner nor one that is gone.
            if reply.send(answer).is_err() || !taken {
                self.pending.remove(&id);
                let effects = self.liveness.handle(&id, Event::RunnerClosed { stream }, self.clock.now());
                self.note(effects);
            }
        }
        for done in waiting.done {
            let _ = done.send(());
        }
    }

    fn show(&self) {
        let proxy = |(id, status): (ProxyId, ProxyStatus)| {
            let entry = self.entries.get(&id);
            let about = entry.and_then(|entry| entry.about.clone());
            let bind_outbounds = entry.and_then(|entry| entry.bind_outbounds);
            (id, ProxyView { status, about, bind_outbounds })
        };
        let held = self.liveness.held();
        let view = View { proxies: self.liveness.status().into_iter().map(proxy).collect(), held };
        self.publish.send_if_modified(|shown| {
            if **shown == view {
                return false;
            }
            if !view.held.is_empty() && view.held != shown.held {
                let held = view.held.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                warn!("too many dataplanes left at once; their endpoints stay for a while: {held}");
            }
            *shown = Arc::new(view);
            true
        });
    }
}
