//! The zone: runner stream and discovery on one TLS port, with a real zone CA.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use atoll_dataplane::proto::{self, FromRunner, ToRunner, from_runner, to_runner};
use atoll_envoy_api::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    json::any_from_json,
    type_url,
};
use atoll_model::Clock;
use atoll_runtime::{
    clock::SystemClock,
    tls::{self, ClientAuth, ServerIdentity, TlsListener},
};
use atoll_trust::ca::{ServerNames, ZoneCa};
use futures::Stream;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use discovery::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};

#[allow(clippy::all, unreachable_pub)]
mod discovery {
    include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.AggregatedDiscoveryService.rs"));
}

/// What a zone does and has seen; shared with its servers, survives their restart.
#[derive(Clone)]
pub struct Script {
    pub ca: Arc<ZoneCa>,
    /// The token that it takes.
    pub token: String,
    /// Whether Envoy gets an answer.
    pub answers_envoy: watch::Sender<bool>,
    /// Where Envoy listens, and where that leads.
    pub listener: SocketAddr,
    pub application: SocketAddr,
    pub names: Arc<Mutex<BTreeMap<String, String>>>,
    pub seen: Arc<Mutex<Vec<FromRunner>>>,
    pub tokens_of_envoy: Arc<Mutex<Vec<String>>>,
    /// Sends down to the runner that is attached.
    pub down: Arc<Mutex<Option<mpsc::Sender<Result<ToRunner, Status>>>>>,
}

/// A zone that answers until it is dropped.
pub struct Zone {
    pub script: Script,
    pub address: SocketAddr,
    /// Its own, so that every connection ends with it: not gracefully, this is how a zone's plane dies.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Script {
    pub fn new(listener: SocketAddr, application: SocketAddr) -> Self {
        let ca = ZoneCa::generate("test", SystemClock.now(), &mut rand::rng()).unwrap();
        Self {
            ca: Arc::new(ca),
            token: "good.token".to_owned(),
            answers_envoy: watch::channel(true).0,
            listener,
            application,
            names: Arc::default(),
            seen: Arc::default(),
            tokens_of_envoy: Arc::default(),
            down: Arc::default(),
        }
    }

    pub async fn serve(&self, address: SocketAddr) -> Zone {
        tls::install_provider();
        let life = chrono_hour();
        let certificate = self.ca.issue_server(&ServerNames::default(), life, SystemClock.now(), &mut rand::rng()).unwrap();
        let identity = ServerIdentity::new(&certificate.chain_pem, certificate.key_pem.expose()).unwrap();
        let config = tls::server_config(identity, ClientAuth::None, &[b"h2"]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bind = move || {
            let config = config.clone();
            async move { TlsListener::bind(address, config).await.ok() }
        };
        let listener = runtime.spawn(async move { super::eventually("the zone's port", bind).await }).await.unwrap();
        let address = listener.local_addr();
        let server = tonic::transport::Server::builder()
            .add_service(proto::runner_server::RunnerServer::new(self.clone()))
            .add_service(AggregatedDiscoveryServiceServer::new(self.clone()))
            .serve_with_incoming(listener);
        runtime.spawn(server);
        Zone { script: self.clone(), address, runtime: Some(runtime) }
    }

    /// What the runner said, in its order.
    pub fn seen(&self) -> Vec<from_runner::Message> {
        self.seen.lock().unwrap().iter().filter_map(|message| message.message.clone()).collect()
    }

    pub fn registrations(&self) -> Vec<proto::Register> {
        let register = |message| match message {
            from_runner::Message::Register(register) => Some(register),
            _ => None,
        };
        self.seen().into_iter().filter_map(register).collect()
    }

    /// The last thing that was said of Envoy.
    pub fn envoy_is_ready(&self) -> bool {
        let ready = |message| match message {
            from_runner::Message::Envoy(state) => Some(state.ready),
            from_runner::Message::Register(register) => register.envoy.map(|state| state.ready),
            _ => None,
        };
        self.seen().into_iter().filter_map(ready).next_back().unwrap_or(false)
    }

    pub async fn push(&self, message: to_runner::Message) {
        let down = self.down.lock().unwrap().clone().expect("a runner is attached");
        down.send(Ok(ToRunner { message: Some(message) })).await.unwrap();
    }

    fn table(&self) -> proto::DnsTable {
        let names = self.names.lock().unwrap();
        let record =
            |(name, address): (&String, &String)| proto::DnsRecord { name: name.clone(), addresses: vec![address.clone()] };
        proto::DnsTable {
            full: true,
            records: names.iter().map(record).collect(),
            removed: Vec::new(),
            ttl_seconds: 5,
            shapes: Vec::new(),
        }
    }

    fn resource(&self, type_url: &str) -> Resource {
        let socket =
            |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
        let endpoint = json!({"endpoint": {"address": socket(self.application)}});
        let (name, value) = match type_url {
            type_url::CLUSTER => (
                "app",
                json!({
                    "name": "app", "type": "STATIC", "connect_timeout": "1s",
                    "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }),
            ),
            _ => (
                "in",
                json!({
                    "name": "in", "address": socket(self.listener), "traffic_direction": "INBOUND",
                    "access_log": [{"name": "stdout", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                        "log_format": {"json_format": {"bytes": "%BYTES_RECEIVED%"}},
                    }}],
                    "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                        "stat_prefix": "in", "cluster": "app",
                    }}]}],
                }),
            ),
        };
        let body = any_from_json(type_url, value).unwrap();
        Resource { name: name.to_owned(), version: "1".to_owned(), resource: Some(body), ..Resource::default() }
    }
}

