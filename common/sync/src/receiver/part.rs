//! Parts of complete snapshots. Only a complete one says anything by what it leaves out.

use std::collections::BTreeMap;

use super::{Receiver, Taken, last_of_each};
use crate::{
    Cursor, Review, View,
    digest::{Sum, contribution},
    flow::Moment,
    proto,
    visibility::Route,
};

/// A snapshot that is arriving.
#[derive(Debug)]
pub(super) struct Part {
    kind: String,
    own: bool,
    /// What came, with its contribution to the digest, whether it was accepted or not.
    seen: BTreeMap<proto::Key, u128>,
}

impl Part {
    /// Whether the snapshot names a resource.
    pub(super) fn names(&self, key: &proto::Key) -> bool {
        self.seen.contains_key(key)
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        self.seen.values().for_each(|contribution| sum.add(*contribution));
        sum
    }
}

impl Receiver {
    /// Takes the part at the front of the inbox.
    pub(super) fn take_part(
        &mut self,
        snapshot: proto::Snapshot,
        view: &View,
        review: &dyn Review,
        now: Moment,
    ) -> Option<Taken> {
        let batch = self.inbox.pop_front()?;
        // Global's word about this zone's own resources counts only when the zone has asked for it.
        if snapshot.own && !self.is_restoring() {
            return Some(Taken { cost: batch.cost, ..Taken::default() });
        }
        let route = match self.route {
            Route::Down(zone) if snapshot.own => Route::Back(zone),
            Route::Down(_) | Route::Up(_) | Route::Back(_) => self.route,
        };
        self.collect(&snapshot, &batch);
        let mut items = self.read(&batch, route, review);
        if snapshot.own {
            let spoken = self.spoken(view);
            items.retain(|item| !spoken.contains(item.key()));
        }
        if snapshot.total.is_some() || snapshot.unknown {
            items.extend(self.finish(&snapshot, route, view, now));
        }
        let cursor = batch.completes.as_ref().and_then(|completes| Cursor::try_from(completes).ok());
        self.reach(&batch);
        Some(Taken { items: last_of_each(items), cursor, cost: batch.cost })
    }

    /// Remembers what the snapshot names.
    fn collect(&mut self, snapshot: &proto::Snapshot, batch: &proto::Batch) {
        let fits = |part: &Part| part.kind == snapshot.kind && part.own == snapshot.own;
        if snapshot.first || !self.part.as_ref().is_some_and(fits) {
            let (kind, own) = (snapshot.kind.clone(), snapshot.own);
            self.part = Some(Part { kind, own, seen: BTreeMap::new() });
        }
        let Some(part) = &mut self.part else { return };
        for resource in &batch.resources {
            if let Some(key) = resource.key.as_ref().filter(|key| key.kind == snapshot.kind) {
                part.seen.insert(key.clone(), contribution(key, &resource.hash));
            }
        }
    }

    /// The end of a snapshot: what it implies, if it is complete.
    fn finish(&mut self, snapshot: &proto::Snapshot, route: Route, view: &View, now: Moment) -> Vec<super::Item> {
        let Some(part) = self.part.take() else { return Vec::new() };
        let complete = snapshot.total.as_ref().is_some_and(|total| Sum::from(total) == part.sum());
        let items = match snapshot.kind.parse() {
            Ok(kind) if complete => self.absent(kind, &part, route, view),
            Ok(_) | Err(_) => Vec::new(),
        };
        if complete {
            self.objections_due |= self.rejected.forget_unnamed(&snapshot.kind, route, &part);
        }
        if snapshot.own {
            self.on_restored(&snapshot.kind, complete || snapshot.unknown);
        } else {
            self.comparer.on_snapshot(&snapshot.kind, complete, now);
        }
        items
    }
}
