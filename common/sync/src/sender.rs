//! The half of a session that tells the peer what changed. A peer is a place in the order of revisions, never a queue.

mod parcel;
mod snapshot;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use atoll_model::{Change, Owner, Revision};
use parcel::Parcel;
use snapshot::Run;
use uuid::Uuid;

use crate::{
    Cursor, Standing, View,
    flow::{Moment, Outflow},
    index::Flip,
    proto,
    visibility::{Route, may_travel, visible_to},
};

/// How long the peer may not hear that nothing of what happened concerns it.
const QUIET: Duration = Duration::from_millis(250);
/// Requests for snapshots that wait, at most; kinds are few.
const WANTED_MAX: usize = 256;

/// Sends one plane's changes to one peer.
#[derive(Debug)]
pub struct Sender {
    route: Route,
    mode: Mode,
    /// What the peer had at the beginning.
    peer: Has,
    /// Everything up to here has been read.
    cursor: Revision,
    /// Everything up to here has been told.
    completed: Option<Cursor>,
    /// Up to here the peer has nothing, so it needs no removals.
    fresh_until: Revision,
    walks: VecDeque<Walk>,
    run: Option<Run>,
    wanted: VecDeque<Wanted>,
    flow: Outflow,
    last_batch: Moment,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The peer has not said yet what it holds, or is not ready.
    Waiting,
    /// The peer holds another history.
    Withheld,
    /// Changes flow.
    Stream,
}

/// A look at all that some zones own, after their visibility changed.
#[derive(Debug)]
struct Walk {
    whose: Flip,
    position: Revision,
}

/// What a peer has of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    /// It has everything up to here.
    pub cursor: Option<Cursor>,
    /// It was told things as they were here: newer ones than its cursor, or not yet those that have moved beyond its cursor.
    pub reached: Option<Cursor>,
}

impl Has {
    /// Whether it has all that there was at its cursor.
    pub fn is_whole(&self) -> bool {
        self.reached.is_none_or(|reached| self.cursor.is_some_and(|cursor| cursor.revision >= reached.revision))
    }
}

/// A complete snapshot that the peer asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: String,
    pub(crate) own: bool,
}

/// What the peer said of its progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Up to where it was told everything.
    pub sent: Revision,
    /// Up to where it applied.
    pub applied: Revision,
    /// Up to where its journal has it.
    pub durable: Revision,
    /// Key and reason of what it rejects.
    pub rejected: Vec<(String, String)>,
    /// How much it rejects, listed or not.
    pub rejected_total: u64,
    /// Implied deletions that it holds, per kind.
    pub held: BTreeMap<String, u64>,
    /// When it last compared digests, and what differed.
    pub compared: Option<(Revision, Vec<String>)>,
    /// How many snapshots of a kind it asked for because of a difference.
    pub resyncs: u64,
}

impl Sender {
    /// Sends nothing until it [begins](Sender::begin).
    pub fn new(route: Route) -> Self {
        Self {
            route,
            mode: Mode::Waiting,
            peer: Has::default(),
            cursor: Revision(0),
            completed: None,
            fresh_until: Revision(0),
            walks: VecDeque::new(),
            run: None,
            wanted: VecDeque::new(),
            flow: Outflow::new(0),
            last_batch: Moment::ZERO,
            progress: Progress::default(),
        }
    }

    /// Decides where to begin from what the peer has. `follow` is an epoch that the peer's operator accepted.
    /// `None`: this reader of the store is behind what the peer has seen; the peer should come again.
    pub fn begin(&mut self, peer: Has, follow: Option<Uuid>, credit: u64, view: &Arc<View>) -> Option<proto::Start> {
        (self.flow, self.peer) = (Outflow::new(credit), peer);
        let standing = |cursor: Option<Cursor>| cursor.map_or(Standing::Held, |cursor| view.standing(&cursor));
        let Some(held) = peer.cursor.or(peer.reached) else {
            self.stream_from(Revision(0));
            self.fresh_until = view.head();
            return Some(proto::Start::Fresh);
        };
        let incomplete = peer.cursor.is_none() || held.revision < view.feed().horizon();
        match standing(peer.cursor).max(standing(peer.reached)) {
            Standing::Held if incomplete => {
                self.send_everything(view);
                Some(proto::Start::Snapshot)
            }
            Standing::Held => {
                self.stream_from(held.revision);
                self.completed = Some(held);
                Some(proto::Start::Resume)
            }
            Standing::Ahead => None,
            Standing::Other if follow.is_some_and(|epoch| view.epochs().iter().any(|known| known.id == epoch)) => {
                self.send_everything(view);
                Some(proto::Start::Snapshot)
            }
            Standing::Other => {
                self.mode = Mode::Withheld;
                Some(proto::Start::OtherHistory)
            }
        }
    }

