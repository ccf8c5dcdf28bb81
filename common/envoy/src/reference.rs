//! References of a Dataplane to services: `outbound[].backendRef` and `reachableBackends`.

use std::{collections::BTreeMap, net::SocketAddr};

use atoll_mesh::snapshot::{OrdMap, Service};
use atoll_model::{
    Kind, Labels, Owner, ResourceKey,
    kinds::dataplane::{BackendRef, Networking},
    labels,
};

/// A reference to services.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    kind: Kind,
    /// By name: one of the proxy's own zone, and one of several zones, by its bare name, any by the name that this zone shows.
    name: Option<(String, Owner)>,
    /// By labels.
    labels: Labels,
    /// One port, or all.
    port: Option<u32>,
}

impl Reference {
    /// `None`: a reference to another kind, which this version does not route to.
    fn new(backend: &BackendRef, owner: Owner) -> Option<Self> {
        let kinds = [Kind::MeshService, Kind::MeshMultiZoneService];
        let kind = kinds.into_iter().find(|kind| kind.name() == backend.kind)?;
        Some(Self {
            kind,
            name: backend.name.clone().map(|name| (name, owner)),
            labels: backend.labels.clone(),
            port: backend.port,
        })
    }

    /// Whether it means this port of this service.
    pub(crate) fn means(&self, service: &Service, port: u16) -> bool {
        let named = self.name.as_ref().is_none_or(|(name, owner)| {
            let near = service.key.owner == *owner || service.members.is_some();
            service.alias == *name || near && *service.key.name == **name
        });
        service.key.kind == self.kind
            && named
            && labels::matches(&self.labels, &service.labels)
            && self.port.is_none_or(|wanted| wanted == u32::from(port))
    }
}

/// The only services that a proxy is given; `None`: all.
pub(crate) fn reachable(networking: &Networking, owner: Owner) -> Option<Vec<Reference>> {
    let backends = networking.transparent_proxying.as_ref()?.reachable_backends.as_ref()?;
    Some(backends.refs.iter().filter_map(|backend| Reference::new(backend, owner)).collect())
}

/// Where the Dataplane itself wants listeners for ports of services.
pub(crate) fn placed(
    networking: &Networking,
    owner: Owner,
    services: &OrdMap<ResourceKey, std::sync::Arc<Service>>,
) -> BTreeMap<(ResourceKey, u16), SocketAddr> {
    let place = |outbound: &atoll_model::kinds::dataplane::Outbound| {
        let backend = outbound.backend_ref.as_ref()?;
        let reference = Reference::new(backend, owner)?;
        let port = u16::try_from(backend.port?).ok()?;
        let ip = outbound.address.as_deref().unwrap_or("127.0.0.1").parse().ok()?;
        let at = SocketAddr::new(ip, u16::try_from(outbound.port).ok()?);
        let (key, _) = services.iter().find(|(_, service)| reference.means(service, port))?;
        Some(((key.clone(), port), at))
    };
    networking.outbound.iter().filter_map(place).collect()
}
