//! A proxy without Envoy: asks as Envoy asks, keeps what it is given, acknowledges it, and remembers what came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_envoy_api::{
    envoy::{
        config::{cluster::v3::Cluster, core::v3::Node, listener::v3::Listener},
        extensions::transport_sockets::tls::v3::UpstreamTlsContext,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    type_url,
};
use atoll_runtime::tls;
use atoll_zone_cp::xds::service::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::plane::{PATIENCE, Zone, timeout};

/// What a proxy has: type, name → version and body.
pub(crate) type Held = BTreeMap<&'static str, BTreeMap<String, (String, Vec<u8>)>>;

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) kind: &'static str,
    pub(crate) names: BTreeSet<String>,
    pub(crate) removed: BTreeSet<String>,
}

pub(crate) struct Envoy {
    pub(crate) held: Held,
    node: Node,
    asked: BTreeMap<&'static str, BTreeSet<String>>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

const KINDS: [&str; 6] =
    [type_url::CLUSTER, type_url::ENDPOINTS, type_url::LISTENER, type_url::ROUTES, type_url::SECRET, type_url::EXTENSION];
/// The secret that the trust anchors are in.
pub(crate) const BUNDLE: &str = "system_trust_bundle";

impl Envoy {
    /// Opens a stream as the Dataplane `name` of mesh default, with what an earlier stream left.
    pub(crate) async fn connect(zone: &Zone, name: &str, token: Option<&str>, held: Held) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let node = Node { id: format!("default.{name}"), cluster: "web".to_owned(), ..Default::default() };
        let mut client = AggregatedDiscoveryServiceClient::new(channel(zone).await);
        let first = initial(&held, type_url::CLUSTER, vec!["*".to_owned()], Some(node.clone()));
        requests.send(first).await.unwrap();
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        let mut envoy = Self { held, node, asked: BTreeMap::new(), requests, responses };
        envoy.ask(type_url::LISTENER, BTreeSet::from(["*".to_owned()])).await;
        if !envoy.held.is_empty() {
            envoy.ask_for_references().await;
        }
        Ok(envoy)
    }

    /// Opens a stream and takes all that the proxy should have.
    pub(crate) async fn settled(zone: &Zone, name: &str, token: &str) -> Self {
        let mut envoy = Self::connect(zone, name, Some(token), Held::new()).await.unwrap();
        envoy
            .until("it has clusters, endpoints, listeners and secrets", |held, _| {
                let have = |kind: &str| held.get(kind).map_or(0, BTreeMap::len);
                let secrets = held.get(type_url::SECRET).is_some_and(|secrets| secrets.contains_key(BUNDLE));
                let services = have(type_url::CLUSTER) > 3 && have(type_url::ENDPOINTS) > 2;
                services && have(type_url::LISTENER) > 0 && secrets && have(type_url::SECRET) > 1
            })
            .await;
        envoy.fence(zone).await;
        envoy
    }

    /// Changes the timeout of the service `db` and takes what comes until that is here: so nothing else is on its way. What came
    /// beside it; the plane may send several changes in one response.
    pub(crate) async fn fence(&mut self, zone: &Zone) -> Vec<Came> {
        let cluster = self.cluster_of("db");
        let seconds = self.timeout_of(&cluster).map_or(100, |seconds| seconds.max(100) + 1);
        zone.put("/meshes/default/meshtimeouts/fence", timeout("fence", "db", u32::try_from(seconds).unwrap())).await;
        let mut came = self.until("the fence is here", |held, _| timeout_in(held, &cluster) == Some(seconds)).await;
        // A changed cluster waits for its endpoints, so they follow it.
        let follows = |came: &Came| came.kind == type_url::ENDPOINTS && came.names.contains(&cluster);
        came.extend(self.until("the fence's endpoints", |_, came| follows(came)).await);
        came.iter_mut().for_each(|came| _ = came.names.remove(&cluster));
        came.retain(|came| !came.names.is_empty() || !came.removed.is_empty());
        came
    }

    /// The name of a service's cluster.
    pub(crate) fn cluster_of(&self, service: &str) -> String {
        let all = self.held.get(type_url::CLUSTER).into_iter().flatten();
        let found = all.map(|(name, _)| name).find(|name| name.contains(&format!("__{service}_")));
        found.unwrap_or_else(|| panic!("no cluster of {service}: {:?}", self.held[type_url::CLUSTER].keys())).clone()
    }

