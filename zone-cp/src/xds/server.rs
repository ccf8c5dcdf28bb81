//! The discovery service: authenticates streams, and starts a task for each.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use atoll_runtime::tasks::Tasks;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status as GrpcStatus, Streaming};

use super::{
    Carry, Limits, ProxyConfig, Status, Totals,
    service::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    stream,
};
use crate::runners::ProxyId;

/// How an Envoy introduces itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// `node.id` of its bootstrap.
    pub node_id: String,
    /// `node.cluster` of its bootstrap.
    pub node_cluster: String,
    /// The `authorization` header of its stream.
    pub authorization: Option<String>,
}

impl fmt::Debug for Hello {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("node_id", &self.node_id).field("node_cluster", &self.node_cluster).finish_non_exhaustive()
    }
}

/// A stream that may go on.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Whose it is, for its whole life.
    pub proxy: ProxyId,
    /// Cancelled when the credential does not hold any more; the stream then ends.
    pub revoked: CancellationToken,
}

/// Why a stream is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// No credential, or one that does not hold.
    #[error("{0}")]
    Unauthenticated(String),
    /// A credential that holds, for another proxy.
    #[error("{0}")]
    Denied(String),
    /// It cannot be judged now.
    #[error("{0}")]
    Unavailable(String),
}

/// Decides which proxy a stream is of.
pub trait ProxyAuth: Send + Sync + 'static {
    /// Judges a stream by its first request.
    fn authenticate(&self, hello: &Hello) -> impl Future<Output = Result<Admission, AuthRefusal>> + Send;
}

/// Knows what each proxy should have.
pub trait ProxySource: Send + Sync + 'static {
    /// Held as long as a proxy's stream is open.
    type Presence: Send + 'static;

    /// What a proxy should have, now and later. While it is `None` the proxy is sent nothing, and keeps what it has.
    fn subscribe(&self, proxy: &ProxyId) -> watch::Receiver<Option<Arc<ProxyConfig>>>;

    /// Told when a proxy's stream opens.
    fn attached(&self, proxy: &ProxyId) -> Self::Presence;

    /// Told when something about a stream changed. Must not block.
    fn report(&self, proxy: &ProxyId, status: &Status);
}

/// The service; make a tonic service of it with [`AdsServer::into_service`].
pub struct AdsServer<A, S>(Arc<Parts<A, S>>);

pub(super) struct Parts<A, S> {
    pub(super) auth: A,
    pub(super) source: S,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
    pub(super) uncertain: Uncertain,
    pub(super) totals: Arc<Totals>,
    tasks: Tasks,
}

impl<A: ProxyAuth, S: ProxySource> AdsServer<A, S> {
    /// A service whose streams are tasks of `tasks` and end when `stop` is cancelled.
    pub fn new(auth: A, source: S, limits: Limits, tasks: Tasks, stop: CancellationToken) -> Self {
        let (uncertain, totals) = (Uncertain::default(), Arc::default());
        Self(Arc::new(Parts { auth, source, limits, stop, uncertain, totals, tasks }))
    }

    /// What all streams did, counted on.
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.0.totals)
    }

    /// The tonic service.
    pub fn into_service(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
    }
}

/// How long a stream may take to introduce itself.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Responses that wait for the connection; the session keeps the rest as a difference.
const BUFFER: usize = 8;

#[tonic::async_trait]
impl<A: ProxyAuth, S: ProxySource> AggregatedDiscoveryService for AdsServer<A, S> {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, GrpcStatus>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, GrpcStatus> {
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (sender, receiver) = mpsc::channel(BUFFER);
        let parts = Arc::clone(&self.0);
        let requests = request.into_inner();
        // Headers must be answered before the first request can be read: Envoy sends it only then.
        self.0.tasks.spawn("xds.stream", async move {
            if let Err(status) = open(parts, authorization, requests, &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn open<A: ProxyAuth, S: ProxySource>(
    parts: Arc<Parts<A, S>>,
    authorization: Option<String>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &stream::Responses,
) -> Result<(), GrpcStatus> {
    let first = tokio::time::timeout(FIRST_REQUEST, requests.message())
        .await
        .map_err(|_| GrpcStatus::deadline_exceeded("no request came"))??
        .ok_or_else(|| GrpcStatus::invalid_argument("the stream ended before its first request"))?;
    let node = first.node.as_ref().ok_or_else(|| GrpcStatus::invalid_argument("the first request names no node"))?;
    let hello = Hello { node_id: node.id.clone(), node_cluster: node.cluster.clone(), authorization };
    let admission = parts.auth.authenticate(&hello).await.map_err(|refusal| {
        tracing::warn!(xds.node = %hello.node_id, error = %refusal, "refused the discovery stream of a proxy");
        parts.totals.on_refused(&refusal);
        match refusal {
            AuthRefusal::Unauthenticated(why) => GrpcStatus::unauthenticated(why),
            AuthRefusal::Denied(why) => GrpcStatus::permission_denied(why),
            AuthRefusal::Unavailable(why) => GrpcStatus::unavailable(why),
        }
    })?;
    stream::run(&parts, admission, first, requests, responses).await
}

/// What proxies may or may not have, by stream. In memory alone: what Envoy says that it has is wrong only between a refusal
/// and the acknowledgement of its repetition, a few milliseconds later.
#[derive(Default)]
pub(super) struct Uncertain(Mutex<Streams>);

#[derive(Default)]
struct Streams {
    next: u64,
    by_proxy: BTreeMap<ProxyId, BTreeMap<u64, Carry>>,
}

impl Uncertain {
    /// A new stream of a proxy: its number, and what earlier streams left open. They may not have noticed yet that they ended.
    pub(super) fn begin(&self, proxy: &ProxyId) -> (u64, Carry) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.next += 1;
        let id = streams.next;
        let mut carry = Carry::new();
        for (kind, names) in streams.by_proxy.get(proxy).into_iter().flat_map(BTreeMap::values).flatten() {
            carry.entry(*kind).or_default().extend(names.iter().cloned());
        }
        (id, carry)
    }

    /// Notes what a stream leaves open now. What earlier ones left is then in its session.
    pub(super) fn note(&self, proxy: &ProxyId, id: u64, carry: Carry) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_proxy = streams.by_proxy.entry(proxy.clone()).or_default();
        of_proxy.retain(|other, _| *other > id);
        if !carry.is_empty() {
            of_proxy.insert(id, carry);
        }
        if of_proxy.is_empty() {
            streams.by_proxy.remove(proxy);
        }
    }
}
