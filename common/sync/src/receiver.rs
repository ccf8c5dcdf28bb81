//! The half of a session that takes what the peer tells.

mod absence;
mod compare;
mod part;
mod rejected;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use atoll_model::{Kind, ResourceKey, Revision};
use compare::Comparer;
use part::Part;
use rejected::Rejected;
use restore::Restore;

use crate::{
    Cursor, Review, View,
    flow::{BATCH_MAX, Inflow, Moment},
    proto,
    sender::Has,
    visibility::Route,
    wire::{Item, read_key, read_resource},
};

/// How long a cursor that moved without a change may stay out of the store. Losing it costs nothing but time.
const LAZY: Duration = Duration::from_secs(30);

/// Takes one peer's changes to one plane.
#[derive(Debug)]
pub struct Receiver {
    route: Route,
    inbox: VecDeque<proto::Batch>,
    inflow: Inflow,
    /// Up to where everything has been received, applied, made durable, and stored as the peer's cursor.
    received: Option<Cursor>,
    applied: Option<Cursor>,
    durable: Option<Cursor>,
    stored: Option<Cursor>,
    stored_at: Moment,
    /// The newest place in the peer's history that anything here may be of.
    reached: Option<Cursor>,
    stored_reached: Option<Cursor>,
    /// What is here is newer than the cursor, in part: no place at which digests could be compared.
    beyond: bool,
    flight: Option<Flight>,
    settling: VecDeque<Settling>,
    /// This plane's revision that contains all that was applied.
    local: Revision,
    moved: bool,
    part: Option<Part>,
    rejected: Rejected,
    held: BTreeMap<Kind, BTreeSet<ResourceKey>>,
    released: Vec<Kind>,
    restore: Option<Restore>,
    comparer: Comparer,
    resync: Vec<proto::Resync>,
    ack_due: bool,
    objections_due: bool,
}

/// What the store is doing.
#[derive(Debug)]
struct Flight {
    cursor: Option<Cursor>,
    cost: u64,
}

/// What batches of the inbox come to.
#[derive(Debug, Default)]
struct Taken {
    items: Vec<Item>,
    cursor: Option<Cursor>,
    cost: u64,
}

/// What is applied and not yet durable.
#[derive(Debug)]
struct Settling {
    local: Revision,
    cursor: Option<Cursor>,
}

/// Changes for the store, in order and each key once. One is under way at a time; repeat it until it works.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// What changes.
    pub items: Vec<Item>,
    /// The peer's cursor, to be stored in the same transaction.
    pub cursor: Option<Cursor>,
    /// To be stored for the next session's [`Has`], durably and before or with the items.
    pub reached: Option<Cursor>,
}

