//! Planes without a store: a table in memory, what of it is durable, and streams between them.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use atoll_model::{
    Change, ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, Timestamp, Tombstone, ZoneUid, labels::KDS_SYNC,
};
use atoll_sync::{
    Apply, Cursor, Epoch, Event, Fault, Feed, GlobalSetup, Has, Index, Item, Message, Moment, Phase, Review, Route, Session,
    Verdict, View, ZoneSetup, visible_to,
};
use bytes::Bytes;
use uuid::Uuid;

pub const CLUSTER: Uuid = Uuid::from_u128(0xC);

pub fn uid(zone: usize) -> ZoneUid {
    ZoneUid(Uuid::from_u128(0xA0 + zone as u128))
}

/// A table as a store keeps it, and the cursors beside it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub rows: BTreeMap<ResourceKey, Arc<Resource>>,
    pub tombstones: BTreeMap<ResourceKey, Arc<Tombstone>>,
    order: BTreeMap<Revision, Change>,
    pub revision: Revision,
    pub horizon: Revision,
    pub cursors: BTreeMap<String, Cursor>,
    pub epochs: Vec<Epoch>,
    pub reached: BTreeMap<String, Cursor>,
    /// Epochs of each peer that were reported.
    pub known: BTreeMap<String, Vec<Uuid>>,
}

impl Feed for Table {
    fn head(&self) -> Revision {
        self.revision
    }

    fn changes(&self, after: Revision, f: &mut dyn FnMut(&Change) -> bool) {
        let _stopped = self.order.range(after.next()..).all(|(_, change)| f(change));
    }

    fn horizon(&self) -> Revision {
        self.horizon
    }
}

impl Table {
    fn forget(&mut self, key: &ResourceKey) {
        let old = self.rows.remove(key).map(|row| row.revision);
        let older = self.tombstones.remove(key).map(|stone| stone.revision);
        for revision in [old, older].into_iter().flatten() {
            self.order.remove(&revision);
        }
    }

    fn put(&mut self, key: &ResourceKey, labels: &Labels, spec: &Bytes) {
        let hash = ContentHash::of(labels, spec);
        if self.rows.get(key).is_some_and(|row| row.hash == hash) {
            return;
        }
        self.forget(key);
        self.revision = self.revision.next();
        let resource = Arc::new(Resource {
            key: key.clone(),
            revision: self.revision,
            version: 1,
            generation: 1,
            labels: labels.clone(),
            spec: spec.clone(),
            computed: None,
            hash,
            created: Timestamp::default(),
            modified: Timestamp::default(),
        });
        self.rows.insert(key.clone(), resource.clone());
        self.order.insert(self.revision, Change::Put(resource));
    }

    fn delete(&mut self, key: &ResourceKey) {
        if !self.rows.contains_key(key) {
            return;
        }
        self.forget(key);
        self.revision = self.revision.next();
        let tombstone = Arc::new(Tombstone { key: key.clone(), revision: self.revision, deleted: Timestamp::default() });
        self.tombstones.insert(key.clone(), tombstone.clone());
        self.order.insert(self.revision, Change::Delete(tombstone));
    }

    /// Forgets all tombstones.
    pub fn prune(&mut self) {
        self.horizon = self.revision;
        self.tombstones.clear();
        self.order.retain(|_, change| matches!(change, Change::Put(_)));
    }
}

/// Rejects what has `"bad"` in its spec while told so.
#[derive(Clone, Debug, Default)]
pub struct Strict {
    pub refuses_bad: bool,
}

impl Review for Strict {
    fn review(&self, _: &ResourceKey, _: &Labels, spec: &serde_json::Value) -> Verdict {
        if self.refuses_bad && spec.get("bad").is_some() { Err("it is bad".to_owned()) } else { Ok(()) }
    }
}

