//! Joining a cluster once by token, and renewing the certificate of the link from then on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoll_link::{JoinRequest, RenewError, ZoneIdentity};
use atoll_model::{Clock, Name};
use atoll_runtime::{backoff::Backoff, shutdown::Shutdown, tls::TlsError};
use atoll_trust::{PrivateKey, join::JoinToken};
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    identity::{DirError, Joined, ZoneDir},
};

/// Between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// How often the age of the certificate is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// The only process of a zone, until several share one.
pub(crate) const INSTANCE: &str = "0";

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
    /// The file holds something else.
    #[error("{0} holds no join token: it should be one line that begins with zj1.")]
    NotAToken(PathBuf),
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

/// The zone's membership: as it stands in the data directory, else got by the token. Global may be away: then it is asked again.
pub(crate) async fn joined(config: &Config, dir: &ZoneDir, clock: &dyn Clock, shutdown: &Shutdown) -> Result<Joined, JoinError> {
    if let Some(joined) = dir.joined()? {
        return Ok(joined);
    }
    let address = config.join_address().unwrap_or_default();
    let token = token(config)?;
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let request = JoinRequest {
            address: &address,
            token: &token,
            zone_name: Name::from(config.zone.as_str()),
            zone_uid: dir.uid(),
            instance: INSTANCE.to_owned(),
            csr: request_for(&dir.pending_key()?)?,
        };
        match atoll_link::join(request).await {
            Ok(credentials) => {
                let joined = dir.install(&credentials)?;
                let days = (joined.not_after - clock.now()).num_days();
                tracing::info!(zone = %joined.zone_name, cluster = %joined.cluster_id, "joined; the certificate holds {days} days");
                return Ok(joined);
            }
            Err(atoll_link::JoinError::Refused(why)) => return Err(JoinError::Refused(why)),
            Err(error @ atoll_link::JoinError::OtherCa(_)) => return Err(JoinError::Refused(error.to_string())),
            Err(error @ (atoll_link::JoinError::Unreachable { .. } | atoll_link::JoinError::Unavailable(_))) => {
                tracing::warn!(%error, "cannot join yet; trying again");
            }
        }
        let pause = backoff.next(&mut rand::rng());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.soft().cancelled_owned() => return Err(JoinError::Ended),
        }
    }
}

fn token(config: &Config) -> Result<JoinToken, JoinError> {
    let path = config.join_token_file.clone().ok_or_else(|| JoinError::NoToken(config.zone.clone()))?;
    let text = std::fs::read_to_string(&path).map_err(|source| JoinError::TokenFile { path: path.clone(), source })?;
    text.trim().parse().map_err(|_| JoinError::NotAToken(path))
}

fn request_for(key: &PrivateKey) -> Result<Bytes, DirError> {
    Ok(Bytes::copy_from_slice(key.request()?.der()))
}

/// Renews the certificate of the link when a third of its life is over.
pub(crate) struct Renewal {
    pub(crate) joined: Joined,
    pub(crate) identity: watch::Sender<Arc<ZoneIdentity>>,
    pub(crate) dir: ZoneDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) addresses: Vec<String>,
}

impl Renewal {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            if self.clock.now() >= self.joined.renew_at()
                && let Err(error) = self.renew().await
            {
                let days = (self.joined.not_after - self.clock.now()).num_days();
                tracing::warn!(%error, "the link's certificate cannot be renewed yet; it holds {days} more days");
            }
        }
    }

    async fn renew(&mut self) -> Result<(), JoinError> {
        let csr = request_for(&self.dir.pending_key()?)?;
        let current = self.identity.borrow().clone();
        let mut last = JoinError::Refused("no address of global is known".to_owned());
        for address in &self.addresses {
            match atoll_link::renew(address, &current, &csr).await {
                Ok(credentials) => {
                    self.joined = self.dir.install(&credentials)?;
                    self.identity.send_replace(Arc::new(self.joined.identity()?));
                    tracing::info!("renewed the link's certificate");
                    return Ok(());
                }
                Err(error @ (RenewError::Unavailable(_) | RenewError::Refused(_))) => {
                    last = JoinError::Refused(error.to_string())
                }
            }
        }
        Err(last)
    }
}
