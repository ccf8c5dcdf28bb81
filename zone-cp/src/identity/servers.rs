//! Keeps the certificate of the zone's ports alive while the program runs.

use std::{sync::Arc, time::Duration};

use atoll_model::Clock;
use atoll_runtime::tls::{ServerIdentity, TlsError};
use atoll_trust::ca::{CaError, SERVER_LIFE, ServerCertificate, ServerNames, ZoneCa};
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

/// How often the certificate's age is looked at.
const LOOK: Duration = Duration::from_secs(3600);

/// Why there is no server certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The CA does not sign.
    #[error("cannot make a server certificate")]
    Ca(#[from] CaError),
    /// rustls does not take it.
    #[error("cannot use the server certificate")]
    Tls(#[from] TlsError),
}

/// The certificate of the zone's servers: made at each start, and again when a third of its life is left.
pub struct Servers {
    ca: Arc<ZoneCa>,
    names: ServerNames,
    clock: Arc<dyn Clock>,
    rng: StdRng,
    identity: Arc<ServerIdentity>,
    made: ServerCertificate,
}

impl Servers {
    /// Makes the first certificate, for `names` beside the fixed one.
    ///
    /// # Errors
    /// When a name is no DNS name, or the CA expired.
    pub fn new(ca: Arc<ZoneCa>, names: ServerNames, clock: Arc<dyn Clock>, mut rng: StdRng) -> Result<Self, ServersError> {
        let made = ca.issue_server(&names, SERVER_LIFE, clock.now(), &mut rng)?;
        let identity = ServerIdentity::new(&made.chain_pem, made.key_pem.expose())?;
        Ok(Self { ca, names, clock, rng, identity, made })
    }

    /// What TLS listeners show.
    pub fn identity(&self) -> Arc<ServerIdentity> {
        Arc::clone(&self.identity)
    }

    /// Renews until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.made.not_after - self.clock.now() > SERVER_LIFE / 3 {
                continue;
            }
            match self.renew() {
                Ok(()) => tracing::info!("the zone's servers have a new certificate"),
                Err(error) => tracing::warn!(%error, "the zone's servers keep their old certificate"),
            }
        }
    }

    fn renew(&mut self) -> Result<(), ServersError> {
        let made = self.ca.issue_server(&self.names, SERVER_LIFE, self.clock.now(), &mut self.rng)?;
        self.identity.replace(&made.chain_pem, made.key_pem.expose())?;
        self.made = made;
        Ok(())
    }
}
