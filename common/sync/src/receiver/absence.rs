//! Deletions that a complete snapshot implies, and the guard against too many of them.

use std::collections::BTreeSet;

use atoll_model::{Change, Kind, ResourceKey, Revision};

use super::{Item, Receiver, part::Part};
use crate::{View, index::came_over, proto, visibility::Route};

/// So many implied deletions of a kind are always done, and a fifth of what there is.
const ALWAYS: usize = 10;

impl Receiver {
    /// Deletes what a complete snapshot does not name, or holds it when it is too much.
    pub(super) fn absent(&mut self, kind: Kind, part: &Part, route: Route, view: &View) -> Vec<Item> {
        let mut there = 0;
        let mut absent = BTreeSet::new();
        view.feed().changes(Revision(0), &mut |change| {
            if let Change::Put(resource) = change
                && resource.key.kind == kind
                && came_over(resource.key.owner, route)
            {
                there += 1;
                if !part.names(&proto::Key::from(&resource.key)) {
                    absent.insert(resource.key.clone());
                }
            }
            true
        });
        if matches!(route, Route::Back(_)) {
            let spoken = self.spoken(view);
            absent.retain(|key| !spoken.contains(key));
        }
        if absent.len() > ALWAYS.max(there / 5) {
            self.held.insert(kind, absent);
            self.objections_due = true;
            return Vec::new();
        }
        self.objections_due |= self.held.remove(&kind).is_some();
        absent.into_iter().map(|key| Item::Delete { key }).collect()
    }

    /// Does the deletions of a kind that are held: an operator's word.
    pub fn release(&mut self, kind: Kind) {
        self.released.push(kind);
    }

    /// Keeps what a snapshot of this zone's own resources left out, and goes on: an operator's word.
    pub fn keep(&mut self, kind: Kind) {
        if self.restore.is_some() && self.held.remove(&kind).is_some() {
            self.objections_due = true;
        }
    }

    pub(super) fn do_released(&mut self) -> Option<Vec<Item>> {
        let kinds = std::mem::take(&mut self.released);
        let keys: Vec<_> = kinds.iter().filter_map(|kind| self.held.remove(kind)).flatten().collect();
        self.objections_due |= !keys.is_empty();
        (!keys.is_empty()).then(|| keys.into_iter().map(|key| Item::Delete { key }).collect())
    }

    /// The peer speaks of the resource again.
    pub(super) fn unhold(&mut self, key: &ResourceKey) {
        let Some(keys) = self.held.get_mut(&key.kind) else { return };
        if keys.remove(key) {
            self.objections_due = true;
            if keys.is_empty() {
                self.held.remove(&key.kind);
            }
        }
    }
}
