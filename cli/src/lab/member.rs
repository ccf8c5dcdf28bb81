//! The members of the lab by name, and where each is.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};

use super::{
    admin::Admin,
    layout::{
        ADMIN_PORT, AddedAddresses, BACKEND_PORT, DNS_PORT, GATEWAY_PORT, INGRESS_PORT, Layout, READINESS_PORT, ZoneAddresses, at,
    },
    state::{AddedGateway, State},
};

/// The zone with `orders` and the mesh workload.
pub const AZURE: &str = "azure";
/// The zone with the catalog.
pub const GCP: &str = "gcp";

/// One process of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// Global's database.
    Postgres,
    /// The global control plane.
    Global,
    /// A zone's control plane.
    Plane(String),
    /// A zone's ingress: `atoll-dp` with its Envoy.
    Ingress(String),
    /// The sidecar of a zone's gateway: `atoll-dp` with its Envoy.
    Sidecar(String),
    /// A zone's gateway: a plain Envoy.
    Gateway(String),
    /// A workload with a sidecar of its own.
    Client(String),
    /// The service behind a zone's gateway.
    Backend(String),
    /// The sidecar of an added gateway.
    AddedSidecar(AddedGateway),
    /// An added gateway.
    AddedGateway(AddedGateway),
}

impl Member {
    /// All that the lab has, in the order in which they start.
    pub fn all(state: &State) -> Vec<Self> {
        let mut all = Vec::new();
        if state.postgres.is_some() {
            all.push(Self::Postgres);
        }
        all.push(Self::Global);
        for zone in &state.zones {
            all.extend([
                Self::Plane(zone.clone()),
                Self::Ingress(zone.clone()),
                Self::Sidecar(zone.clone()),
                Self::Gateway(zone.clone()),
            ]);
            if service(zone).is_some() {
                all.push(Self::Backend(zone.clone()));
            }
            if zone == AZURE {
                all.push(Self::Client(zone.clone()));
            }
        }
        for gateway in &state.gateways {
            all.extend([Self::AddedSidecar(gateway.clone()), Self::AddedGateway(gateway.clone())]);
        }
        all
    }