/// A plane: what it has in memory, what of it is durable, and what its sessions see.
pub struct Plane {
    pub memory: Table,
    pub durable: Table,
    pub owner: Owner,
    pub review: Strict,
    index: Index,
    pub view: Arc<View>,
    next_epoch: u128,
}

impl Plane {
    pub fn new(owner: Owner) -> Self {
        let mut index = Index::new();
        let view = index.advance(Arc::new(Table::default()), Arc::from([]));
        let next_epoch = match owner {
            Owner::Global => 0xE000,
            Owner::Zone(uid) => uid.0.as_u128() << 16,
        };
        let mut plane = Self {
            memory: Table::default(),
            durable: Table::default(),
            owner,
            review: Strict::default(),
            index,
            view,
            next_epoch,
        };
        plane.start();
        plane
    }

    /// Begins an epoch with what is durable.
    fn start(&mut self) {
        self.memory = self.durable.clone();
        self.next_epoch += 1;
        self.memory.epochs.push(Epoch { id: Uuid::from_u128(self.next_epoch), first: self.memory.revision.next() });
        self.index = Index::new();
        self.flush();
    }

    /// SIGKILL and start: what was not durable is lost.
    pub fn crash(&mut self) {
        self.start();
    }

    /// Starts from an older copy of the data.
    pub fn restore(&mut self, backup: Table) {
        self.durable = backup;
        self.start();
    }

    /// Makes everything durable and visible to sessions.
    pub fn flush(&mut self) {
        let same = self.durable.revision == self.memory.revision
            && self.durable.epochs == self.memory.epochs
            && self.durable.horizon == self.memory.horizon;
        if same {
            (self.durable.cursors, self.durable.known) = (self.memory.cursors.clone(), self.memory.known.clone());
        } else {
            self.durable = self.memory.clone();
            self.look();
        }
    }

    /// Remembers what a session of global reports of a zone.
    pub fn learn(&mut self, zone: usize, event: &Event) {
        if let Event::Epochs(epochs) = event {
            let known = self.memory.known.entry(peer_of(zone)).or_default();
            known.extend(epochs);
            self.flush();
        }
    }

    fn look(&mut self) {
        let epochs = self.durable.epochs.clone().into();
        self.view = self.index.advance(Arc::new(self.durable.clone()), epochs);
    }

    /// Forgets all tombstones.
    pub fn prune(&mut self) {
        self.flush();
        self.memory.prune();
        self.flush();
    }

    /// Writes something that this plane owns; durable at once.
    pub fn write(&mut self, kind: Kind, name: &str, spec: &str) -> ResourceKey {
        self.write_labelled(kind, name, &Labels::new(), spec)
    }

    pub fn write_labelled(&mut self, kind: Kind, name: &str, labels: &Labels, spec: &str) -> ResourceKey {
        let key = self.key(kind, name);
        self.memory.put(&key, labels, &Bytes::copy_from_slice(spec.as_bytes()));
        self.flush();
        key
    }

