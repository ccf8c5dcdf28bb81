//! What all sessions of a plane need of its table, kept up to date change by change by one owner.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use atoll_model::{Change, Kind, Name, Owner, Resource, ResourceKey, Revision, ZoneUid, kinds::zone::Zone};

use crate::{
    Cursor, Epoch, Feed, Standing,
    digest::{Sum, contribution_of},
    visibility::{Route, kind_travels, may_leave, may_travel},
};

/// A plane's durable table at one revision, with what sessions read beside it. Immutable and shared.
#[derive(Clone)]
pub struct View {
    feed: Arc<dyn Feed>,
    epochs: Arc<[Epoch]>,
    zones: Arc<Zones>,
    sums: BTreeMap<Owner, Arc<OwnerSums>>,
    history: u64,
}

impl View {
    /// The table.
    pub fn feed(&self) -> &dyn Feed {
        &*self.feed
    }

    /// The newest durable revision.
    pub fn head(&self) -> Revision {
        self.feed.head()
    }

    /// Differs from an earlier view's when this one does not follow from that by changes: the table went back.
    pub fn history(&self) -> u64 {
        self.history
    }

    /// The stretches of this history, oldest first.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The place of `revision` in this history; `None` while there is no epoch.
    pub fn cursor(&self, revision: Revision) -> Option<Cursor> {
        Cursor::at(&self.epochs, revision)
    }

    /// Whether this store has been where `cursor` says.
    pub fn standing(&self, cursor: &Cursor) -> Standing {
        cursor.standing(&self.epochs, self.head())
    }

    /// Zones whose services others may see.
    pub fn enabled(&self) -> &BTreeSet<ZoneUid> {
        &self.zones.enabled
    }

    /// What the receiver at the end of `route` should have, per kind that travels there.
    pub fn totals(&self, route: Route) -> BTreeMap<Kind, Sum> {
        let kinds = Kind::ALL.iter().filter(|kind| kind_travels(**kind, route));
        let mut totals: BTreeMap<Kind, Sum> = kinds.map(|kind| (*kind, Sum::default())).collect();
        for (owner, sums) in &self.sums {
            let shown = match (route, owner) {
                (Route::Down(_), Owner::Zone(uid)) => self.zones.enabled.contains(uid),
                (Route::Down(_), Owner::Global) | (Route::Up(_) | Route::Back(_), _) => true,
            };
            for (kind, pair) in sums.iter().filter(|(kind, _)| shown && may_travel(**kind, *owner, route)) {
                totals.entry(*kind).or_default().join(pair.leaving);
            }
        }
        totals
    }

    /// What this plane has that came, or could have come, over `route`.
    pub fn taken(&self, kind: Kind, route: Route) -> Sum {
        let mut total = Sum::default();
        for (_, sums) in self.sums.iter().filter(|(owner, _)| came_over(**owner, route)) {
            if let Some(pair) = sums.get(&kind) {
                total.join(pair.leaving);
                total.join(pair.staying);
            }
        }
        total
    }

    /// Zones whose visibility changed in (`after`, `upto`]: other zones' copies of what they own must be looked at again.
    pub(crate) fn flips(&self, after: Revision, upto: Revision) -> Vec<Flip> {
        if self.zones.newest_flip <= after {
            return Vec::new();
        }
        let within = |revision: Revision| revision > after && revision <= upto;
        let zones = self.zones.flips.iter().filter(|(uid, revision)| {
            // A zone that owns nothing has nothing to look at.
            within(**revision) && self.sums.contains_key(&Owner::Zone(**uid))
        });
        let mut flips: Vec<_> = zones.map(|(uid, _)| Flip::Of(*uid)).collect();
        if within(self.zones.orphaned) {
            flips.push(Flip::Unknown);
        }
        flips
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.head())
    }
}

/// Whether the owner's resources come to a plane over `route`.
pub(crate) fn came_over(owner: Owner, route: Route) -> bool {
    match route {
        Route::Down(viewer) => owner != Owner::Zone(viewer),
        Route::Up(zone) | Route::Back(zone) => owner == Owner::Zone(zone),
    }
}

/// Whose resources must be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flip {
    /// Those of this zone.
    Of(ZoneUid),
    /// Those of every zone that is not enabled: a zone was deleted and nobody remembers which it was.
    Unknown,
}

