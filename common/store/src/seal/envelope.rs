//! What a sealed row holds in the place of its spec.

use std::collections::BTreeMap;

use atoll_model::{ContentHash, Resource, ResourceKey, resource};
use atoll_trust::envelope::{DataKey, DigestKey, Row};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::is_sealed;

/// The sealed form of a spec; as JSON it stands in the column of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    /// Names the key-encryption key.
    pub(super) key_id: String,
    /// The wrapped data key, in base64.
    pub(super) data_key: String,
    /// What the data key sealed, in base64.
    pub(super) sealed: String,
}

impl Envelope {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // A struct of strings is always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn wrapped(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.data_key).ok()
    }

    pub(super) fn body(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.sealed).ok()
    }

    /// The same row, its data key wrapped by another key.
    pub(super) fn rewrapped(&self, key_id: String, wrapped: &[u8]) -> Self {
        Self { key_id, data_key: STANDARD.encode(wrapped), sealed: self.sealed.clone() }
    }
}

/// The place of a version of a resource.
pub(super) fn row<'a>(cluster: Uuid, key: &'a ResourceKey, owner: &'a str, version: u64) -> Row<'a> {
    Row { cluster, kind: key.kind.name(), mesh: &key.mesh, name: &key.name, owner, version }
}

/// Seals the versions of one resource that one batch makes.
#[derive(Clone, Debug)]
pub(crate) struct SealingKey {
    pub(super) cluster: Uuid,
    pub(super) key_id: String,
    pub(super) data_key: DataKey,
    pub(super) wrapped: String,
    pub(super) digests: DigestKey,
}

/// What the journal keeps of a sealed resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedSpec {
    pub(crate) key_id: String,
    /// In the place of the spec.
    pub(crate) spec: Bytes,
    /// In the place of the content hash.
    pub(crate) hash: [u8; 16],
}

impl SealingKey {
    pub(super) fn new(cluster: Uuid, key_id: String, data_key: DataKey, wrapped: &[u8], digests: DigestKey) -> Self {
        Self { cluster, key_id, data_key, wrapped: STANDARD.encode(wrapped), digests }
    }

    /// Names the key-encryption key.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    pub(crate) fn seal(&self, resource: &Resource) -> SealedSpec {
        let owner = resource.key.owner.to_string();
        let row = row(self.cluster, &resource.key, &owner, resource.version);
        let spec = self.seal_row(row, &resource.spec).to_json().into();
        SealedSpec { key_id: self.key_id.clone(), spec, hash: self.digest(resource) }
    }

    pub(super) fn seal_row(&self, row: Row<'_>, secret: &[u8]) -> Envelope {
        let sealed = STANDARD.encode(self.data_key.seal(row, secret, &mut rand::rng()));
        Envelope { key_id: self.key_id.clone(), data_key: self.wrapped.clone(), sealed }
    }

    /// Stands for the content where it is kept open: nobody can try out what the content is.
    pub(crate) fn digest(&self, resource: &Resource) -> [u8; 16] {
        let labels = resource::labels_json(&resource.labels);
        self.digests.digest(&[labels.as_slice(), &[0], &resource.spec].concat())
    }
}

/// The keys for the sealed resources of one batch.
pub(crate) type DataKeys = BTreeMap<ResourceKey, SealingKey>;

/// The resource with its spec open.
pub(super) fn opened(resource: &Resource, spec: Vec<u8>) -> Resource {
    let mut resource = Resource { spec: spec.into(), ..resource.clone() };
    debug_assert!(is_sealed(resource.key.kind));
    resource.hash = ContentHash::of(&resource.labels, &resource.document());
    resource
}