fn chrono_hour() -> chrono::TimeDelta {
    chrono::TimeDelta::hours(1)
}

type Down<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn token_of<T>(request: &Request<T>) -> String {
    request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

#[tonic::async_trait]
impl proto::runner_server::Runner for Script {
    type AttachStream = Down<ToRunner>;

    async fn attach(&self, request: Request<Streaming<FromRunner>>) -> Result<Response<Self::AttachStream>, Status> {
        let good = token_of(&request) == self.token;
        let (down, receiver) = mpsc::channel(16);
        let (script, mut up) = (self.clone(), request.into_inner());
        *self.down.lock().unwrap() = Some(down.clone());
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                script.seen.lock().unwrap().push(message.clone());
                let answers = match message.message {
                    Some(from_runner::Message::Register(_)) if !good => {
                        let retry = proto::Retry::Never.into();
                        vec![to_runner::Message::Refused(proto::Refused { reason: "the token is for another".into(), retry })]
                    }
                    Some(from_runner::Message::Register(register)) => {
                        let bootstrap = Some(proto::Bootstrap {
                            node_id: format!("{}.{}", register.mesh, register.name),
                            cluster: register.name,
                            zone: "test".into(),
                            drain_seconds: 2,
                            ..proto::Bootstrap::default()
                        });
                        let registered = proto::Registered { bootstrap, heartbeat_seconds: 1 };
                        vec![to_runner::Message::Registered(registered), to_runner::Message::DnsTable(script.table())]
                    }
                    Some(from_runner::Message::Draining(_)) => vec![to_runner::Message::Withdrawn(proto::Withdrawn {})],
                    _ => Vec::new(),
                };
                for answer in answers {
                    let _ = down.send(Ok(ToRunner { message: Some(answer) })).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Script {
    type DeltaAggregatedResourcesStream = Down<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.tokens_of_envoy.lock().unwrap().push(token_of(&request));
        let (down, receiver) = mpsc::channel(16);
        let (script, mut up) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = up.message().await {
                let first = request.response_nonce.is_empty();
                let known = [type_url::CLUSTER, type_url::LISTENER].contains(&request.type_url.as_str());
                if !first || !known || script.answers_envoy.subscribe().wait_for(|answers| *answers).await.is_err() {
                    continue;
                }
                let response = DeltaDiscoveryResponse {
                    resources: vec![script.resource(&request.type_url)],
                    nonce: format!("n-{}", request.type_url),
                    type_url: request.type_url,
                    ..DeltaDiscoveryResponse::default()
                };
                let _ = down.send(Ok(response)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