/// Which zones are shown to others, and since when.
#[derive(Clone, Debug, Default)]
struct Zones {
    enabled: BTreeSet<ZoneUid>,
    flips: BTreeMap<ZoneUid, Revision>,
    /// Newest deletion of a zone of which only the name is known.
    orphaned: Revision,
    newest_flip: Revision,
}

type OwnerSums = BTreeMap<Kind, Pair>;

/// Sums of one owner and kind.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Those that may leave their plane.
    leaving: Sum,
    /// Those that their author keeps there.
    staying: Sum,
}

impl Pair {
    fn side(&mut self, leaves: bool) -> &mut Sum {
        if leaves { &mut self.leaving } else { &mut self.staying }
    }
}

#[derive(Clone, Copy)]
struct Row {
    contribution: u128,
    leaves: bool,
}

/// Follows a plane's table and makes [`View`]s of it. One per process; every session reads its newest view.
#[derive(Default)]
pub struct Index {
    at: Revision,
    built: bool,
    history: u64,
    rows: HashMap<ResourceKey, Row>,
    sums: BTreeMap<Owner, Arc<OwnerSums>>,
    names: BTreeMap<Name, (ZoneUid, bool)>,
    zones: Arc<Zones>,
}

impl Index {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything: the next table does not follow from the last one by changes.
    pub fn start_over(&mut self) {
        *self = Self { history: self.history + 1, ..Self::default() };
    }

    /// Takes the changes since the last call and gives the view of `feed`. Costs what changed, not what there is.
    pub fn advance(&mut self, feed: Arc<dyn Feed>, epochs: Arc<[Epoch]>) -> Arc<View> {
        if feed.head() < self.at {
            self.start_over();
        } else if self.built && feed.horizon() > self.at {
            // Tombstones that were forgotten meanwhile cannot be followed.
            *self = Self { history: self.history, ..Self::default() };
        }
        let (head, after) = (feed.head(), self.at);
        feed.changes(after, &mut |change| {
            self.take(change);
            true
        });
        self.at = head;
        self.built = true;
        Arc::new(View { feed, epochs, zones: self.zones.clone(), sums: self.sums.clone(), history: self.history })
    }

    fn take(&mut self, change: &Change) {
        let key = change.key();
        if let Some(row) = self.rows.remove(key) {
            self.pair(key).side(row.leaves).remove(row.contribution);
        }
        match change {
            Change::Put(resource) => {
                let row = Row { contribution: contribution_of(key, resource.hash), leaves: may_leave(&resource.labels) };
                self.pair(key).side(row.leaves).add(row.contribution);
                self.rows.insert(key.clone(), row);
                if is_zone(key) {
                    self.take_zone(resource);
                }
            }
            Change::Delete(tombstone) => {
                if is_zone(key) {
                    self.drop_zone(&key.name, tombstone.revision);
                }
            }
        }
    }

    fn pair(&mut self, key: &ResourceKey) -> &mut Pair {
        Arc::make_mut(self.sums.entry(key.owner).or_default()).entry(key.kind).or_default()
    }

    fn take_zone(&mut self, resource: &Resource) {
        // A Zone that cannot be read shows nothing new and hides nothing that was shown.
        let Ok(zone) = resource.parse::<Zone>() else { return };
        let (name, revision) = (&resource.key.name, resource.revision);
        let Some(uid) = zone.uid else { return };
        let now = (uid, zone.is_enabled());
        if self.names.get(name) == Some(&now) {
            return;
        }
        self.drop_zone(name, revision);
        self.names.insert(name.clone(), now);
        self.flip(uid, now.1, revision);
    }

    fn drop_zone(&mut self, name: &Name, revision: Revision) {
        match self.names.remove(name) {
            Some((uid, _)) => self.flip(uid, false, revision),
            None if !self.built => {
                let zones = Arc::make_mut(&mut self.zones);
                (zones.orphaned, zones.newest_flip) = (revision, revision);
            }
            None => {}
        }
    }

    fn flip(&mut self, uid: ZoneUid, enabled: bool, revision: Revision) {
        let zones = Arc::make_mut(&mut self.zones);
        if enabled {
            zones.enabled.insert(uid);
        } else {
            zones.enabled.remove(&uid);
        }
        zones.flips.insert(uid, revision);
        zones.newest_flip = revision;
    }
}

/// Only global's Zone resources say who is shown.
fn is_zone(key: &ResourceKey) -> bool {
    key.kind == Kind::Zone && key.owner == Owner::Global
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({}, {} rows)", self.at, self.rows.len())
    }
}
