//! Joining a cluster once by token, and renewing the certificate of the link from then on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoll_link::ZoneIdentity;
use atoll_model::Clock;
use atoll_runtime::{backoff::Backoff, shutdown::Shutdown, tls::TlsError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    identity::{DirError, Joined, ZoneDir},
};

/// Why the zone is not in the cluster. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no token.
    #[error("this zone has not joined yet: make a token with `atoll token zone {0}` on global and pass --join-token-file FILE")]
    NoToken(String),
    /// The file cannot be read.
    #[error("cannot read the join token in {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Global refuses for good.
    #[error("global refuses the join: {0}")]
    Refused(String),
    /// The data directory is of no use.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// What global sent cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The program was told to end.
    #[error("ended while joining")]
    Ended,
}

pub(crate) async fn joined(
    config: &Config,
    dir: &ZoneDir,
    _clock: &dyn Clock,
    _shutdown: &Shutdown,
) -> Result<Joined, JoinError> {
    dir.joined()?.ok_or_else(|| JoinError::NoToken(config.zone.clone()))
}

pub(crate) struct Renewal {
    pub(crate) joined: Joined,
    pub(crate) identity: watch::Sender<Arc<ZoneIdentity>>,
    pub(crate) dir: ZoneDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) addresses: Vec<String>,
}

impl Renewal {
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
        drop(self.identity);
    }
}