/// The peer broke a rule of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl Receiver {
    /// Goes on from what the store has of the peer's history; its revision `local` contains that.
    pub fn new(route: Route, Has { cursor, reached }: Has, local: Revision) -> Self {
        Self {
            route,
            inbox: VecDeque::new(),
            inflow: Inflow::new(),
            received: cursor,
            applied: cursor,
            durable: None,
            stored: cursor,
            stored_at: Moment::ZERO,
            reached,
            stored_reached: reached,
            beyond: false,
            flight: None,
            // What an earlier session applied may not be durable yet.
            settling: VecDeque::from([Settling { local, cursor }]),
            local,
            moved: false,
            part: None,
            rejected: Rejected::default(),
            held: BTreeMap::new(),
            released: Vec::new(),
            restore: None,
            comparer: Comparer::default(),
            resync: Vec::new(),
            ack_due: false,
            objections_due: true,
        }
    }

    /// What this plane has of the peer's history.
    pub fn has(&self) -> Has {
        Has { cursor: self.applied, reached: self.reached }
    }

    /// Whether it got further in this session.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// Bytes of batches that the peer may send before it hears of any that are done.
    pub fn credit(&self) -> u64 {
        self.inflow.credit()
    }

    /// Takes a batch; its turn comes in [`Receiver::poll_apply`].
    ///
    /// # Errors
    /// When the batch would lead backwards.
    pub fn on_batch(&mut self, batch: proto::Batch, now: Moment) -> Result<(), Broken> {
        for place in [batch.completes.as_ref(), batch.reaches.as_ref()].into_iter().flatten() {
            let place = Cursor::try_from(place).map_err(|_| Broken("a cursor without an epoch".to_owned()))?;
            let back = |held: Cursor| held.epoch == place.epoch && held.revision > place.revision;
            if self.received.is_some_and(back) {
                return Err(Broken(format!("revision {} after {:?}", place.revision, self.received)));
            }
        }
        if let Some(completes) = &batch.completes {
            self.received = Cursor::try_from(completes).ok();
        }
        self.inflow.on_received(batch.cost, now);
        self.inbox.push_back(batch);
        Ok(())
    }

    /// Takes the peer's digests; they are compared when this plane is exactly there.
    pub fn on_heartbeat(&mut self, heartbeat: proto::Heartbeat) {
        self.comparer.put(heartbeat);
    }

    /// The next changes for the store, unless it is busy.
    pub fn poll_apply(&mut self, view: &View, review: &dyn Review, now: Moment) -> Option<Apply> {
        self.settle(view);
        if self.flight.is_some() {
            return None;
        }
        if let Some(items) = self.retry_rejected(view, review, now).or_else(|| self.do_released()) {
            return Some(self.launch(Taken { items, ..Taken::default() }));
        }
        while let Some(batch) = self.inbox.front() {
            let was_part = batch.snapshot.is_some();
            let taken = match batch.snapshot.clone() {
                // What is missing can be seen only in a table that has all that came.
                Some(snapshot) if snapshot.total.is_some() && view.head() < self.local => return None,
                Some(snapshot) => self.take_part(snapshot, view, review, now)?,
                None => self.take_changes(review),
            };
            // The first cursor, and the one after a snapshot, are worth a transaction of their own.
            let landmark = taken.cursor.is_some() && (was_part || self.stored.is_none());
            if !taken.items.is_empty() || landmark {
                return Some(self.launch(taken));
            }
            self.skip(&taken, now);
        }
        self.compare(view, now);
        let lazy = self.stored != self.applied && self.settling.is_empty() && now >= self.stored_at + LAZY;
        lazy.then(|| self.launch(Taken { cursor: self.applied, ..Taken::default() }))
    }

    /// The store has applied the changes; its revision `local` contains them. `refused` is what it could not take, and why.
    pub fn on_applied(&mut self, local: Revision, refused: Vec<(Item, String)>, now: Moment) {
        let Some(flight) = self.flight.take() else { return };
        for (item, reason) in refused {
            self.rejected.refuse(item, self.route, reason);
            self.objections_due = true;
        }
        if flight.cost > 0 {
            self.inflow.on_consumed(flight.cost, now);
        }
        self.local = self.local.max(local);
        if flight.cursor.is_some() {
            self.applied = flight.cursor;
            self.moved = true;
            self.stored_at = now;
        }
        self.settling.push_back(Settling { local, cursor: flight.cursor });
        self.ack_due = true;
    }

    /// Moves the durable cursor up to what the journal has.
    fn settle(&mut self, view: &View) {
        while self.settling.front().is_some_and(|first| first.local <= view.head()) {
            let Some(settled) = self.settling.pop_front() else { return };
            if settled.cursor.is_some() {
                (self.durable, self.stored) = (settled.cursor, settled.cursor);
                self.ack_due = true;
            }
        }
        if self.settling.is_empty() && self.durable != self.applied {
            self.durable = self.applied;
            self.ack_due = true;
        }
    }

    fn launch(&mut self, Taken { items, cursor, cost }: Taken) -> Apply {
        self.flight = Some(Flight { cursor, cost });
        let reached = self.reached.filter(|reached| self.stored_reached != Some(*reached));
        self.stored_reached = self.reached;
        Apply { items, cursor, reached }
    }

    /// Passes over a batch that changes nothing; its cursor is stored some time later.
    fn skip(&mut self, taken: &Taken, now: Moment) {
        self.inflow.on_consumed(taken.cost, now);
        self.applied = taken.cursor.or(self.applied);
        if self.settling.is_empty() {
            self.durable = self.applied;
        }
        self.ack_due = true;
    }

    /// Takes plain batches from the inbox, as many as fit into one transaction. Of each key only the last counts.
    fn take_changes(&mut self, review: &dyn Review) -> Taken {
        let (mut items, mut cursor, mut cost) = (Vec::new(), None, 0);
        while self.inbox.front().is_some_and(|batch| batch.snapshot.is_none() && (cost == 0 || cost + batch.cost <= BATCH_MAX)) {
            let Some(batch) = self.inbox.pop_front() else { break };
            items.extend(self.read(&batch, self.route, review));
            cursor = batch.completes.as_ref().and_then(|completes| Cursor::try_from(completes).ok()).or(cursor);
            self.reach(&batch);
            cost += batch.cost;
        }
        Taken { items: last_of_each(items), cursor, cost }
    }

    /// Notes the place that a batch reaches.
    fn reach(&mut self, batch: &proto::Batch) {
        let reaches = batch.reaches.as_ref().and_then(|cursor| Cursor::try_from(cursor).ok());
        self.beyond = batch.completes.is_none() && (self.beyond || (reaches.is_some() && reaches != self.received));
        self.reached = reaches.or(self.reached);
    }

    /// The changes of a batch that may be applied; the others are rejected by name.
    fn read(&mut self, batch: &proto::Batch, route: Route, review: &dyn Review) -> Vec<Item> {
        let mut items = Vec::with_capacity(batch.resources.len() + batch.removals.len());
        for resource in &batch.resources {
            match read_resource(resource, route, review) {
                Ok(item) => {
                    self.objections_due |= self.rejected.forget(resource.key.as_ref());
                    self.unhold(item.key());
                    items.push(item);
                }
                Err(reason) => {
                    self.rejected.put(resource.clone(), route, reason);
                    self.objections_due = true;
                }
            }
        }
        for key in batch.removals.iter().filter_map(|removal| removal.key.as_ref()) {
            self.objections_due |= self.rejected.forget(Some(key));
            match read_key(key, route) {
                Ok(key) => {
                    self.unhold(&key);
                    items.push(Item::Delete { key });
                }
                // What this plane cannot have needs no removal; what it may not take is not removed.
                Err(_) => self.ack_due = true,
            }
        }
        items
    }
}

