//! Builds inputs of `generate` from short YAML.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use atoll_envoy::{Cache, ProxyInputs, ResourceSet, generate};
use atoll_mesh::{
    MeshSnapshot,
    snapshot::{Endpoint, Endpoints, Protocol, ProxyIdentity, ProxyView, Service, ServicePort},
};
use atoll_model::{
    ContentHash, Kind, Labels, Name, Owner, Resource, ResourceKey, Revision, Timestamp, ZoneUid, kinds::Dataplane, kri::Kri,
    labels, sni,
};
use atoll_policy::{Policy, PolicySet, SelectedPolicies};
use serde::Deserialize;
use serde_json::Value;

/// One proxy and what it lives in.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    /// The local zone.
    pub(crate) zone: String,
    /// The proxy.
    pub(crate) proxy: Proxy,
    /// The services.
    #[serde(default)]
    pub(crate) services: Vec<ServiceCase>,
    /// Policy documents.
    #[serde(default)]
    pub(crate) policies: Vec<Value>,
    /// Virtual `address:port` to local `address:port`.
    #[serde(default)]
    pub(crate) bound: BTreeMap<SocketAddr, SocketAddr>,
    /// Epochs of chains.
    #[serde(default)]
    pub(crate) chains: BTreeMap<String, u64>,
    /// Whether connections and requests are logged.
    #[serde(default)]
    pub(crate) access_log: bool,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Proxy {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) identity: Option<String>,
    #[serde(flatten)]
    pub(crate) spec: Flat,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Flat {
    networking: Value,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceCase {
    pub(crate) name: String,
    /// Of several zones, unless set.
    #[serde(default)]
    pub(crate) zone: String,
    pub(crate) ports: Vec<PortCase>,
    #[serde(default)]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) identities: Vec<String>,
    #[serde(default)]
    pub(crate) tls_ready: bool,
    #[serde(default)]
    pub(crate) vip: Option<IpAddr>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortCase {
    pub(crate) port: u16,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) protocol: Option<String>,
    #[serde(default)]
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Of a service of several zones: those of other zones.
    #[serde(default)]
    pub(crate) far: BTreeMap<String, Vec<SocketAddr>>,
    /// Endpoints with labels, or of other zones than the service's.
    #[serde(default)]
    pub(crate) others: Vec<EndpointCase>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EndpointCase {
    pub(crate) at: SocketAddr,
    pub(crate) zone: String,
    #[serde(default)]
    pub(crate) labels: Labels,
}

/// The case as the inputs of `generate`.
pub(crate) struct World {
    pub(crate) snapshot: Arc<MeshSnapshot>,
    pub(crate) proxy: ProxyView,
    pub(crate) policies: Arc<SelectedPolicies>,
    pub(crate) bound: BTreeMap<(IpAddr, u16), SocketAddr>,
    pub(crate) chains: BTreeMap<String, u64>,
    pub(crate) access_log: bool,
}

const MESH: &str = "default";

pub(crate) fn owner(zone: &str) -> Owner {
    Owner::Zone(ZoneUid(uuid::Uuid::from_u128(zone.bytes().fold(1, |sum, byte| sum * 257 + u128::from(byte)))))
}

impl Case {
    pub(crate) fn parse(yaml: &str) -> Self {
        serde_saphyr::from_str(yaml).expect("a case")
    }

    pub(crate) fn world(&self) -> World {
        let policies = PolicySet::new(self.policies.iter().map(|document| Arc::new(self.policy(document))));
        self.world_after(&policies, None)
    }

    /// The world in which `policies` hold; services that did not change since `before` keep their `Arc`.
    pub(crate) fn world_after(&self, policies: &PolicySet, before: Option<&World>) -> World {
        let proxy = self.proxy();
        let mut services = before.map(|before| before.snapshot.services.clone()).unwrap_or_default();
        for case in &self.services {
            let service = self.service(case);
            if services.get(&service.key).is_none_or(|held| **held != service) {
                services.insert(service.key.clone(), Arc::new(service));
            }
        }
        let snapshot = MeshSnapshot {
            mesh: MESH.into(),
            zone: self.zone.as_str().into(),
            services,
            dataplanes: Default::default(),
            trust: Arc::default(),
            policies: Arc::new(policies.clone()),
            zone_addresses: Default::default(),
            names: Arc::default(),
            conditions: Default::default(),
        };
        World {
            policies: policies.for_proxy(&proxy.labels, owner(&self.zone)),
            snapshot: Arc::new(snapshot),
            proxy,
            bound: self.bound.iter().map(|(vip, at)| ((vip.ip(), vip.port()), *at)).collect(),
            chains: self.chains.clone(),
            access_log: self.access_log,
        }
    }

    fn proxy(&self) -> ProxyView {
        let networking = self.proxy.spec.networking.clone();
        let spec: Dataplane = serde_json::from_value(serde_json::json!({ "networking": networking })).expect("a Dataplane");
        let key = ResourceKey::new(Kind::Dataplane, MESH, self.proxy.name.as_str(), owner(&self.zone));
        let mut all = self.proxy.labels.clone();
        all.insert(labels::ZONE.into(), self.zone.clone());
        ProxyView {
            kri: kri(Kind::Dataplane, &self.zone, &self.proxy.name),
            key,
            labels: all,
            spec: Arc::new(spec),
            identity: self.proxy.identity.as_ref().map(|id| ProxyIdentity {
                identity: ResourceKey::new(Kind::MeshIdentity, MESH, "identity", Owner::Global),
                secret_name: kri(Kind::MeshIdentity, "", "identity").to_string(),
                spiffe_id: id.parse().expect("a SPIFFE id"),
            }),
        }
    }

    fn service(&self, case: &ServiceCase) -> Service {
        let local = case.zone == self.zone;
        let multi_zone = case.zone.is_empty();
        let (kind, owner) = match multi_zone {
            false => (Kind::MeshService, owner(&case.zone)),
            true => (Kind::MeshMultiZoneService, Owner::Global),
        };
        let kri = kri(kind, &case.zone, &case.name);
        let mut all = case.labels.clone();
        if !multi_zone {
            all.insert(labels::ZONE.into(), case.zone.clone());
        }
        all.insert(labels::DISPLAY_NAME.into(), case.name.clone());
        let ports = case.ports.iter().map(|port| {
            let section = port.name.clone().unwrap_or_else(|| port.port.to_string());
            let endpoint = |zone: &str, at: &SocketAddr, labels: &Labels| Endpoint {
                priority: u32::from(zone != self.zone),
                zone: zone.into(),
                address: at.ip(),
                port: at.port(),
                labels: Arc::new(labels.clone()),
            };
            let own = if multi_zone { &self.zone } else { &case.zone };
            let near = port.endpoints.iter().map(|at| endpoint(own, at, &Labels::new()));
            let far = port.far.iter().flat_map(|(zone, endpoints)| endpoints.iter().map(|at| endpoint(zone, at, &Labels::new())));
            let others = port.others.iter().map(|other| endpoint(&other.zone, &other.at, &other.labels));
            ServicePort {
                port: port.port,
                protocol: port.protocol.as_deref().map(Protocol::from_app).unwrap_or_default(),
                sni: sni::encode(&kri.with_section(&section)).ok(),
                section,
                endpoints: Arc::new(Endpoints(near.chain(far).chain(others).collect())),
            }
        });
        Service {
            key: ResourceKey::new(kind, MESH, case.name.as_str(), owner),
            ports: ports.collect(),
            kri,
            alias: case.name.clone(),
            labels: all,
            zone: Name::from(case.zone.as_str()),
            local,
            identities: case.identities.iter().map(|id| id.parse().expect("a SPIFFE id")).collect(),
            available: true,
            tls_ready: case.tls_ready || !local,
            members: multi_zone.then(Vec::new),
            vip: case.vip,
            hostnames: Vec::new(),
            generators: Vec::new(),
            proxies: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn policy(&self, document: &Value) -> Policy {
        let text = |field: &str| document[field].as_str().expect("type and name");
        let kind: Kind = text("type").parse().expect("a kind");
        let key = ResourceKey::new(kind, MESH, text("name"), Owner::Global);
        let spec = serde_json::to_vec(&document["spec"]).expect("JSON");
        let resource = Resource {
            hash: ContentHash::of(&Labels::new(), &spec),
            key,
            revision: Revision(1),
            version: 1,
            generation: 1,
            labels: Labels::new(),
            spec: spec.into(),
            computed: None,
            created: Timestamp::UNIX_EPOCH,
            modified: Timestamp::UNIX_EPOCH,
        };
        let labels = Labels::from([(labels::ORIGIN.to_owned(), "global".to_owned())]);
        Policy::parse(&resource, labels, "").expect("a policy")
    }
}

impl World {
    pub(crate) fn generate(&self, cache: &mut Cache) -> ResourceSet {
        let inputs = ProxyInputs {
            snapshot: &self.snapshot,
            proxy: &self.proxy,
            policies: &self.policies,
            bound: &self.bound,
            chains: &self.chains,
            access_log: self.access_log,
        };
        generate(&inputs, cache)
    }
}

fn kri(kind: Kind, zone: &str, name: &str) -> Kri {
    Kri { kind, mesh: MESH.into(), zone: zone.into(), name: name.into(), section: String::new() }
}
