//! Joining a cluster once by token, and renewing the certificate of the link from then on.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoll_link::{JoinRequest, RenewError, ZoneIdentity};
use atoll_model::{Clock, Name, Timestamp};
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
/// How often the age of the certificate is looked at, at least.
const LOOK: Duration = Duration::from_secs(60);
/// Between two tries to renew, at first and at most: there are days left, and global has many zones.
const RENEW_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long one try to renew may take.
const RENEW_WITHIN: Duration = Duration::from_secs(20);
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

/// The certificate that the zone shows on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCertificate {
    /// When it ends; from then on global does not let the zone in.
    pub not_after: Timestamp,
    /// When it is renewed.
    pub renew_at: Timestamp,
    /// Why the last try to renew it failed.
    pub fault: Option<String>,
}

impl LinkCertificate {
    /// A certificate as it was installed.
    pub fn of(joined: &Joined) -> Self {
        Self { not_after: joined.not_after, renew_at: joined.renew_at(), fault: None }
    }
}

/// Renews the certificate of the link when a third of its life is over. The stream that is open goes on with the old one.
pub(crate) struct Renewal {
    pub(crate) joined: Joined,
    pub(crate) identity: watch::Sender<Arc<ZoneIdentity>>,
    pub(crate) dir: ZoneDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) addresses: Vec<String>,
    pub(crate) shown: watch::Sender<LinkCertificate>,
}

impl Renewal {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RENEW_RETRY.0, RENEW_RETRY.1);
        loop {
            let pause = self.step(&mut backoff).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Renews if it is time; gives how long nothing has to be done.
    async fn step(&mut self, backoff: &mut Backoff) -> Duration {
        let due = (self.joined.renew_at() - self.clock.now()).to_std().unwrap_or_default();
        if !due.is_zero() {
            // The clock may be set meanwhile.
            return due.min(LOOK);
        }
        let renewed = tokio::time::timeout(RENEW_WITHIN, self.renew()).await;
        let fault = match renewed {
            Ok(Ok(())) => {
                backoff.reset();
                self.shown.send_replace(LinkCertificate::of(&self.joined));
                tracing::info!(until = %self.joined.not_after, "renewed the link's certificate");
                return Duration::ZERO;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("global did not answer within {} s", RENEW_WITHIN.as_secs()),
        };
        let hours = (self.joined.not_after - self.clock.now()).num_hours();
        tracing::warn!(fault, "the link's certificate cannot be renewed yet; it holds {hours} more hours");
        self.shown.send_modify(|shown| shown.fault = Some(fault));
        backoff.next(&mut rand::rng()).max(RENEW_RETRY.0)
    }

    async fn renew(&mut self) -> Result<(), RenewalError> {
        let csr = request_for(&self.dir.pending_key()?)?;
        let current = self.identity.borrow().clone();
        let mut last = RenewalError::NoAddress;
        for address in &self.addresses {
            match atoll_link::renew(address, &current, &csr).await {
                Ok(credentials) => {
                    let joined = self.dir.install(&credentials)?;
                    // The next connection uses it.
                    self.identity.send_replace(Arc::new(joined.identity()?));
                    self.joined = joined;
                    return Ok(());
                }
                Err(error) => last = RenewalError::Global(address.clone(), error),
            }
        }
        Err(last)
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error("no address of global is known")]
    NoAddress,
    #[error("{0}: {1}")]
    Global(String, RenewError),
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

#[cfg(test)]
mod tests;