/// Of several changes of one key the last, in the order of the last ones.
fn last_of_each(items: Vec<Item>) -> Vec<Item> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<_> = items.into_iter().rev().filter(|item| seen.insert(item.key().clone())).collect();
    kept.reverse();
    kept
}

/// Progress and objections.
impl Receiver {
    /// The acknowledgement, if there is something new to say.
    pub fn poll_ack(&mut self) -> Option<proto::Ack> {
        if !self.ack_due && !self.objections_due && !self.comparer.is_due() {
            return None;
        }
        self.ack_due = false;
        let revision = |cursor: Option<Cursor>| cursor.map_or(0, |cursor| cursor.revision.0);
        let objections = std::mem::take(&mut self.objections_due).then(|| self.objections());
        Some(proto::Ack {
            applied: revision(self.applied),
            durable: revision(self.durable),
            consumed: self.inflow.consumed(),
            credit: self.inflow.credit(),
            objections,
            comparison: self.comparer.take_due(),
        })
    }

    /// A request for snapshots, if one is due.
    pub fn poll_resync(&mut self) -> Option<proto::Resync> {
        self.resync.pop()
    }

    fn objections(&self) -> proto::Objections {
        let held = self.held.iter().map(|(kind, keys)| (kind.name().to_owned(), keys.len() as u64));
        proto::Objections {
            rejections: self.rejected.listed(),
            total: self.rejected.len() as u64,
            held: held.map(|(kind, count)| proto::Held { kind, count }).collect(),
        }
    }

    /// What this plane received, applied and made durable of the peer's history.
    pub fn places(&self) -> [Option<Cursor>; 3] {
        [self.received, self.applied, self.durable]
    }

    /// Key and reason of what this plane rejects.
    pub fn rejected(&self) -> Vec<(String, String)> {
        self.rejected.described()
    }

    /// Implied deletions that wait for an operator, per kind.
    pub fn held(&self) -> BTreeMap<String, u64> {
        self.held.iter().map(|(kind, keys)| (kind.name().to_owned(), keys.len() as u64)).collect()
    }

    /// When digests were last compared, and which kinds differed.
    pub fn compared(&self) -> Option<(Revision, Vec<String>)> {
        self.comparer.last()
    }

    /// How many times a kind was asked for again because of a difference.
    pub fn healed(&self) -> u64 {
        self.comparer.healed()
    }

    /// When [`Receiver::poll_apply`] has something that it does not have now, if nothing changes.
    pub fn next_wake(&self) -> Option<Moment> {
        let lazy =
            (self.stored != self.applied && self.settling.is_empty() && self.flight.is_none()).then(|| self.stored_at + LAZY);
        [lazy, self.rejected.next_try()].into_iter().flatten().min()
    }
}
