//! Fake proxies: discovery clients that take what a sidecar takes, acknowledge it, and note when a change arrives.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use atoll_envoy_api::{
    envoy::{
        config::{cluster::v3::Cluster, core::v3::Node},
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
    Request,
    transport::{Channel, Endpoint},
};

/// What a proxy saw: which proxy, the connect timeout of the watched cluster in ms, when.
pub(crate) type Seen = (usize, u64, Instant);

/// Where fake proxies connect, and as whom.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) address: String,
    pub(crate) ca: String,
    pub(crate) token: String,
    pub(crate) mesh: String,
    /// The cluster whose timeout is watched.
    pub(crate) cluster: String,
}

impl Settings {
    pub(crate) fn new(address: &str, ca: &Path, token: String, cluster: String) -> Result<Self> {
        let ca = std::fs::read_to_string(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        Ok(Self { address: address.to_owned(), ca, token, mesh: "default".to_owned(), cluster })
    }
}

/// Connects `count` proxies named `fake-N`; returns when each holds the watched cluster.
pub(crate) async fn connect(settings: &Settings, count: usize, bytes: Arc<AtomicU64>) -> Result<mpsc::UnboundedReceiver<Seen>> {
    let (seen, mut receiver) = mpsc::unbounded_channel();
    for index in 0..count {
        let proxy = Proxy { index, settings: settings.clone(), seen: seen.clone(), bytes: Arc::clone(&bytes) };
        let channel = channel(settings).await?;
        tokio::spawn(async move {
            if let Err(error) = proxy.run(channel).await {
                eprintln!("bench: fake proxy {index} ended: {error:#}");
            }
        });
    }
    let mut waiting: BTreeSet<usize> = (0..count).collect();
    while !waiting.is_empty() {
        let next = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
        let (index, _, _) = next
            .map_err(|_| anyhow!("{} fake proxies never got their configuration", waiting.len()))?
            .context("no proxy is left")?;
        waiting.remove(&index);
    }
    Ok(receiver)
}

async fn channel(settings: &Settings) -> Result<Channel> {
    let config = tls::client_config(tls::roots_from_pem(&settings.ca)?, None, &[b"h2"])?;
    let address = settings.address.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move { tls::connect(&address, "zone-cp.atoll.internal", config).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://zone-cp.atoll.internal").connect_with_connector(connector).await?)
}

struct Proxy {
    index: usize,
    settings: Settings,
    seen: mpsc::UnboundedSender<Seen>,
    bytes: Arc<AtomicU64>,
}

impl Proxy {
    async fn run(&self, channel: Channel) -> Result<()> {
        let (requests, outgoing) = mpsc::channel(64);
        for url in [type_url::CLUSTER, type_url::LISTENER] {
            requests.send(self.subscribe(url, vec!["*".to_owned()])).await?;
        }
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.settings.token).parse()?);
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        let mut known = BTreeSet::new();
        while let Some(response) = responses.message().await? {
            let at = Instant::now();
            self.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
            self.note(&response, at);
            if response.type_url == type_url::CLUSTER {
                let new: Vec<String> = response
                    .resources
                    .iter()
                    .map(|resource| resource.name.clone())
                    .filter(|name| known.insert(name.clone()))
                    .collect();
                if !new.is_empty() {
                    requests.send(self.subscribe(type_url::ENDPOINTS, new)).await?;
                }
            }
            let ack = DeltaDiscoveryRequest { type_url: response.type_url, response_nonce: response.nonce, ..Default::default() };
            requests.send(ack).await?;
        }
        Ok(())
    }

    fn subscribe(&self, url: &str, names: Vec<String>) -> DeltaDiscoveryRequest {
        let node =
            Node { id: format!("{}.fake-{}", self.settings.mesh, self.index), cluster: "fake".to_owned(), ..Default::default() };
        DeltaDiscoveryRequest {
            node: Some(node),
            type_url: url.to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        }
    }

    fn note(&self, response: &DeltaDiscoveryResponse, at: Instant) {
        let watched = response.resources.iter().find(|resource| resource.name == self.settings.cluster);
        let body = watched.filter(|_| response.type_url == type_url::CLUSTER).and_then(|resource| resource.resource.as_ref());
        let Some(cluster) = body.and_then(|body| Cluster::decode(body.value.as_slice()).ok()) else { return };
        let timeout = cluster.connect_timeout.unwrap_or_default();
        let ms = u64::try_from(timeout.seconds).unwrap_or(0) * 1000 + u64::try_from(timeout.nanos).unwrap_or(0) / 1_000_000;
        let _ = self.seen.send((self.index, ms, at));
    }
}
