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

#[cfg(test)]
mod tests {
    use atoll_model::ZoneUid;
    use atoll_runtime::tls::{self, ClientAuth};
    use atoll_store::testing::TestStore;
    use atoll_trust::{
        PrivateKey, ZonePeer,
        ca::{ControlPlaneCa, GLOBAL_SERVER_NAME},
    };
    use rand::{SeedableRng, rngs::StdRng};
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
    use uuid::Uuid;

    use super::*;
    use crate::zones::GlobalKeys;

    /// A handshake in memory, to its end on both sides.
    fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Result<(), rustls::Error> {
        let mut client = ClientConnection::new(client, name.to_owned().try_into().unwrap())?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            client.write_tls(&mut up).unwrap();
            server.read_tls(&mut up.as_slice()).unwrap();
            server.process_new_packets()?;
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
            client.read_tls(&mut down.as_slice()).unwrap();
            client.process_new_packets()?;
            while client.wants_write() {
                let mut up = Vec::new();
                client.write_tls(&mut up).unwrap();
                server.read_tls(&mut up.as_slice()).unwrap();
                server.process_new_packets()?;
            }
        }
        Ok(())
    }

    struct Global {
        server: Arc<ServerConfig>,
        ca: ControlPlaneCa,
        clock: Arc<atoll_runtime::clock::SystemClock>,
    }

    /// Rustls looks at the real clock.
    async fn global() -> Global {
        tls::install_provider();
        let test = TestStore::sqlite().await.unwrap();
        let (clock, mut rng) = (Arc::new(atoll_runtime::clock::SystemClock), StdRng::seed_from_u64(1));
        let keys = Arc::new(GlobalKeys::open(&test.store, clock.now(), &mut rng).await.unwrap());
        let ca = ControlPlaneCa::load(keys.ca.cert_pem(), keys.ca.key_pem().expose()).unwrap();
        let registry = ZoneRegistry::new(test.store.clone(), keys, clock.clone(), rng);
        let servers = Servers::new(registry, ServerNames::of(["localhost", "127.0.0.1"])).unwrap();
        let zones = ClientAuth::Required(tls::roots_from_pem(ca.cert_pem()).unwrap());
        let server = tls::server_config(servers.identity(), zones, &[b"h2"]).unwrap();
        Global { server, ca, clock }
    }

    /// A zone's client, that trusts `trusts` and has a certificate of `signer`.
    fn zone(trusts: &ControlPlaneCa, signer: &ControlPlaneCa, now: atoll_model::Timestamp) -> Arc<ClientConfig> {
        let key = PrivateKey::generate().unwrap();
        let peer = ZonePeer { cluster: Uuid::from_u128(1), zone: ZoneUid(Uuid::from_u128(2)), instance: "1".to_owned() };
        let made = signer.issue_zone(&key.request().unwrap(), &peer, now, &mut StdRng::seed_from_u64(2)).unwrap();
        let (chain, key) = (tls::chain_from_pem(&made.chain_pem).unwrap(), tls::key_from_pem(key.to_pem().expose()).unwrap());
        tls::client_config(tls::roots_from_pem(trusts.cert_pem()).unwrap(), Some((chain, key)), &[b"h2"]).unwrap()
    }

    #[tokio::test]
    async fn zones_and_global_know_each_other_by_whatever_name_they_dial() {
        let global = global().await;
        let client = zone(&global.ca, &global.ca, global.clock.now());
        for name in [GLOBAL_SERVER_NAME, "localhost", "127.0.0.1"] {
            assert_eq!(handshake(client.clone(), global.server.clone(), name), Ok(()), "{name}");
        }
        assert!(handshake(client, global.server, "elsewhere.example").is_err());
    }

    #[tokio::test]
    async fn strangers_on_either_side_are_refused() {
        let global = global().await;
        let now = global.clock.now();
        let other = ControlPlaneCa::generate(Uuid::from_u128(5), now, &mut StdRng::seed_from_u64(3)).unwrap();
        // A certificate of another cluster, and a global that is not ours.
        assert!(handshake(zone(&global.ca, &other, now), global.server.clone(), GLOBAL_SERVER_NAME).is_err());
        assert!(handshake(zone(&other, &global.ca, now), global.server.clone(), GLOBAL_SERVER_NAME).is_err());
        // Nobody at all.
        let nobody = tls::client_config(tls::roots_from_pem(global.ca.cert_pem()).unwrap(), None, &[b"h2"]).unwrap();
        assert!(handshake(nobody, global.server, GLOBAL_SERVER_NAME).is_err());
    }

    #[tokio::test]
    async fn a_server_certificate_is_no_zones() {
        let global = global().await;
        let mut rng = StdRng::seed_from_u64(5);
        let made = global.ca.issue_server(&ServerNames::default(), SERVER_LIFE, global.clock.now(), &mut rng).unwrap();
        let identity = (tls::chain_from_pem(&made.chain_pem).unwrap(), tls::key_from_pem(made.key_pem.expose()).unwrap());
        let client = tls::client_config(tls::roots_from_pem(global.ca.cert_pem()).unwrap(), Some(identity), &[b"h2"]).unwrap();
        assert!(handshake(client, global.server, GLOBAL_SERVER_NAME).is_err());
    }
}