    /// Whether a peer whose history was another one turns out to be of this one: this reader of the store was only behind.
    pub fn misjudged(&self, view: &View) -> bool {
        let standing = |cursor: Option<Cursor>| cursor.map_or(Standing::Held, |cursor| view.standing(&cursor));
        self.mode == Mode::Withheld && standing(self.peer.cursor).max(standing(self.peer.reached)) != Standing::Other
    }

    /// Sends each kind as a complete snapshot, then goes on from there. For a peer whose place in this history is not known.
    pub fn send_everything(&mut self, view: &Arc<View>) {
        self.run = Some(Run::everything(view.clone(), self.route));
        self.stream_from(view.head());
    }

    fn stream_from(&mut self, cursor: Revision) {
        self.mode = Mode::Stream;
        self.cursor = cursor;
    }

    /// The peer asks for complete snapshots.
    pub fn on_resync(&mut self, resync: proto::Resync) {
        for kind in resync.kinds {
            let wanted = Wanted { kind, own: resync.own };
            if self.wanted.len() < WANTED_MAX && !self.wanted.contains(&wanted) {
                self.progress.resyncs += u64::from(!wanted.own);
                self.wanted.push_back(wanted);
            }
        }
    }

    /// The peer reports progress.
    pub fn on_ack(&mut self, ack: proto::Ack, now: Moment) {
        self.flow.on_ack(ack.consumed, ack.credit, now);
        self.progress.applied = self.progress.applied.max(Revision(ack.applied));
        self.progress.durable = self.progress.durable.max(Revision(ack.durable));
        if let Some(objections) = ack.objections {
            self.progress.rejected_total = objections.total;
            let listed = objections.rejections.into_iter();
            self.progress.rejected =
                listed.map(|one| (one.key.as_ref().map(crate::wire::describe).unwrap_or_default(), one.reason)).collect();
            self.progress.held = objections.held.into_iter().map(|held| (held.kind, held.count)).collect();
        }
        if let Some(comparison) = ack.comparison {
            self.progress.compared = Some((Revision(comparison.revision), comparison.different));
        }
    }

    /// What the peer said of its progress.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// When [`Sender::pull`] has something that it does not have now, if nothing changes.
    pub fn next_wake(&self) -> Option<Moment> {
        (self.is_quiet() && self.flow.may_send()).then(|| self.last_batch + QUIET)
    }

    /// The next batch, if there is something to tell and the peer has room.
    pub fn pull(&mut self, view: &Arc<View>, now: Moment) -> Option<proto::Batch> {
        if !self.flow.may_send() {
            return None;
        }
        // A peer so slow that deletions it has not read are forgotten.
        let outrun = self.cursor.max(self.fresh_until) < view.feed().horizon();
        if self.mode == Mode::Stream && self.run.is_none() && outrun {
            self.walks.clear();
            self.send_everything(view);
        }
        self.begin_run(view);
        let mut parcel = Parcel::new(self.flow.batch());
        if let Some(run) = &mut self.run {
            run.fill(&mut parcel, self.route);
            if run.is_done() {
                let completes = run.completes;
                self.run = None;
                parcel.completes = completes.and_then(|revision| view.cursor(revision));
            }
        } else if self.mode == Mode::Stream {
            self.fill(&mut parcel, view, now);
        }
        self.ship(parcel, now)
    }

    /// The heartbeat: with digests when the peer has been told everything that there is.
    pub fn heartbeat(&mut self, view: &Arc<View>, now: Moment) -> (Option<proto::Batch>, proto::Heartbeat) {
        let quiet = if self.is_quiet() && self.flow.may_send() { self.tell_quiet(view, now) } else { None };
        let settled = self.mode == Mode::Stream && self.run.is_none() && self.walks.is_empty() && self.wanted.is_empty();
        let at = self.completed.filter(|at| settled && at.revision == self.cursor && self.cursor == view.head());
        let kinds = at.map(|_| view.totals(self.route)).unwrap_or_default();
        let kinds = kinds
            .into_iter()
            .map(|(kind, sum)| proto::KindTotal { kind: kind.name().to_owned(), total: Some(sum.into()) })
            .collect();
        (quiet, proto::Heartbeat { at: at.map(Into::into), kinds })
    }

    fn begin_run(&mut self, view: &Arc<View>) {
        let Some(wanted) = self.wanted.front() else { return };
        let up_to_date = self.mode == Mode::Stream && self.cursor == view.head() && self.walks.is_empty();
        if self.run.is_none() && (wanted.own || up_to_date) {
            let own = wanted.own;
            let (now, later) = self.wanted.drain(..).partition(|wanted| wanted.own == own);
            self.wanted = later;
            self.run = Some(Run::of(view.clone(), now));
        }
    }