    /// Takes what comes until `is_so` of what is held and what came last; what came.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Held, &Came) -> bool) -> Vec<Came> {
        let mut came = Vec::new();
        loop {
            let taken = tokio::time::timeout(PATIENCE, self.take()).await;
            let taken = taken.unwrap_or_else(|_| panic!("not so in time: {what}; came {came:#?}")).unwrap();
            came.push(taken.clone());
            if is_so(&self.held, &taken) {
                return came;
            }
        }
    }

    /// Takes one response and acknowledges it.
    pub(crate) async fn take(&mut self) -> Result<Came, Status> {
        let response = self.responses.message().await?.ok_or_else(|| Status::cancelled("the stream ended"))?;
        let kind = KINDS.into_iter().find(|kind| *kind == response.type_url).expect("a known type");
        let held = self.held.entry(kind).or_default();
        let names = response.resources.iter().map(|resource| resource.name.clone()).collect();
        for resource in response.resources {
            let body = resource.resource.map(|any| any.value.to_vec()).unwrap_or_default();
            held.insert(resource.name, (resource.version, body));
        }
        for name in &response.removed_resources {
            held.remove(name);
        }
        let ack = DeltaDiscoveryRequest { type_url: response.type_url, response_nonce: response.nonce, ..Default::default() };
        let _ = self.requests.send(ack).await;
        self.ask_for_references().await;
        Ok(Came { kind, names, removed: response.removed_resources.into_iter().collect() })
    }

    /// Asks for what clusters and listeners refer to.
    async fn ask_for_references(&mut self) {
        let services = clusters(&self.held).map(|cluster| cluster.name);
        let with_endpoints = services.filter(|name| name.starts_with("kri_")).collect();
        self.ask(type_url::ENDPOINTS, with_endpoints).await;
        let secrets = clusters(&self.held).flat_map(secrets).collect();
        self.ask(type_url::SECRET, secrets).await;
        let listeners = self.held.get(type_url::LISTENER).into_iter().flatten();
        let extensions = listeners.flat_map(|(_, (_, body))| extensions(body)).collect();
        self.ask(type_url::EXTENSION, extensions).await;
    }

    async fn ask(&mut self, kind: &'static str, names: BTreeSet<String>) {
        let asked = self.asked.entry(kind).or_default();
        let (first, new): (_, Vec<String>) = (asked.is_empty(), names.difference(asked).cloned().collect());
        if new.is_empty() {
            return;
        }
        asked.extend(new.iter().cloned());
        let request = if first {
            initial(&self.held, kind, new, Some(self.node.clone()))
        } else {
            DeltaDiscoveryRequest { type_url: kind.to_owned(), resource_names_subscribe: new, ..Default::default() }
        };
        let _ = self.requests.send(request).await;
    }

    /// How long a connection to a cluster may take to open, in seconds.
    pub(crate) fn timeout_of(&self, cluster: &str) -> Option<i64> {
        timeout_in(&self.held, cluster)
    }

    /// The names of an inbound listener's filter chains.
    pub(crate) fn chains(&self, listener: &str) -> Vec<String> {
        let (_, body) = &self.held[type_url::LISTENER][listener];
        Listener::decode(body.as_slice()).unwrap().filter_chains.into_iter().map(|chain| chain.name).collect()
    }
}

fn clusters(held: &Held) -> impl Iterator<Item = Cluster> {
    let all = held.get(type_url::CLUSTER).into_iter().flatten();
    all.map(|(_, (_, body))| Cluster::decode(body.as_slice()).unwrap())
}

fn timeout_in(held: &Held, cluster: &str) -> Option<i64> {
    clusters(held).find(|found| found.name == cluster)?.connect_timeout.map(|timeout| timeout.seconds)
}

/// The first request of a type on a stream: it says which versions the proxy has.
fn initial(held: &Held, kind: &str, names: Vec<String>, node: Option<Node>) -> DeltaDiscoveryRequest {
    let versions = held.get(kind).into_iter().flatten().map(|(name, (version, _))| (name.clone(), version.clone()));
    DeltaDiscoveryRequest {
        node,
        type_url: kind.to_owned(),
        resource_names_subscribe: names,
        initial_resource_versions: versions.collect(),
        ..Default::default()
    }
}

/// The secrets that a cluster refers to.
fn secrets(cluster: Cluster) -> Vec<String> {
    use atoll_envoy_api::envoy::{
        config::core::v3::transport_socket::ConfigType,
        extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType,
    };
    let Some(ConfigType::TypedConfig(any)) = cluster.transport_socket.and_then(|socket| socket.config_type) else {
        return Vec::new();
    };
    let context = UpstreamTlsContext::decode(&*any.value).unwrap().common_tls_context.unwrap_or_default();
    let mut names: Vec<String> = context.tls_certificate_sds_secret_configs.into_iter().map(|secret| secret.name).collect();
    if let Some(ValidationContextType::CombinedValidationContext(combined)) = context.validation_context_type {
        names.extend(combined.validation_context_sds_secret_config.map(|secret| secret.name));
    }
    names
}

/// The filters that a listener's chains refer to.
fn extensions(listener: &[u8]) -> Vec<String> {
    use atoll_envoy_api::envoy::config::listener::v3::filter::ConfigType;
    let listener = Listener::decode(listener).unwrap();
    let filters = listener.filter_chains.into_iter().chain(listener.default_filter_chain).flat_map(|chain| chain.filters);
    let discovered = filters.filter(|filter| matches!(filter.config_type, Some(ConfigType::ConfigDiscovery(_))));
    discovered.map(|filter| filter.name).collect()
}

async fn channel(zone: &Zone) -> Channel {
    let config = tls::client_config(tls::roots_from_pem(&zone.operator.ca).unwrap(), None, &[b"h2"]).unwrap();
    let address = zone.running.addresses.dataplanes.to_string();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move { tls::connect(&address, "zone-cp.atoll.internal", config).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://zone-cp.atoll.internal").connect_with_connector(connector).await.unwrap()
}
