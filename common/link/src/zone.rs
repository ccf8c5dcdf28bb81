//! A zone's end of the link.

use std::sync::Arc;

use atoll_model::{Kind, Name, ZoneUid};
use atoll_runtime::{shutdown::Shutdown, tasks::Tasks};
use atoll_store::Store;
use atoll_sync::Review;
use bytes::Bytes;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use uuid::Uuid;

use crate::LinkStatus;

/// Settings of a zone's end.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// Addresses of global's link port, `host:port`; tried in turn.
    pub addresses: Vec<String>,
    /// The zone's name, as global gave it at the join.
    pub name: Name,
    /// The zone's identity.
    pub uid: ZoneUid,
    /// This process.
    pub instance: String,
    /// Version of the program, for people.
    pub software: String,
    /// The cluster that the zone joined; another one is refused.
    pub cluster_id: Uuid,
}

/// What the zone shows and trusts. Renewal replaces it; the next connection uses it.
#[derive(Debug)]
pub struct ZoneIdentity {
    /// CAs of the control plane.
    pub roots: RootCertStore,
    /// The zone's certificate and those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Answers queries of the other plane.
#[tonic::async_trait]
pub trait Answerer: Send + Sync + 'static {
    /// Answers, or says why not.
    async fn answer(&self, path: &str, body: Bytes) -> Result<Bytes, String>;
}

/// Takes soft values that the other plane sends.
pub trait SoftSink: Send + Sync + 'static {
    /// The newest value of a key, or that it is withdrawn. `zone` is whose link it came over.
    fn put(&self, zone: ZoneUid, key: &str, value: Option<Bytes>);
}

/// Soft values that this plane sends: the newest of each key, again after each reconnect.
#[derive(Clone, Debug, Default)]
pub struct SoftBoard {}

impl SoftBoard {
    /// Sets a value.
    pub fn put(&self, _key: &str, _value: Bytes) {}

    /// Withdraws a value.
    pub fn withdraw(&self, _key: &str) {}
}

/// A zone's end of the link; clones share it.
#[derive(Clone)]
pub struct ZoneLink {
    status: watch::Receiver<Arc<LinkStatus>>,
    board: SoftBoard,
}

impl ZoneLink {
    /// Dials nothing yet.
    pub fn new(
        _config: ZoneConfig,
        _identity: watch::Receiver<Arc<ZoneIdentity>>,
        _store: Store,
        _review: Arc<dyn Review>,
        _answerer: Arc<dyn Answerer>,
        _tasks: &Tasks,
    ) -> Self {
        Self { status: watch::channel(Arc::default()).1, board: SoftBoard::default() }
    }

    /// Keeps a session with global until the soft shutdown.
    pub async fn run(&self, _shutdown: &Shutdown) {}

    /// The link as this zone sees it.
    pub fn status(&self) -> watch::Receiver<Arc<LinkStatus>> {
        self.status.clone()
    }

    /// Soft values for global.
    pub fn board(&self) -> &SoftBoard {
        &self.board
    }

    /// Follows the history that global shows now, although it does not continue what this zone holds: an operator's word.
    pub fn follow(&self) {}

    /// Does the implied deletions of a kind that are held, at an operator's word.
    pub fn release(&self, _kind: Kind) {}
}
