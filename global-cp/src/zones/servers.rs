//! Keeps the certificate of global's servers alive while the program runs.

use std::{sync::Arc, time::Duration};

use atoll_model::Clock;
use atoll_runtime::tls::{ServerIdentity, TlsError};
use atoll_trust::ca::{CaError, SERVER_LIFE, ServerCertificate, ServerNames};
use tokio_util::sync::CancellationToken;

use super::ZoneRegistry;

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

/// The certificate of global's servers: made at each start, and again at two thirds of its life.
pub struct Servers {
    registry: ZoneRegistry,
    names: ServerNames,
    identity: Arc<ServerIdentity>,
    made: ServerCertificate,
}

impl Servers {
    /// Makes the first certificate, for `names` beside the fixed one.
    ///
    /// # Errors
    /// When a name is no DNS name, or the CA expired.
    pub fn new(registry: ZoneRegistry, names: ServerNames) -> Result<Self, ServersError> {
        let made = issue(&registry, &names)?;
        let identity = ServerIdentity::new(&made.chain_pem, made.key_pem.expose())?;
        Ok(Self { registry, names, identity, made })
    }

    /// What TLS listeners show.
    pub fn identity(&self) -> Arc<ServerIdentity> {
        Arc::clone(&self.identity)
    }

    /// Renews until `stop` is cancelled.
    pub async fn run(mut self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.made.not_after - clock.now() > SERVER_LIFE / 3 {
                continue;
            }
            match self.renew() {
                Ok(()) => tracing::info!("global's servers have a new certificate"),
                Err(error) => tracing::warn!(%error, "global's servers keep their old certificate"),
            }
        }
    }

    fn renew(&mut self) -> Result<(), ServersError> {
        let made = issue(&self.registry, &self.names)?;
        self.identity.replace(&made.chain_pem, made.key_pem.expose())?;
        self.made = made;
        Ok(())
    }
}

fn issue(registry: &ZoneRegistry, names: &ServerNames) -> Result<ServerCertificate, CaError> {
    let (keys, now) = (registry.keys(), registry.now());
    registry.with_rng(|rng| keys.ca.issue_server(names, SERVER_LIFE, now, rng))
}
