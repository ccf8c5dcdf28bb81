//! What an index knows of one mesh: immutable, shared by `Arc`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use atoll_model::{Labels, Name, ResourceKey, Timestamp, condition::Condition, kinds::Dataplane, kri::Kri, spiffe::SpiffeId};
use atoll_policy::PolicySet;
/// A map whose clones share what did not change; iterates in the order of its keys.
pub use imbl::OrdMap;

use crate::trust::TrustBundles;

/// One mesh as one zone sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshSnapshot {
    /// The mesh.
    pub mesh: Name,
    /// The local zone; empty on global.
    pub zone: Name,
    /// Every MeshService, own and of other zones, and every MeshMultiZoneService. Those of a zone that is not known yet are
    /// left out.
    pub services: OrdMap<ResourceKey, Arc<Service>>,
    /// This zone's Dataplanes.
    pub dataplanes: OrdMap<Name, Arc<ProxyView>>,
    /// Whose certificates are trusted.
    pub trust: Arc<TrustBundles>,
    /// The policies.
    pub policies: Arc<PolicySet>,
    /// Where zones take traffic of other zones, this one's included.
    pub zone_addresses: OrdMap<ResourceKey, Arc<ZoneAddress>>,
    /// Hostname to service; a name stands here only if its service has a virtual address.
    pub names: Arc<BTreeMap<String, NameTarget>>,
    /// What is left out or wrong, and why: one condition a resource.
    pub conditions: OrdMap<ResourceKey, Arc<Condition>>,
}

/// Where a hostname leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTarget {
    /// The service.
    pub service: ResourceKey,
    /// Its virtual address in this zone.
    pub vip: IpAddr,
}

/// A service as its callers in this zone see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Which resource.
    pub key: ResourceKey,
    /// Its identity in text; the port's section is added where it names a port.
    pub kri: Kri,
    /// The name under which this zone's REST shows it: hashed for services of other zones.
    pub alias: String,
    /// Its labels as this zone presents them.
    pub labels: Labels,
    /// Name of the owning zone; empty for one of several zones.
    pub zone: Name,
    /// Whether the owning zone is this one.
    pub local: bool,
    /// Its ports, in the order of its spec.
    pub ports: Vec<ServicePort>,
    /// Who may answer for it: the exact SPIFFE ids. None means anybody whom the bundles trust.
    pub identities: Vec<SpiffeId>,
    /// Whether anything serves it.
    pub available: bool,
    /// Whether callers that have an identity must use the mesh's TLS. Always, for services of other zones and of several.
    pub tls_ready: bool,
    /// The MeshServices that it joins; none unless it is one of several zones.
    pub members: Option<Vec<ResourceKey>>,
    /// Its virtual address in this zone.
    pub vip: Option<IpAddr>,
    /// Its hostnames in this zone, sorted.
    pub hostnames: Vec<String>,
    /// What each matching HostnameGenerator made of it, by the generator's name.
    pub generators: Vec<GeneratorStatus>,
    /// Its proxies; none for services of other zones, whose proxies are not known here.
    pub proxies: Option<ProxyCounts>,
    /// When it was created.
    pub created: Timestamp,
}

/// How many Dataplanes a service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Selected by it.
    pub total: u32,
    /// With a ready inbound for each of its ports.
    pub healthy: u32,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Where clients connect.
    pub port: u16,
    /// Its name, or its number as text.
    pub section: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Server name by which ingresses route it; none if its parts do not fit into one, which leaves it without mesh TLS.
    pub sni: Option<String>,
    /// Where it is served.
    pub endpoints: Arc<Endpoints>,
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Bytes.
    #[default]
    Tcp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// Reads `appProtocol`, in any case; what is not known is bytes.
    pub fn from_app(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            _ => Self::Tcp,
        }
    }

    /// As documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

/// Where a port is served: sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints(pub Vec<Endpoint>);

/// One place where a port is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// 0 in this zone, 1 in another.
    pub priority: u32,
    /// The zone.
    pub zone: Name,
    /// The proxy's address, or that of the other zone's ingress.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// The labels of the proxy; none of another zone's ingress.
    pub labels: Arc<Labels>,
}

impl Endpoint {
    /// Whether it is in this zone.
    pub fn is_local(&self) -> bool {
        self.priority == 0
    }
}

/// What one HostnameGenerator made of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorStatus {
    /// Which generator.
    pub generator: ResourceKey,
    /// The name under which this zone's REST shows the generator.
    pub name: String,
    /// The hostname; none if the condition says why not.
    pub hostname: Option<String>,
    /// `Generated`.
    pub condition: Condition,
}

/// One Dataplane of this zone.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyView {
    /// Which resource.
    pub key: ResourceKey,
    /// Its identity in text.
    pub kri: Kri,
    /// Its labels as this zone presents them.
    pub labels: Labels,
    /// What it serves.
    pub spec: Arc<Dataplane>,
    /// Who it is to its peers. None: no MeshIdentity gives it one, or the snapshot's conditions say why.
    pub identity: Option<ProxyIdentity>,
}

/// Who a proxy is to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// The MeshIdentity.
    pub identity: ResourceKey,
    /// Name of the secret with its certificate: the MeshIdentity's KRI.
    pub secret_name: String,
    /// The id.
    pub spiffe_id: SpiffeId,
}

/// Where a zone takes traffic of other zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneAddress {
    /// The zone.
    pub zone: Name,
    /// IP address or host name.
    pub host: String,
    /// The address; none while a host name is not resolved.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}
