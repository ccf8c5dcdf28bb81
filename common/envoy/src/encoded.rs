//! Encoded resources and sets of them.

use std::{fmt, net::SocketAddr, sync::Arc};

use atoll_envoy_api::type_url;
use bytes::Bytes;
use imbl::{OrdMap, ordmap::DiffItem};
use prost::{Message, Name};
use xxhash_rust::xxh3::xxh3_128;

/// The types of resources that proxies are given, in the order in which additions are sent: what is referred to comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
    /// SDS.
    Secret,
    /// ECDS.
    Extension,
}

impl ResourceType {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes, Self::Secret, Self::Extension];

    /// Its type URL.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => type_url::CLUSTER,
            Self::Endpoints => type_url::ENDPOINTS,
            Self::Listener => type_url::LISTENER,
            Self::Routes => type_url::ROUTES,
            Self::Secret => type_url::SECRET,
            Self::Extension => type_url::EXTENSION,
        }
    }

    /// The type with this URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl fmt::Display for ResourceType {
    /// The type's name at Envoy, without its package.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_url().rsplit('.').next().unwrap_or_default())
    }
}

/// One resource, encoded once and shared by every stream that sends it.
#[derive(Clone)]
pub struct Encoded {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub kind: ResourceType,
    /// Equal versions mean equal content. xxh3-128 of the body, unless its maker knows better.
    pub version: Arc<str>,
    /// The message, as in the value of an `Any`.
    pub body: Bytes,
    /// Of listeners: where they are. Envoy refuses a second one there, so the first must be gone before.
    pub place: Option<SocketAddr>,
}

impl Encoded {
    /// Encodes a message; its version is the hash of its bytes.
    pub fn new<M: Message>(kind: ResourceType, name: &str, message: &M) -> Self {
        let body = Bytes::from(message.encode_to_vec());
        let version = format!("{:032x}", xxh3_128(&body));
        Self { name: name.into(), kind, version: version.into(), body, place: None }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(self, place: SocketAddr) -> Self {
        Self { place: Some(place), ..self }
    }

    /// The same with another version.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self { version: version.into(), ..self }
    }
}

/// Versions decide, not bodies: a secret's body differs with every issue, its version says whether that matters.
impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.version == other.version && self.name == other.name
    }
}

impl Eq for Encoded {}

impl fmt::Debug for Encoded {
    /// Without the body: it may hold a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.kind, self.name, self.version)
    }
}

/// Resources of one type by name. Clones share what did not change, and comparing two skips what they share.
pub type ResourceMap = OrdMap<Arc<str>, Arc<Encoded>>;

/// All resources of one proxy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ResourceSet {
    /// Clusters.
    pub clusters: ResourceMap,
    /// Endpoints, by cluster.
    pub endpoints: ResourceMap,
    /// Listeners.
    pub listeners: ResourceMap,
    /// Route configurations.
    pub routes: ResourceMap,
    /// Secrets.
    pub secrets: ResourceMap,
    /// Filters by extension discovery.
    pub extensions: ResourceMap,
}

impl ResourceSet {
    /// The resources of one type.
    pub fn of(&self, kind: ResourceType) -> &ResourceMap {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoints => &self.endpoints,
            ResourceType::Listener => &self.listeners,
            ResourceType::Routes => &self.routes,
            ResourceType::Secret => &self.secrets,
            ResourceType::Extension => &self.extensions,
        }
    }

    fn of_mut(&mut self, kind: ResourceType) -> &mut ResourceMap {
        match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::Endpoints => &mut self.endpoints,
            ResourceType::Listener => &mut self.listeners,
            ResourceType::Routes => &mut self.routes,
            ResourceType::Secret => &mut self.secrets,
            ResourceType::Extension => &mut self.extensions,
        }
    }

    /// Puts a resource in. One that is there in the same version keeps its `Arc`.
    pub fn put(&mut self, resource: Encoded) {
        let map = self.of_mut(resource.kind);
        if map.get(&resource.name).is_none_or(|held| **held != resource) {
            map.insert(Arc::clone(&resource.name), Arc::new(resource));
        }
    }

    /// Puts a shared resource in.
    pub fn put_shared(&mut self, resource: Arc<Encoded>) {
        self.of_mut(resource.kind).insert(Arc::clone(&resource.name), resource);
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        self.of_mut(kind).remove(name);
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        ResourceType::ALL.into_iter().map(|kind| self.of(kind).len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are the very same value: nothing has to be compared.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        ResourceType::ALL.into_iter().all(|kind| self.of(kind).ptr_eq(other.of(kind)))
    }

    /// How many resources of `other` are not here in the same version, and how many of here are not there: what a change costs.
    pub fn distance(&self, other: &Self) -> usize {
        let changed = |kind| self.of(kind).diff(other.of(kind)).filter(is_difference).count();
        ResourceType::ALL.into_iter().map(changed).sum()
    }
}

fn is_difference(item: &DiffItem<'_, '_, Arc<str>, Arc<Encoded>>) -> bool {
    match item {
        DiffItem::Add(..) | DiffItem::Remove(..) => true,
        DiffItem::Update { old, new } => old.1 != new.1,
    }
}

impl fmt::Debug for ResourceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(ResourceType::ALL.into_iter().flat_map(|kind| self.of(kind).values())).finish()
    }
}

/// Packs a message.
pub(crate) fn pack<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