    /// Fills a parcel with changes, in the order of revisions.
    fn fill(&mut self, parcel: &mut Parcel, view: &Arc<View>, now: Moment) {
        if self.walks.is_empty() {
            let before = self.cursor;
            self.cursor = self.read_changes(parcel, view);
            self.look_again(view, before);
        }
        while let Some(walk) = self.walks.front_mut() {
            if !walk.fill(parcel, view, self.route) {
                parcel.reaches = view.cursor(view.head());
                return;
            }
            self.walks.pop_front();
        }
        let told = self.completed.is_some_and(|completed| completed.revision >= self.cursor);
        if !told && (!parcel.is_empty() || now >= self.last_batch + QUIET) {
            parcel.completes = view.cursor(self.cursor);
            if self.cursor < view.head() {
                parcel.reaches = view.cursor(view.head());
            }
        }
    }

    /// Reads changes into the parcel and gives the revision up to which it has them all.
    fn read_changes(&self, parcel: &mut Parcel, view: &Arc<View>) -> Revision {
        let mut reached = self.cursor;
        let mut full = false;
        view.feed().changes(self.cursor, &mut |change| {
            full = !self.put_change(parcel, change, view);
            if !full {
                reached = change.revision();
            }
            !full
        });
        if full { reached } else { view.head().max(self.cursor) }
    }

    /// Gives false when the parcel is full.
    fn put_change(&self, parcel: &mut Parcel, change: &Change, view: &Arc<View>) -> bool {
        let (key, revision) = (change.key(), change.revision());
        if !may_travel(key.kind, key.owner, self.route) {
            return true;
        }
        match change {
            Change::Put(resource) if visible_to(key, &resource.labels, self.route, view.enabled()) => parcel.put(resource),
            // What the peer may have had is withdrawn.
            Change::Put(_) | Change::Delete(_) => revision <= self.fresh_until || parcel.remove(key, revision),
        }
    }

    /// A zone whose visibility changed between `before` and the cursor: its older resources are told or withdrawn now.
    fn look_again(&mut self, view: &Arc<View>, before: Revision) {
        let Route::Down(viewer) = self.route else { return };
        let flips = view.flips(before.max(self.fresh_until), self.cursor);
        let others = flips.into_iter().filter(|flip| *flip != Flip::Of(viewer));
        self.walks.extend(others.map(|whose| Walk { whose, position: Revision(0) }));
    }

    /// Whether there is nothing to tell but that nothing concerns the peer.
    fn is_quiet(&self) -> bool {
        self.mode == Mode::Stream
            && self.run.is_none()
            && self.walks.is_empty()
            && self.completed.is_none_or(|completed| completed.revision < self.cursor)
    }

    fn tell_quiet(&mut self, view: &Arc<View>, now: Moment) -> Option<proto::Batch> {
        let mut parcel = Parcel::new(0);
        parcel.completes = view.cursor(self.cursor);
        self.ship(parcel, now)
    }

    fn ship(&mut self, parcel: Parcel, now: Moment) -> Option<proto::Batch> {
        let batch = parcel.finish()?;
        if let Some(completes) = &batch.completes {
            self.completed = Cursor::try_from(completes).ok();
            self.progress.sent = self.progress.sent.max(Revision(completes.revision));
        }
        self.flow.on_sent(batch.cost, now);
        self.last_batch = now;
        Some(batch)
    }
}

impl Walk {
    /// Gives true when it is through, false when the parcel is full.
    fn fill(&mut self, parcel: &mut Parcel, view: &Arc<View>, route: Route) -> bool {
        let mut full = false;
        let mut position = self.position;
        view.feed().changes(position, &mut |change| {
            full = !self.put(parcel, change, view, route);
            if !full {
                position = change.revision();
            }
            !full
        });
        self.position = position;
        !full
    }

    fn put(&self, parcel: &mut Parcel, change: &Change, view: &Arc<View>, route: Route) -> bool {
        let Change::Put(resource) = change else { return true };
        let key = &resource.key;
        let concerned = match (self.whose, key.owner) {
            (Flip::Of(zone), Owner::Zone(owner)) => zone == owner,
            (Flip::Unknown, Owner::Zone(owner)) => !view.enabled().contains(&owner),
            (Flip::Of(_) | Flip::Unknown, Owner::Global) => false,
        };
        if !concerned || !may_travel(key.kind, key.owner, route) {
            return true;
        }
        if visible_to(key, &resource.labels, route, view.enabled()) {
            parcel.put(resource)
        } else {
            parcel.remove(key, resource.revision)
        }
    }
}
