//! Resources that this plane cannot accept. They hold up no other, are shown, and are tried again when the table changes.

use std::{collections::BTreeMap, time::Duration};

use atoll_model::{ContentHash, Kind, Revision, resource::labels_json};
use bytes::Bytes;

use super::{Item, Receiver, part::Part};
use crate::{
    Review, View,
    digest::contribution,
    flow::Moment,
    proto,
    visibility::Route,
    wire::{describe, read_resource},
};

/// How long they rest between tries at least, and how much longer for each of them.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How many are named to people.
const LISTED: usize = 100;

/// What is rejected, and why.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    entries: BTreeMap<proto::Key, Entry>,
    /// The table at the last try, and when that was.
    tried: (Revision, Moment),
    /// Something is worth a try, but it was too soon.
    again: bool,
}

#[derive(Debug)]
struct Entry {
    resource: proto::Resource,
    route: Route,
    reason: String,
}

impl Rejected {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn put(&mut self, resource: proto::Resource, route: Route, reason: String) {
        let key = resource.key.clone().unwrap_or_default();
        self.entries.insert(key, Entry { resource, route, reason });
    }

    /// The store does not take it.
    pub(super) fn refuse(&mut self, item: Item, route: Route, reason: String) {
        let Item::Put { key, labels, spec } = item else { return };
        let hash = ContentHash::of(&labels, &spec).to_bytes();
        let resource = proto::Resource {
            key: Some((&key).into()),
            revision: 0,
            labels: labels_json(&labels).into(),
            spec,
            hash: Bytes::copy_from_slice(&hash),
        };
        self.put(resource, route, reason);
    }

    /// Forgets what was rejected of this plane's own.
    pub(super) fn forget_own(&mut self) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| !matches!(entry.route, Route::Back(_)));
        before != self.entries.len()
    }

    /// Gives true if it was rejected.
    pub(super) fn forget(&mut self, key: Option<&proto::Key>) -> bool {
        key.is_some_and(|key| self.entries.remove(key).is_some())
    }

    /// Forgets those of a kind that a complete snapshot does not name.
    pub(super) fn forget_unnamed(&mut self, kind: &str, route: Route, part: &Part) -> bool {
        let before = self.entries.len();
        self.entries.retain(|key, entry| key.kind != kind || entry.route != route || part.names(key));
        before != self.entries.len()
    }

    /// Key and contribution to the digest of those of a kind, as the peer has them.
    pub(super) fn of_kind(&self, kind: Kind, route: Route) -> impl Iterator<Item = (&proto::Key, u128)> {
        let ours = self.entries.iter().filter(move |(key, entry)| key.kind == kind.name() && entry.route == route);
        ours.map(|(key, entry)| (key, contribution(key, &entry.resource.hash)))
    }

    pub(super) fn listed(&self) -> Vec<proto::Rejection> {
        let listed = self.entries.iter().take(LISTED);
        listed
            .map(|(key, entry)| proto::Rejection {
                key: Some(key.clone()),
                revision: entry.resource.revision,
                reason: entry.reason.clone(),
            })
            .collect()
    }

    pub(super) fn described(&self) -> Vec<(String, String)> {
        self.entries.iter().take(LISTED).map(|(key, entry)| (describe(key), entry.reason.clone())).collect()
    }

    pub(super) fn next_try(&self) -> Option<Moment> {
        (self.again && !self.entries.is_empty()).then(|| self.tried.1 + self.pause())
    }

    fn pause(&self) -> Duration {
        PAUSE.saturating_mul(u32::try_from(self.entries.len()).unwrap_or(u32::MAX)).min(PAUSE_MAX)
    }
}

impl Receiver {
    /// Tries what was rejected against a table that has changed.
    pub(super) fn retry_rejected(&mut self, view: &View, review: &dyn Review, now: Moment) -> Option<Vec<Item>> {
        if self.rejected.entries.is_empty() || view.head() == self.rejected.tried.0 {
            return None;
        }
        self.rejected.again = now < self.rejected.tried.1 + self.rejected.pause();
        // What waits in the inbox may be newer than what was rejected.
        if self.rejected.again || !self.inbox.is_empty() {
            return None;
        }
        self.rejected.tried = (view.head(), now);
        let mut accepted = Vec::new();
        self.rejected.entries.retain(|_, entry| {
            if matches!(entry.route, Route::Back(_)) {
                return true;
            }
            match read_resource(&entry.resource, entry.route, review) {
                Ok(item) => {
                    accepted.push(item);
                    false
                }
                Err(reason) => {
                    entry.reason = reason;
                    true
                }
            }
        });
        self.objections_due |= !accepted.is_empty();
        (!accepted.is_empty()).then_some(accepted)
    }
}