    /// Writes many at once.
    pub fn fill(&mut self, kind: Kind, count: usize, name: impl Fn(usize) -> String) {
        for n in 0..count {
            let key = self.key(kind, &name(n));
            self.memory.put(&key, &Labels::new(), &Bytes::from(format!(r#"{{"n":{n}}}"#)));
        }
        self.flush();
    }

    pub fn delete(&mut self, key: &ResourceKey) {
        self.memory.delete(key);
        self.flush();
    }

    pub fn key(&self, kind: Kind, name: &str) -> ResourceKey {
        let mesh = if kind.descriptor().scope == atoll_model::Scope::Global { "" } else { "default" };
        ResourceKey::new(kind, mesh, name, self.owner)
    }

    /// Says on global that a zone is there, and whether others see it.
    pub fn zone_row(&mut self, zone: usize, enabled: bool) {
        self.write(Kind::Zone, &format!("z{zone}"), &format!(r#"{{"enabled":{enabled},"uid":"{}"}}"#, uid(zone)));
    }

    /// Applies what a session gave; into memory only.
    pub fn apply(&mut self, peer: &str, apply: &Apply) -> Revision {
        if let Some(reached) = apply.reached {
            self.memory.reached.insert(peer.to_owned(), reached);
            self.durable.reached.insert(peer.to_owned(), reached);
        }
        for item in &apply.items {
            match item {
                Item::Put { key, labels, spec } => self.memory.put(key, labels, spec),
                Item::Delete { key } => self.memory.delete(key),
            }
        }
        if let Some(cursor) = apply.cursor {
            self.memory.cursors.insert(peer.to_owned(), cursor);
        }
        self.memory.revision
    }

    /// What a session must know of the peer's history.
    pub fn has_of(&self, peer: &str) -> Has {
        Has { cursor: self.memory.cursors.get(peer).copied(), reached: self.memory.reached.get(peer).copied() }
    }

    /// What the receiver at the end of `route` should have, by the one rule and the long way.
    pub fn shown(&self, route: Route) -> BTreeMap<ResourceKey, ContentHash> {
        let rows = self.memory.rows.values();
        rows.filter(|row| visible_to(&row.key, &row.labels, route, self.view.enabled()))
            .map(|row| (row.key.clone(), row.hash))
            .collect()
    }

    /// What this plane has of others: on global of `zone`, on a zone of everybody else.
    pub fn foreign(&self, zone: usize) -> BTreeMap<ResourceKey, ContentHash> {
        let is_foreign = |owner: Owner| match self.owner {
            Owner::Global => owner == Owner::Zone(uid(zone)),
            own => owner != own,
        };
        self.memory.rows.values().filter(|row| is_foreign(row.key.owner)).map(|row| (row.key.clone(), row.hash)).collect()
    }

    pub fn has(&self, key: &ResourceKey) -> bool {
        self.memory.rows.contains_key(key)
    }
}

pub fn local_only() -> Labels {
    Labels::from([(KDS_SYNC.to_owned(), "disabled".to_owned())])
}

pub fn peer_of(zone: usize) -> String {
    uid(zone).to_string()
}

pub fn zone_session(plane: &Plane, zone: usize, follow: Option<Uuid>) -> Session {
    let setup = ZoneSetup {
        cluster: CLUSTER,
        zone: uid(zone),
        name: format!("z{zone}").into(),
        has: plane.has_of("global"),
        follow,
        local: plane.memory.revision,
        instance: "zone".to_owned(),
        software: "test".to_owned(),
    };
    Session::zone(setup, &plane.view)
}

pub fn global_session(plane: &Plane, zone: usize) -> Session {
    Session::global(GlobalSetup {
        cluster: CLUSTER,
        zone: uid(zone),
        name: format!("z{zone}").into(),
        has: plane.has_of(&peer_of(zone)),
        known: plane.durable.known.get(&peer_of(zone)).cloned().unwrap_or_default(),
        local: plane.memory.revision,
        instance: "global".to_owned(),
        software: "test".to_owned(),
    })
}

/// A global plane, one zone, and a stream between them that is driven by hand.
pub struct Net {
    pub global: Plane,
    pub zone: Plane,
    pub stream: Option<(Session, Session)>,
    pub now: Moment,
    /// What went down and up, oldest first.
    pub down: Vec<Message>,
    pub up: Vec<Message>,
    pub events: Vec<Event>,
    pub fault: Option<Fault>,
    pub follow: Option<Uuid>,
}

impl Net {
    pub fn new() -> Self {
        let mut global = Plane::new(Owner::Global);
        global.zone_row(0, true);
        let (down, up, events) = (Vec::new(), Vec::new(), Vec::new());
        let zone = Plane::new(Owner::Zone(uid(0)));
        Self { global, zone, stream: None, now: Moment::ZERO, down, up, events, fault: None, follow: None }
    }

    /// Opens a stream and lets everything flow that is due.
    pub fn connect(&mut self) -> &mut Self {
        self.now = Moment::ZERO;
        self.fault = None;
        self.stream = Some((global_session(&self.global, 0), zone_session(&self.zone, 0, self.follow)));
        self.run()
    }

    pub fn cut(&mut self) -> &mut Self {
        self.stream = None;
        self
    }

    pub fn wait(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.run();
        }
        self
    }

    /// Steps until nothing is due.
    pub fn run(&mut self) -> &mut Self {
        while self.step() {}
        self
    }

    /// Everything that is due once; gives whether there was something.
    pub fn step(&mut self) -> bool {
        let Some((global, zone)) = &mut self.stream else { return false };
        let (mut down, mut up) = (VecDeque::new(), VecDeque::new());
        let mut busy = false;
        while let Some(apply) = global.poll_apply(&self.global.view, &self.global.review, self.now) {
            let local = self.global.apply(&peer_of(0), &apply);
            self.global.flush();
            global.on_applied(local, Vec::new(), self.now);
            busy = true;
        }
        while let Some(apply) = zone.poll_apply(&self.zone.view, &self.zone.review, self.now) {
            let local = self.zone.apply("global", &apply);
            self.zone.flush();
            zone.on_applied(local, Vec::new(), self.now);
            busy = true;
        }
        while let Some(message) = global.poll_send(&self.global.view, self.now) {
            down.push_back(message);
        }
        while let Some(message) = zone.poll_send(&self.zone.view, self.now) {
            up.push_back(message);
        }
        busy |= !down.is_empty() || !up.is_empty();
        self.down.extend(down.iter().cloned());
        self.up.extend(up.iter().cloned());
        for message in down {
            if let Err(fault) = zone.on_message(Message::from(message.into_to_zone()), &self.zone.view, self.now) {
                self.fault.get_or_insert(fault);
            }
        }
        for message in up {
            if let Err(fault) = global.on_message(Message::from(message.into_to_global()), &self.global.view, self.now) {
                self.fault.get_or_insert(fault);
            }
        }
        for session in [global, zone] {
            let events: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
            events.iter().for_each(|event| self.global.learn(0, event));
            self.events.extend(events);
        }
        if self.fault.is_some() {
            self.stream = None;
        }
        busy
    }

    pub fn sessions(&self) -> (&Session, &Session) {
        let (global, zone) = self.stream.as_ref().expect("a stream is open");
        (global, zone)
    }

    pub fn phase(&self) -> Phase {
        self.sessions().1.phase()
    }

    /// Both directions: the receiver has exactly what it should.
    pub fn assert_equal(&self) -> &Self {
        assert_eq!(self.zone.foreign(0), self.global.shown(Route::Down(uid(0))), "down");
        assert_eq!(self.global.foreign(0), self.zone.shown(Route::Up(uid(0))), "up");
        self
    }

    /// Resources that went down since the log was cleared.
    pub fn sent_down(&self) -> Vec<String> {
        sent(&self.down)
    }

    pub fn sent_up(&self) -> Vec<String> {
        sent(&self.up)
    }

    pub fn clear(&mut self) -> &mut Self {
        self.down.clear();
        self.up.clear();
        self.events.clear();
        self
    }
}

/// `+name` for a resource, `-name` for a removal.
pub fn sent(messages: &[Message]) -> Vec<String> {
    let batches = messages.iter().filter_map(|message| if let Message::Batch(batch) = message { Some(batch) } else { None });
    let name = |key: &Option<atoll_sync::proto::Key>| key.clone().unwrap_or_default().name;
    let mut all = Vec::new();
    for batch in batches {
        all.extend(batch.resources.iter().map(|resource| format!("+{}", name(&resource.key))));
        all.extend(batch.removals.iter().map(|removal| format!("-{}", name(&removal.key))));
    }
    all
}
