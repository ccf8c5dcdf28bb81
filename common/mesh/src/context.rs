//! What every mesh of an index shares: who looks, the zones, the addresses of hosts, the generators.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use atoll_model::{Labels, Name, Owner, Resource, ResourceKey, alias, kri::Kri, labels, labels::Viewpoint};

use crate::{hostnames::Generators, trust::TrustAcceptance, zones::Zones};

pub(crate) struct Context {
    pub(crate) viewpoint: Viewpoint,
    /// The plane itself.
    pub(crate) owner: Owner,
    /// The local zone's name; empty on global.
    pub(crate) zone: Name,
    pub(crate) zones: Zones,
    /// Resolved host names.
    pub(crate) hosts: BTreeMap<String, IpAddr>,
    pub(crate) generators: Generators,
    pub(crate) acceptance: Arc<dyn TrustAcceptance>,
}

impl Context {
    pub(crate) fn new(viewpoint: Viewpoint, acceptance: Arc<dyn TrustAcceptance>) -> Self {
        let zone = match &viewpoint {
            Viewpoint::Global => Name::none(),
            Viewpoint::Zone { name, .. } => name.clone(),
        };
        Self {
            owner: viewpoint.owner(),
            viewpoint,
            zone,
            zones: Zones::default(),
            hosts: BTreeMap::new(),
            generators: Generators::default(),
            acceptance,
        }
    }

    /// As when it was new, but for what host names lead to.
    pub(crate) fn emptied(&mut self) -> Self {
        let hosts = std::mem::take(&mut self.hosts);
        Self { hosts, ..Self::new(self.viewpoint.clone(), self.acceptance.clone()) }
    }

    pub(crate) fn is_own(&self, key: &ResourceKey) -> bool {
        key.owner == self.owner
    }

    /// Whether the resource is this plane's, or its global's.
    pub(crate) fn is_own_or_global(&self, key: &ResourceKey) -> bool {
        self.is_own(key) || key.owner == Owner::Global
    }

    /// The name of the owning zone, empty for global; `None` while the zone is not known.
    pub(crate) fn zone_of(&self, owner: Owner) -> Option<Name> {
        if owner == self.owner {
            return Some(self.zone.clone());
        }
        match owner {
            Owner::Global => Some(Name::none()),
            Owner::Zone(uid) => self.zones.get(uid).map(|facts| facts.name.clone()),
        }
    }

    /// Labels as this plane presents them; `zone` as [`Context::zone_of`] gives it.
    pub(crate) fn present(&self, resource: &Resource, zone: &str) -> Labels {
        labels::present(&self.viewpoint, &resource.key, &resource.labels, (!zone.is_empty()).then_some(zone))
    }

    /// The name under which this plane shows a resource: bare for its own, hashed for all others.
    pub(crate) fn shown_name(&self, key: &ResourceKey, zone: &str) -> String {
        if self.is_own(key) { key.name.to_string() } else { alias::alias(&key.mesh, &key.name, zone) }
    }

    /// An address, from the text of one or from a host name that is resolved.
    pub(crate) fn resolve(&self, host: &str) -> Option<IpAddr> {
        host.parse().ok().or_else(|| self.hosts.get(host).copied())
    }
}

pub(crate) fn kri(key: &ResourceKey, zone: &str) -> Kri {
    Kri { kind: key.kind, mesh: key.mesh.to_string(), zone: zone.to_owned(), name: key.name.to_string(), section: String::new() }
}
