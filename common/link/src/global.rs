//! Global's end of the link.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{Kind, ZoneUid};
use atoll_runtime::{shutdown::Shutdown, tasks::Tasks, tls::TlsListener};
use atoll_store::Store;
use atoll_sync::Review;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{Admission, Issuer, LinkStatus, SoftSink};

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
    zones: watch::Receiver<Arc<BTreeMap<ZoneUid, LinkStatus>>>,
}

impl GlobalLink {
    /// Serves nothing yet. `review` judges each resource that a zone sends, `soft` takes their soft values.
    pub fn new(
        _config: GlobalConfig,
        _store: Store,
        _admission: Arc<dyn Admission>,
        _issuer: Arc<dyn Issuer>,
        _review: Arc<dyn Review>,
        _soft: Arc<dyn SoftSink>,
        _tasks: &Tasks,
    ) -> Self {
        Self { zones: watch::channel(Arc::default()).1 }
    }

    /// Serves the link port until the soft shutdown. The listener's TLS must require certificates of zones.
    pub async fn serve(&self, _listener: TlsListener, _shutdown: &Shutdown) {}

    /// Serves the join port until the soft shutdown.
    pub async fn serve_join(&self, _listener: TlsListener, _shutdown: &Shutdown) {}

    /// Every zone that has connected since the process started.
    pub fn zones(&self) -> watch::Receiver<Arc<BTreeMap<ZoneUid, LinkStatus>>> {
        self.zones.clone()
    }

    /// Asks a zone and waits for its whole answer.
    pub async fn query(&self, _zone: ZoneUid, _path: &str, _body: Bytes) -> Result<Bytes, QueryError> {
        Err(QueryError::NotConnected)
    }

    /// Does the implied deletions of a kind of a zone that are held, at an operator's word.
    pub fn release(&self, _zone: ZoneUid, _kind: Kind) {}
}