    /// The member with that name.
    pub fn named(name: &str, state: &State) -> Result<Self> {
        let all = Self::all(state);
        let names = || all.iter().map(Self::name).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|member| member.name() == name).cloned();
        found.with_context(|| format!("there is no {name:?} here; there are {}", names()))
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Postgres => "postgres".to_owned(),
            Self::Global => "global".to_owned(),
            Self::Plane(zone) => zone.clone(),
            Self::Ingress(zone) => format!("{zone}-ingress"),
            Self::Sidecar(zone) => format!("{zone}-sidecar"),
            Self::Gateway(zone) => format!("{zone}-gateway"),
            Self::Client(zone) => format!("{zone}-client"),
            Self::Backend(zone) => format!("{zone}-{}", service(zone).unwrap_or("backend")),
            Self::AddedSidecar(gateway) => format!("{}-{}-sidecar", gateway.zone, gateway.name),
            Self::AddedGateway(gateway) => format!("{}-{}-gateway", gateway.zone, gateway.name),
        }
    }

    /// What it is, for the table.
    pub fn what(&self) -> String {
        match self {
            Self::Postgres => "PostgreSQL of global".to_owned(),
            Self::Global => "global control plane".to_owned(),
            Self::Plane(_) => "zone control plane".to_owned(),
            Self::Ingress(_) => "zone ingress (Envoy)".to_owned(),
            Self::Sidecar(_) => "sidecar of the gateway (Envoy)".to_owned(),
            Self::Gateway(_) => "API gateway (plain Envoy)".to_owned(),
            Self::Client(_) => "mesh workload's sidecar (Envoy)".to_owned(),
            Self::Backend(zone) => format!("{}, outside the mesh", service(zone).unwrap_or("backend")),
            Self::AddedSidecar(_) => "sidecar of an added gateway".to_owned(),
            Self::AddedGateway(gateway) => format!("added gateway of {}", gateway.upstream),
        }
    }

    /// What it listens at; nobody else may.
    pub fn listens(&self, layout: &Layout, state: &State) -> Result<Vec<SocketAddr>> {
        let many = |address: IpAddr, ports: &[u16]| ports.iter().map(|port| at(address, *port)).collect();
        let zone = |zone: &str| zone_addresses(layout, state, zone);
        Ok(match self {
            Self::Postgres => many(layout.global(), &[5432]),
            Self::Global => many(layout.global(), &[5682, 5681, 5680, 5685, 5686]),
            Self::Plane(name) => many(zone(name)?.plane(), &[5682, 5681, 5680, 5678]),
            Self::Ingress(name) => many(zone(name)?.ingress(), &[INGRESS_PORT, READINESS_PORT]),
            Self::Sidecar(name) => many(zone(name)?.sidecar(), &[GATEWAY_PORT, READINESS_PORT, DNS_PORT]),
            Self::Gateway(name) => many(zone(name)?.gateway(), &[GATEWAY_PORT, ADMIN_PORT]),
            Self::Client(name) => many(zone(name)?.client(), &[DNS_PORT, READINESS_PORT]),
            Self::Backend(name) => many(zone(name)?.backend(), &[BACKEND_PORT]),
            Self::AddedSidecar(gateway) => {
                many(added(layout, state, gateway)?.sidecar(), &[GATEWAY_PORT, READINESS_PORT, DNS_PORT])
            }
            Self::AddedGateway(gateway) => many(added(layout, state, gateway)?.gateway(), &[GATEWAY_PORT, ADMIN_PORT]),
        })
    }

    /// The admin interface of its Envoy.
    pub fn admin(&self, layout: &Layout, state: &State) -> Result<Admin> {
        match self {
            Self::Gateway(_) | Self::AddedGateway(_) => {
                let listens = self.listens(layout, state)?;
                listens.get(1).map(|address| Admin::Tcp(*address)).context("no admin address")
            }
            Self::Ingress(_) | Self::Sidecar(_) | Self::Client(_) | Self::AddedSidecar(_) => {
                Ok(Admin::Unix(layout.dataplane(&self.name()).join("admin.sock")))
            }
            Self::Postgres | Self::Global | Self::Plane(_) | Self::Backend(_) => bail!("{} is no Envoy", self.name()),
        }
    }

    /// Whether it is an `atoll-dp`.
    pub fn is_dataplane(&self) -> bool {
        match self {
            Self::Ingress(_) | Self::Sidecar(_) | Self::Client(_) | Self::AddedSidecar(_) => true,
            Self::Postgres | Self::Global | Self::Plane(_) | Self::Gateway(_) | Self::Backend(_) | Self::AddedGateway(_) => false,
        }
    }

    /// In which wave it ends: traffic first, the store last.
    pub fn wave(&self) -> u8 {
        match self {
            Self::Client(_) | Self::Gateway(_) | Self::AddedGateway(_) | Self::Backend(_) => 0,
            Self::Sidecar(_) | Self::AddedSidecar(_) | Self::Ingress(_) => 0,
            Self::Plane(_) => 1,
            Self::Global => 2,
            Self::Postgres => 3,
        }
    }
}

/// The service behind a zone's gateway.
pub fn service(zone: &str) -> Option<&'static str> {
    match zone {
        AZURE => Some("orders"),
        GCP => Some("catalog"),
        _ => None,
    }
}

/// The addresses of a zone.
pub fn zone_addresses(layout: &Layout, state: &State, zone: &str) -> Result<ZoneAddresses> {
    layout.zone(state.place(zone).with_context(|| format!("there is no zone {zone:?}; there are {}", state.zones.join(", ")))?)
}

/// The addresses of an added gateway.
pub fn added(layout: &Layout, state: &State, gateway: &AddedGateway) -> Result<AddedAddresses> {
    let zone = zone_addresses(layout, state, &gateway.zone)?;
    zone.added(gateway.number).with_context(|| format!("zone {} has no address left for one more gateway", gateway.zone))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_addresses_are_unique() {
        let layout = Layout { home: "/nowhere".into(), offset: 0 };
        let gateway =
            |number| AddedGateway { zone: "azure".into(), name: format!("shop{number}"), number, upstream: String::new() };
        let state = State {
            zones: ["azure", "gcp", "aws"].map(str::to_owned).to_vec(),
            gateways: vec![gateway(0), gateway(1)],
            postgres: Some(crate::lab::state::Postgres { folder: "/x".into(), password: String::new() }),
            ..State::default()
        };
        let all = Member::all(&state);
        let names: BTreeSet<_> = all.iter().map(Member::name).collect();
        assert_eq!(names.len(), all.len());
        for name in ["postgres", "global", "azure", "gcp-ingress", "gcp-sidecar", "azure-gateway", "aws", "azure-client"] {
            assert!(names.contains(name), "{name}");
        }
        let listens: Vec<_> = all.iter().flat_map(|member| member.listens(&layout, &state).unwrap()).collect();
        assert_eq!(listens.iter().collect::<BTreeSet<_>>().len(), listens.len());
        assert!(Member::named("gcp-orders", &state).unwrap_err().to_string().contains("gcp-catalog"));
    }
}
