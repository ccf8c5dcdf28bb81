//! What a zone makes by itself: the difference between what should be stored and what is.
//!
//! A plan is only what is asked for; executing it is the caller's. What was planned stays planned until the store says that it
//! is done, so a lost write is planned again, and a write that was done twice does no harm.

mod addresses;
mod computed;
mod generate;
mod rows;

use std::collections::BTreeSet;

use atoll_model::{Labels, ResourceKey, Timestamp, labels};
use bytes::Bytes;
use chrono::{SecondsFormat, TimeDelta};

/// Label of generated MeshServices.
pub const SERVICE_GENERATOR: &str = "meshservice-generator";
/// Label of generated MeshZoneAddresses.
pub const ADDRESS_GENERATOR: &str = "meshzoneaddress-generator";
/// How long a generated service outlives its last Dataplane, and an address its service.
pub const GRACE: TimeDelta = TimeDelta::hours(1);

/// One write of a plan. `version` is the resource's version that the plan has seen, none for one that must not exist: a
/// write that finds another one is dropped, and the next plan looks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// Write a resource.
    Put {
        /// Which.
        key: ResourceKey,
        /// Its stored labels.
        labels: Labels,
        /// Its spec.
        spec: Bytes,
        /// What the plan has seen.
        version: Option<u64>,
    },
    /// Write the computed part of a resource.
    PutComputed {
        /// Which.
        key: ResourceKey,
        /// The part.
        computed: Option<Bytes>,
    },
    /// Delete a resource.
    Delete {
        /// Which.
        key: ResourceKey,
        /// What the plan has seen.
        version: Option<u64>,
    },
}

impl Planned {
    /// What is to be written.
    pub fn key(&self) -> &ResourceKey {
        match self {
            Planned::Put { key, .. } | Planned::PutComputed { key, .. } | Planned::Delete { key, .. } => key,
        }
    }
}

/// What the plan must look at again.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    pub(crate) workloads: BTreeSet<String>,
    pub(crate) computed: BTreeSet<ResourceKey>,
    pub(crate) addresses: bool,
}

/// A plan in the making.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Planned>,
    /// When the next grace period ends.
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    /// Whether the resource is to go: nothing else can be written of it then.
    fn deletes(&self, key: &ResourceKey) -> bool {
        self.writes.iter().any(|write| matches!(write, Planned::Delete { key: deleted, .. } if deleted == key))
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Where the grace period of a resource stands.
enum Grace {
    /// It has not begun.
    Absent,
    /// It ends then.
    Until(Timestamp),
    /// It is over.
    Over,
}

fn grace(labels: &Labels, now: Timestamp) -> Grace {
    let started = labels.get(labels::DELETION_GRACE).and_then(|text| text.parse::<Timestamp>().ok());
    match started.map(|started| started + GRACE) {
        None => Grace::Absent,
        Some(end) if end <= now => Grace::Over,
        Some(end) => Grace::Until(end),
    }
}

fn with_grace(labels: &Labels, now: Timestamp) -> Labels {
    let mut labels = labels.clone();
    labels.insert(labels::DELETION_GRACE.to_owned(), now.to_rfc3339_opts(SecondsFormat::Secs, true));
    labels
}

fn without_grace(labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.remove(labels::DELETION_GRACE);
    labels
}

fn is_managed_by(labels: &Labels, generator: &str) -> bool {
    labels.get(labels::MANAGED_BY).is_some_and(|by| by == generator)
}
