//! What callers ask the store to change, and what they get back.

use std::{net::IpAddr, sync::Arc};

use atoll_model::{Labels, Resource, ResourceKey, Revision};
use bytes::Bytes;

/// Writes that are done together or not at all.
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// In the order in which they are done.
    pub writes: Vec<Write>,
    /// On whose behalf.
    pub actor: Actor,
}

impl WriteBatch {
    /// A batch of one write.
    pub fn one(actor: Actor, write: Write) -> Self {
        Self { writes: vec![write], actor }
    }
}

/// One change of one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates or replaces labels and spec; the computed part stays.
    Put {
        /// Which resource.
        key: ResourceKey,
        /// Without the labels that planes compute.
        labels: Labels,
        /// JSON; kept byte for byte.
        spec: Bytes,
        /// What must hold.
        expect: Expect,
    },
    /// Replaces the part of the spec that the plane computes. The resource must exist.
    PutComputed {
        /// Which resource.
        key: ResourceKey,
        /// A JSON object, or nothing.
        computed: Option<Bytes>,
    },
    /// Changes nothing: the batch is done only if this holds of a resource that others may write meanwhile, such as the mesh of
    /// what the batch writes.
    Check {
        /// Which resource.
        key: ResourceKey,
        /// What must hold.
        expect: Expect,
    },
    /// Deletes a resource. Nothing else is deleted with it.
    Delete {
        /// Which resource.
        key: ResourceKey,
        /// What must hold.
        expect: Expect,
    },
}

impl Write {
    /// Creates or replaces, whatever there is.
    pub fn put(key: ResourceKey, labels: Labels, spec: impl Into<Bytes>) -> Self {
        Self::Put { key, labels, spec: spec.into(), expect: Expect::Any }
    }

    /// Creates; refused when there is such a resource.
    pub fn create(key: ResourceKey, labels: Labels, spec: impl Into<Bytes>) -> Self {
        Self::Put { key, labels, spec: spec.into(), expect: Expect::Absent }
    }

    /// Deletes, if it is there.
    pub fn delete(key: ResourceKey) -> Self {
        Self::Delete { key, expect: Expect::Any }
    }

    /// Which resource is meant.
    pub fn key(&self) -> &ResourceKey {
        match self {
            Write::Put { key, .. } | Write::PutComputed { key, .. } | Write::Check { key, .. } | Write::Delete { key, .. } => key,
        }
    }
}

/// What must hold for a write to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// The resource does not exist.
    Absent,
    /// It exists.
    Exists,
    /// It exists at this version.
    Version(u64),
}

/// On whose behalf something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `user:…`, `zone:…`, `dataplane:…` or `plane`.
    pub subject: String,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Whether history is written, in the same transaction: for people and tokens. Deletions of such actors stay known
    /// for 30 days, those of others for 24 hours.
    pub record: bool,
}

impl Actor {
    /// The plane itself: no history.
    pub fn plane() -> Self {
        Self { subject: "plane".to_owned(), address: None, record: false }
    }

    /// A person or a token: with history.
    pub fn recorded(subject: impl Into<String>, address: Option<IpAddr>) -> Self {
        Self { subject: subject.into(), address, record: true }
    }
}

/// A batch that was done and lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The revision of the batch's last change; when nothing changed, that of the table the batch was checked against.
    pub revision: Revision,
    /// One for each write, in their order.
    pub results: Vec<WriteResult>,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteResult {
    /// A new resource.
    Created(Arc<Resource>),
    /// The resource as it is now.
    Updated(Arc<Resource>),
    /// It was like that already, or only checked; no revision was taken.
    Unchanged(Arc<Resource>),
    /// The resource as it was.
    Deleted(Arc<Resource>),
    /// There was nothing to delete, or nothing as checked; no revision was taken.
    Absent,
}
