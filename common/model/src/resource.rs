//! A resource as every plane stores and forwards it.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::Xxh3;

use crate::{ResourceKey, Revision, Timestamp};

/// Labels in their order.
pub type Labels = BTreeMap<String, String>;

/// xxh3-128 over labels and document; equal on every plane for the same content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentHash(pub u128);

impl ContentHash {
    /// Hashes what [`Resource`] carries: the canonical JSON of `labels` and the bytes of the `document`.
    pub fn of(labels: &Labels, document: &[u8]) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(&labels_json(labels));
        hasher.update(&[0]);
        hasher.update(document);
        Self(hasher.digest128())
    }

    /// The hash as 16 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads [`ContentHash::to_bytes`]; `None` unless there are 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One resource at one revision. Immutable; shared by `Arc`. Its `Debug` form shows no secret.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// Identity.
    pub key: ResourceKey,
    /// This store's revision of the last change.
    pub revision: Revision,
    /// Counts every change of this resource in this store; what optimistic locking compares.
    pub version: u64,
    /// Counts changes of the spec alone.
    pub generation: u64,
    /// What its author set. Labels under `kuma.io/` that planes compute are never stored (see [`crate::labels`]).
    pub labels: Labels,
    /// The spec's JSON as its author's plane wrote it; kept byte for byte by every receiver.
    pub spec: Bytes,
    /// The parts of the spec that the owner's plane computes (MeshService `identities`, `state`): a JSON object, joined on
    /// reading and sending. Receivers get the joined form as their `spec`.
    pub computed: Option<Bytes>,
    /// Hash of labels and [`Resource::document`].
    pub hash: ContentHash,
    /// When it was created.
    pub created: Timestamp,
    /// When labels or spec last changed.
    pub modified: Timestamp,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = self.key.kind.descriptor().sealed;
        let hidden = |bytes: &Bytes| if sealed { Bytes::from_static(SEALED.as_bytes()) } else { bytes.clone() };
        f.debug_struct("Resource")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("version", &self.version)
            .field("generation", &self.generation)
            .field("labels", &self.labels)
            .field("spec", &hidden(&self.spec))
            .field("computed", &self.computed.as_ref().map(hidden))
            .field("hash", &self.hash)
            .field("created", &self.created)
            .field("modified", &self.modified)
            .finish()
    }
}

/// What stands in logs where a secret would.
pub const SEALED: &str = "*****";

impl Resource {
    /// The spec with its computed parts joined: what readers and peers see.
    pub fn document(&self) -> Bytes {
        match &self.computed {
            None => self.spec.clone(),
            Some(computed) => join(&self.spec, computed),
        }
    }

    /// Parses the joined spec.
    ///
    /// # Errors
    /// When the bytes are not what `T` expects; such a resource is reported and skipped.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.document())
    }

    /// The labels as they travel: compact JSON with sorted keys.
    pub fn labels_json(&self) -> Vec<u8> {
        labels_json(&self.labels)
    }
}

/// Compact JSON of labels with sorted keys.
pub fn labels_json(labels: &Labels) -> Vec<u8> {
    serde_json::to_vec(labels).expect("a map of strings is always JSON")
}

/// Compact JSON with sorted keys of any serialisable spec: the form in which a plane stores what it owns.
pub fn canonical_json<T: Serialize>(spec: &T) -> Bytes {
    let value = serde_json::to_value(spec).expect("specs have string keys only");
    Bytes::from(serde_json::to_vec(&value).expect("a JSON value is always JSON"))
}

/// Lays the fields of `computed` over those of `spec`; both are JSON objects, anything else leaves `spec` as it is.
pub fn join(spec: &[u8], computed: &[u8]) -> Bytes {
    type Object = serde_json::Map<String, serde_json::Value>;
    let (Ok(mut joined), Ok(over)) = (serde_json::from_slice::<Object>(spec), serde_json::from_slice::<Object>(computed)) else {
        return Bytes::copy_from_slice(spec);
    };
    joined.extend(over);
    canonical_json(&joined)
}

/// That a resource is gone. Kept until every peer has it (see the store's horizon).
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// What is gone.
    pub key: ResourceKey,
    /// This store's revision of the deletion.
    pub revision: Revision,
    /// When.
    pub deleted: Timestamp,
}

/// One change in the order of commits.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A resource is there, as it is now.
    Put(std::sync::Arc<Resource>),
    /// A resource is gone.
    Delete(std::sync::Arc<Tombstone>),
}

impl Change {
    /// What changed.
    pub fn key(&self) -> &ResourceKey {
        match self {
            Change::Put(resource) => &resource.key,
            Change::Delete(tombstone) => &tombstone.key,
        }
    }

    /// When in the order of commits.
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put(resource) => resource.revision,
            Change::Delete(tombstone) => tombstone.revision,
        }
    }
}
