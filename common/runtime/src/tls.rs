//! TLS 1.3 between Atoll's programs, with certificates that change while the server runs. One provider: ring.

use std::{
    any::Any,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::Stream;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::connections::Connections;

mod pinned;
mod shown;

pub use pinned::{FoundCa, client_config_pinned};
pub use shown::shown;

/// How long a peer may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes that are done and wait to be served.
const READY_MAX: usize = 128;
/// Handshakes at once, in all and from one source: who is not known yet must not cost more.
const HANDSHAKES_MAX: (usize, usize) = (512, 64);

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text does not hold what it should.
    #[error("not a PEM text with {0}")]
    Pem(&'static str),
    /// rustls refuses it.
    #[error("unusable certificate or key")]
    Rustls(#[source] rustls::Error),
    /// Root or client verifier cannot be built.
    #[error("unusable CA certificate: {0}")]
    Verifier(String),
}

/// Makes ring the provider of this process. Call it first in every program and test; more calls do nothing.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A server's certificate and key; replaceable while it serves. Connections that are open keep the old one.
#[derive(Debug)]
pub struct ServerIdentity(ArcSwap<CertifiedKey>);

impl ServerIdentity {
    /// Reads a chain (leaf first) and its key.
    ///
    /// # Errors
    /// When they are no PEM, or do not belong together.
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified_key(chain_pem, key_pem)?))))
    }

    /// Replaces both for new connections.
    ///
    /// # Errors
    /// As [`ServerIdentity::new`]; the old ones stay then.
    pub fn replace(&self, chain_pem: &str, key_pem: &str) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified_key(chain_pem, key_pem)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified_key(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, TlsError> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key_from_pem(key_pem)?).map_err(TlsError::Rustls)?;
    let certified = CertifiedKey::new(chain_from_pem(chain_pem)?, key);
    certified.keys_match().map_err(TlsError::Rustls)?;
    Ok(certified)
}

/// The certificates of a PEM text, at least one.
///
/// # Errors
/// When there is none.
pub fn chain_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Pem("certificates"))
}

/// The private key of a PEM text.
///
/// # Errors
/// When there is none.
pub fn key_from_pem(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::Pem("a private key"))
}

/// The certificates of a PEM text as roots.
///
/// # Errors
/// When there is none, or one is no CA that rustls can use.
pub fn roots_from_pem(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain_from_pem(pem)? {
        roots.add(certificate).map_err(TlsError::Rustls)?;
    }
    Ok(roots)
}

/// Whether a server asks its clients for certificates.
#[derive(Debug)]
pub enum ClientAuth {
    /// It does not.
    None,
    /// Only clients with a certificate of these CAs are served.
    Required(RootCertStore),
    /// Clients may show a certificate. One that is not of these CAs, or does not hold, ends the handshake.
    Optional(RootCertStore),
}

/// A server's settings: TLS 1.3 only, no resumption (a revoked peer must not slip in by an old ticket).
///
/// # Errors
/// When the client CAs cannot be used.
pub fn server_config(identity: Arc<ServerIdentity>, clients: ClientAuth, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Rustls)?;
    let verifier = |roots| WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = match clients {
        ClientAuth::None => None,
        ClientAuth::Required(roots) => Some(verifier(roots)),
        ClientAuth::Optional(roots) => Some(verifier(roots).allow_unauthenticated()),
    };
    let verifier =
        verifier.map(|verifier| verifier.build().map_err(|error| TlsError::Verifier(error.to_string()))).transpose()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The certificate that the client of a connection showed, verified in its handshake. None where it showed none, and where
/// `connection` is not of a [`TlsListener`].
pub fn client_certificate(connection: &dyn Any) -> Option<CertificateDer<'static>> {
    let (_, session) = connection.downcast_ref::<TlsStream<TcpStream>>()?.get_ref();
    session.peer_certificates()?.first().cloned()
}

/// A client's settings: TLS 1.3 only, no resumption. `identity` is its certificate chain and key, if it has one.
///
/// # Errors
/// When certificate and key do not fit.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Rustls)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Rustls)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Connects to `address` (`host:port`) and wants a certificate for `server_name`.
///
/// # Errors
/// When the connection or the handshake fails, or takes longer than 5 s each.
pub async fn connect(address: &str, server_name: &str, config: Arc<ClientConfig>) -> io::Result<client::TlsStream<TcpStream>> {
    let name =
        ServerName::try_from(server_name.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = within(TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    within(TlsConnector::from(config).connect(name, stream)).await
}

async fn within<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, future).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s")),
    }
}

/// Takes connections and ends their TLS, each handshake in a task of its own. For axum (`Listener`) and tonic (`Stream`).
#[derive(Debug)]
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
    stop: CancellationToken,
}

impl TlsListener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, config: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, TlsAcceptor::from(config), sender, stop.clone()));
        Ok(Self { ready, local, stop })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    stop: CancellationToken,
) {
    let unknown = Connections::new(HANDSHAKES_MAX.0, HANDSHAKES_MAX.1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: more would fail at once, so breathe.
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let slot = unknown.admit(peer.ip());
        // The machine's own programs may all come at once, after a restart.
        if slot.is_none() && !peer.ip().is_loopback() {
            tracing::debug!(%peer, "too many handshakes: a connection is refused");
            continue;
        }
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let _ = stream.set_nodelay(true);
            match within(acceptor.accept(stream)).await {
                Ok(stream) => drop(sender.send((stream, peer)).await),
                Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.local)
    }
}

impl Stream for TlsListener {
    type Item = io::Result<TlsStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|accepted| accepted.map(|(stream, _)| Ok(stream)))
    }
}
