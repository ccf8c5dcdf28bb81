//! Resources between the table and the link.

use atoll_model::{ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, Scope, names};
use bytes::Bytes;

use crate::{
    Review, proto,
    visibility::{Route, may_travel},
};

/// Largest spec that is accepted (REST accepts 256 KiB; the computed parts come on top).
pub const SPEC_MAX: usize = 512 * 1024;
/// Largest labels that are accepted.
const LABELS_MAX: usize = 64 * 1024;

impl From<&ResourceKey> for proto::Key {
    fn from(key: &ResourceKey) -> Self {
        Self {
            kind: key.kind.name().to_owned(),
            mesh: key.mesh.to_string(),
            owner: key.owner.to_string(),
            name: key.name.to_string(),
        }
    }
}

impl From<&Resource> for proto::Resource {
    fn from(resource: &Resource) -> Self {
        Self {
            key: Some((&resource.key).into()),
            revision: resource.revision.0,
            labels: resource.labels_json().into(),
            spec: resource.document(),
            hash: Bytes::copy_from_slice(&resource.hash.to_bytes()),
        }
    }
}

/// A key in words: kind, mesh, name and owner.
pub fn describe(key: &proto::Key) -> String {
    let mesh = if key.mesh.is_empty() { String::new() } else { format!("{}/", key.mesh) };
    let owner = if key.owner.is_empty() { String::new() } else { format!("@{}", key.owner) };
    format!("{}/{mesh}{}{owner}", key.kind, key.name)
}

/// That a resource is gone, or withdrawn.
pub(crate) fn removal(key: &ResourceKey, revision: Revision) -> proto::Removal {
    proto::Removal { key: Some(key.into()), revision: revision.0 }
}

/// A change that a peer sent and that may be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The resource is like this.
    Put {
        /// Which resource.
        key: ResourceKey,
        /// As its owner has them.
        labels: Labels,
        /// The joined spec as the owner's bytes.
        spec: Bytes,
    },
    /// The resource is gone, or no longer meant for this plane.
    Delete {
        /// Which resource.
        key: ResourceKey,
    },
}

impl Item {
    /// Which resource.
    pub fn key(&self) -> &ResourceKey {
        match self {
            Item::Put { key, .. } | Item::Delete { key } => key,
        }
    }
}

/// Reads a key, if its kind is known and its resources may come over `route`. The owner is checked against the route, and
/// the route comes from the authenticated peer.
pub(crate) fn read_key(key: &proto::Key, route: Route) -> Result<ResourceKey, String> {
    let kind: Kind = key.kind.parse().map_err(|_| format!("this version does not know the kind {:?}", key.kind))?;
    let owner: Owner = key.owner.parse().map_err(|_| format!("the owner {:?} is no zone", key.owner))?;
    if !may_travel(kind, owner, route) {
        return Err(match (route, owner) {
            (Route::Up(_), Owner::Global) => "a zone may not send what global owns".to_owned(),
            (Route::Up(zone), Owner::Zone(owner)) if owner != zone => "a zone may send only what it owns".to_owned(),
            (Route::Down(zone), Owner::Zone(owner)) if owner == zone => "global may not change what this zone owns".to_owned(),
            (Route::Up(_) | Route::Back(_) | Route::Down(_), _) => format!("{kind} does not travel this way"),
        });
    }
    if key.mesh.is_empty() != (kind.descriptor().scope == Scope::Global) {
        return Err(format!("{kind} with mesh {:?}", key.mesh));
    }
    if key.name.is_empty() || key.name.len() > names::NAME_MAX || key.mesh.len() > names::NAME_MAX {
        return Err("its name is empty or too long".to_owned());
    }
    Ok(ResourceKey::new(kind, key.mesh.as_str(), key.name.as_str(), owner))
}

/// Reads a resource: ownership, size, integrity, the kind's own check, then the plane's `review`.
pub(crate) fn read_resource(resource: &proto::Resource, route: Route, review: &dyn Review) -> Result<Item, String> {
    let wire_key = resource.key.as_ref().ok_or("it has no key")?;
    let key = read_key(wire_key, route)?;
    if resource.spec.len() > SPEC_MAX || resource.labels.len() > LABELS_MAX {
        return Err(format!("it is larger than {SPEC_MAX} bytes"));
    }
    let labels: Labels = serde_json::from_slice(&resource.labels).map_err(|error| format!("its labels: {error}"))?;
    if ContentHash::from_bytes(&resource.hash) != Some(ContentHash::of(&labels, &resource.spec)) {
        return Err("its hash is not that of its contents".to_owned());
    }
    let spec: serde_json::Value = serde_json::from_slice(&resource.spec).map_err(|error| format!("its spec: {error}"))?;
    if !spec.is_object() {
        return Err("its spec is no JSON object".to_owned());
    }
    review.review(&key, &labels, &spec)?;
    Ok(Item::Put { key, labels, spec: resource.spec.clone() })
}
