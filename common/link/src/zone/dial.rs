//! Connections to global's link port.

use std::{io, sync::Arc};

use atoll_runtime::tls;
use atoll_sync::proto;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use super::{ZoneIdentity, join::read_credentials};
use crate::{
    Credentials,
    global::{KEEPALIVE, KEEPALIVE_TIMEOUT, MESSAGE_MAX, WINDOW},
    identity::spki_of_request,
    services::link_client::LinkClient,
};

/// The name in the certificates of every global, whatever its address.
pub(crate) const SERVER_NAME: &str = "global-cp.atoll.internal";

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// Nobody answers, or TLS fails.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// The zone's own certificate cannot be used.
    #[error("this zone's certificate cannot be used: {0}")]
    Tls(#[source] tls::TlsError),
    /// Global does not want this zone.
    #[error("global refuses this zone: {0}")]
    Refused(String),
    /// Something else; it may work later.
    #[error("global cannot serve now: {0}")]
    Failed(String),
}

/// Opens a session's stream.
pub(super) async fn open(
    address: &str,
    identity: &ZoneIdentity,
    outgoing: mpsc::Receiver<proto::ToGlobal>,
) -> Result<Streaming<proto::ToZone>, DialError> {
    let mut client = client(address, identity).await?;
    let response = client.session(ReceiverStream::new(outgoing)).await.map_err(refusal)?;
    Ok(response.into_inner())
}

async fn client(address: &str, identity: &ZoneIdentity) -> Result<LinkClient<Channel>, DialError> {
    let shown = Some((identity.chain.clone(), identity.key.clone_key()));
    let config = tls::client_config(identity.roots.clone(), shown, &[b"h2"]).map_err(DialError::Tls)?;
    let channel = channel(address, config).await.map_err(DialError::Unreachable)?;
    Ok(LinkClient::new(channel).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
}

/// Connects once and speaks HTTP/2.
pub(super) async fn channel(address: &str, config: Arc<ClientConfig>) -> io::Result<Channel> {
    let stream = tls::connect(address, SERVER_NAME, config).await?;
    let mut once = Some(TokioIo::new(stream));
    let connector = service_fn(move |_: Uri| {
        let taken = once.take().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection was lost"));
        std::future::ready(taken)
    });
    // TLS is ended here already; tonic refuses an https URI without TLS of its own.
    Endpoint::from_static("http://global-cp.atoll.internal")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(io::Error::other)
}

fn refusal(status: Status) -> DialError {
    let text = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied | Code::AlreadyExists | Code::Unauthenticated => DialError::Refused(text),
        _ => DialError::Failed(text),
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It may work later.
    #[error("cannot renew now: {0}")]
    Unavailable(String),
    /// Global does not want this zone.
    #[error("global refuses to renew: {0}")]
    Refused(String),
}

/// Asks global for a new certificate, with the one that the zone has. `csr` is a PKCS#10 request, DER.
///
/// # Errors
/// When global cannot be reached or refuses.
pub async fn renew(address: &str, identity: &ZoneIdentity, csr: &[u8]) -> Result<Credentials, RenewError> {
    let spki = spki_of_request(csr).ok_or_else(|| RenewError::Refused("the certificate request cannot be read".to_owned()))?;
    let request = proto::RenewRequest { csr_der: bytes::Bytes::copy_from_slice(csr), spki_der: spki.into() };
    let mut client = client(address, identity).await.map_err(renew_error)?;
    let answer = client.renew(request).await.map_err(|status| renew_error(refusal(status)))?;
    read_credentials(answer.into_inner()).ok_or_else(|| RenewError::Unavailable("the answer cannot be read".to_owned()))
}

fn renew_error(error: DialError) -> RenewError {
    match error {
        DialError::Refused(reason) => RenewError::Refused(reason),
        DialError::Unreachable(_) | DialError::Tls(_) | DialError::Failed(_) => RenewError::Unavailable(error.to_string()),
    }
}
