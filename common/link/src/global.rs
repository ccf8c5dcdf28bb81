//! Global's end of the link.

mod join;
mod live;
mod session;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atoll_model::{Kind, ZoneUid};
use atoll_runtime::{shutdown::Shutdown, tasks::Tasks, tls::TlsListener};
use atoll_store::Store;
use atoll_sync::{Review, View};
use bytes::Bytes;
use live::Live;
use tokio::sync::{Mutex, oneshot, watch};
use tonic::transport::Server;

use crate::{
    Admission, Issuer, LinkStatus, SoftSink,
    drive::Command,
    services::{join_server::JoinServer, link_server::LinkServer},
    soft::SoftBoard,
    views::Views,
};

const STREAMS_MAX: u32 = 8;
pub(crate) const MESSAGE_MAX: usize = 4 * 1024 * 1024;
pub(crate) const WINDOW: u32 = 16 * 1024 * 1024;
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request of the join port.
const JOIN_MAX: usize = 64 * 1024;
/// How long a zone may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Settings of global's end.
#[derive(Clone, Debug)]
pub struct GlobalConfig {
    /// This process, for zones' status.
    pub instance: String,
    /// Version of the program, for people.
    pub software: String,
}

/// Why a query to a zone has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The zone has no stream here.
    #[error("the zone is not connected")]
    NotConnected,
    /// No complete answer within the time.
    #[error("no answer in time")]
    Timeout,
    /// The zone answered with an error.
    #[error("{0}")]
    Failed(String),
}

/// Global's end of all links; clones share it.
#[derive(Clone)]
pub struct GlobalLink {
    inner: Arc<Inner>,
}

struct Inner {
    config: GlobalConfig,
    store: Store,
    admission: Arc<dyn Admission>,
    issuer: Arc<dyn Issuer>,
    review: Arc<dyn Review>,
    soft: Arc<dyn SoftSink>,
    tasks: Tasks,
    views: watch::Receiver<Arc<View>>,
    /// Taken by the first `serve`.
    follower: Mutex<Option<Views>>,
    live: Live,
    zones: watch::Sender<Arc<BTreeMap<ZoneUid, LinkStatus>>>,
    board: SoftBoard,
}

impl GlobalLink {
    /// Serves nothing yet. `review` judges each resource that a zone sends, `soft` takes their soft values.
    pub fn new(
        config: GlobalConfig,
        store: Store,
        admission: Arc<dyn Admission>,
        issuer: Arc<dyn Issuer>,
        review: Arc<dyn Review>,
        soft: Arc<dyn SoftSink>,
        tasks: &Tasks,
    ) -> Self {
        let (follower, views) = Views::new(&store);
        let inner = Inner {
            config,
            store,
            admission,
            issuer,
            review,
            soft,
            tasks: tasks.clone(),
            views,
            follower: Mutex::new(Some(follower)),
            live: Live::default(),
            zones: watch::channel(Arc::default()).0,
            board: SoftBoard::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Serves the link port until the soft shutdown. The listener's TLS must require certificates of zones.
    pub async fn serve(&self, listener: TlsListener, shutdown: &Shutdown) {
        if let Some(follower) = self.inner.follower.lock().await.take() {
            self.inner.tasks.spawn("link.views", follower.follow(shutdown.soft()));
        }
        let service = session::LinkService { link: self.clone(), stop: shutdown.soft() };
        let service = LinkServer::new(service).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX);
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_pending_accept_reset_streams(Some(20))
            .add_service(service)
            .serve_with_incoming_shutdown(listener, shutdown.soft().cancelled_owned());
        ended("link", server, shutdown).await;
    }

    /// Serves the join port until the soft shutdown.
    pub async fn serve_join(&self, listener: TlsListener, shutdown: &Shutdown) {
        let service = JoinServer::new(join::JoinService { issuer: self.inner.issuer.clone() });
        let service = service.max_decoding_message_size(JOIN_MAX).max_encoding_message_size(JOIN_MAX);
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .timeout(Duration::from_secs(10))
            .http2_max_pending_accept_reset_streams(Some(20))
            .add_service(service)
            .serve_with_incoming_shutdown(listener, shutdown.soft().cancelled_owned());
        ended("join", server, shutdown).await;
    }

    /// Every zone that has connected since the process started.
    pub fn zones(&self) -> watch::Receiver<Arc<BTreeMap<ZoneUid, LinkStatus>>> {
        self.inner.zones.subscribe()
    }

    /// Soft values for every zone.
    pub fn board(&self) -> &SoftBoard {
        &self.inner.board
    }

    /// Asks a zone and waits for its whole answer.
    ///
    /// # Errors
    /// When there is no complete answer within 10 s.
    pub async fn query(&self, zone: ZoneUid, path: &str, body: Bytes) -> Result<Bytes, QueryError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Ask { path: path.to_owned(), body, reply };
        if !self.inner.live.order(zone, command).await {
            return Err(QueryError::NotConnected);
        }
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(QueryError::NotConnected),
            Err(_) => Err(QueryError::Timeout),
        }
    }

    /// Does the implied deletions of a kind of a zone that are held, at an operator's word. Gives false when the zone has no
    /// stream here.
    pub async fn release(&self, zone: ZoneUid, kind: Kind) -> bool {
        self.inner.live.order(zone, Command::Release(kind)).await
    }

    /// Forgets a zone that is gone.
    pub fn forget(&self, zone: ZoneUid) {
        self.inner.zones.send_if_modified(|zones| Arc::make_mut(zones).remove(&zone).is_some());
    }
}

impl Inner {
    fn publish(&self, zone: ZoneUid, status: LinkStatus) {
        self.zones.send_modify(|zones| drop(Arc::make_mut(zones).insert(zone, status)));
    }
}

async fn ended(name: &str, server: impl Future<Output = Result<(), tonic::transport::Error>>, shutdown: &Shutdown) {
    tokio::select! {
        result = server => if let Err(error) = result {
            tracing::error!(error = &error as &dyn std::error::Error, "the {name} port stopped serving");
        },
        () = shutdown.hard().cancelled_owned() => {}
    }
}
