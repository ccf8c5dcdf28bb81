//! A zone that lost its newest state takes global's copy of its own resources before it says anything about them.

use std::collections::BTreeSet;

use atoll_model::{Kind, Owner, ResourceKey, Revision};

use super::Receiver;
use uuid::Uuid;

use crate::{
    Has, Standing, View, proto,
    visibility::{Route, kind_travels},
};

/// What is still to be taken.
#[derive(Debug)]
pub(super) struct Restore {
    kinds: BTreeSet<String>,
    /// What this plane wrote after this revision is newer than global's copy, and stays.
    since: Revision,
}

impl Receiver {
    /// Asks for all of this zone's own resources. `global` is what global has of this zone's history, and this zone does not
    /// have all of it; `known` are the epochs of this zone that global has heard of.
    pub fn begin_restore(&mut self, global: Has, known: &[Uuid], view: &View) {
        let Route::Down(zone) = self.route else { return };
        let kinds = Kind::ALL.iter().filter(|kind| kind_travels(**kind, Route::Back(zone)));
        let kinds: BTreeSet<_> = kinds.map(|kind| kind.name().to_owned()).collect();
        self.resync.push(proto::Resync {
            kinds: kinds.iter().cloned().collect(),
            own: true,
            reason: "global has what this zone has lost".to_owned(),
        });
        self.restore = Some(Restore { kinds, since: divergence(view, known).min(told(global, view)) });
    }

    /// Whether a restore is under way.
    pub fn is_restoring(&self) -> bool {
        self.restore.is_some()
    }

    /// Gives true once, when everything was taken and is in `view`.
    pub fn poll_restored(&mut self, view: &View) -> bool {
        let done = self.restore.as_ref().is_some_and(|restore| restore.kinds.is_empty())
            && self.held.is_empty()
            && self.released.is_empty()
            && self.flight.is_none()
            && view.head() >= self.local;
        if done {
            self.restore = None;
            self.objections_due |= self.rejected.forget_own();
        }
        done
    }

    pub(super) fn on_restored(&mut self, kind: &str, complete: bool) {
        let Some(restore) = &mut self.restore else { return };
        if complete {
            restore.kinds.remove(kind);
        } else {
            let reason = "the last one was not complete".to_owned();
            self.resync.push(proto::Resync { kinds: vec![kind.to_owned()], own: true, reason });
        }
    }

    /// This zone's own resources of which it has spoken since; global's word about them does not count.
    pub(super) fn spoken(&self, view: &View) -> BTreeSet<ResourceKey> {
        let (Some(restore), Route::Down(zone)) = (&self.restore, self.route) else { return BTreeSet::new() };
        let mut spoken = BTreeSet::new();
        view.feed().changes(restore.since, &mut |change| {
            if change.key().owner == Owner::Zone(zone) {
                spoken.insert(change.key().clone());
            }
            true
        });
        spoken
    }
}

/// Up to where global was told everything. What it lacks of later things it may never have heard of.
fn told(global: Has, view: &View) -> Revision {
    match global.cursor {
        None => Revision(0),
        Some(_) if !global.is_whole() => Revision(0),
        Some(cursor) if view.standing(&cursor) == Standing::Held => cursor.revision,
        Some(_) => Revision(u64::MAX),
    }
}

/// Up to where this history and the one that global knows are the same: the first epoch that global has not heard of was
/// begun after the loss.
fn divergence(view: &View, known: &[Uuid]) -> Revision {
    let epochs = view.epochs();
    let last_known = epochs.iter().rposition(|epoch| known.contains(&epoch.id));
    let first_new = last_known.map_or(epochs.last(), |index| epochs.get(index + 1).or(epochs.last()));
    first_new.map_or(Revision(0), |epoch| Revision(epoch.first.0.saturating_sub(1)))
}
