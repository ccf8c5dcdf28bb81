//! The request itself, sent so that its TLS session can be looked at.

use std::{net::SocketAddr, path::Path, time::Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What the client saw.
#[derive(Debug)]
pub struct Sent {
    /// `x-request-id`.
    pub id: String,
    /// The host that was asked for.
    pub host: String,
    /// Where.
    pub address: SocketAddr,
    /// The client's end.
    pub local: SocketAddr,
    /// TLS version and ALPN, as negotiated.
    pub tls: String,
    /// The names in the certificate that was shown, and who signed it.
    pub certificate: String,
    /// Milliseconds until connected, until the handshake was done, until the first byte, until the last.
    pub milliseconds: [f64; 4],
    /// Status of the answer.
    pub status: u16,
    /// `via` of the answer.
    pub via: String,
    /// Bytes of the body.
    pub body: String,
}

/// Asks `host` at `address` for `/`.
pub async fn send(ca: &Path, host: &str, address: SocketAddr) -> Result<Sent> {
    let roots = atoll_runtime::tls::roots_from_pem(&std::fs::read_to_string(ca)?)?;
    let config = atoll_runtime::tls::client_config(roots, None, &[b"http/1.1"])?;
    let id = uuid::Uuid::new_v4().to_string();
    let start = Instant::now();
    let stream = tokio::net::TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let connected = start.elapsed();
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.context("the TLS handshake failed")?;
    let handshaken = start.elapsed();
    let (tls, certificate) = session(stream.get_ref().1);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let request = Request::get("/").header("host", host).header("x-request-id", &id).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let first = start.elapsed();
    let status = response.status().as_u16();
    let via = response.headers().get_all("via").iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(", ");
    let body = String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned();
    let milliseconds = [connected, handshaken, first, start.elapsed()].map(|time| time.as_secs_f64() * 1000.0);
    running.abort();
    Ok(Sent { id, host: host.to_owned(), address, local, tls, certificate, milliseconds, status, via, body })
}

fn session(session: &rustls::ClientConnection) -> (String, String) {
    let version = session.protocol_version().and_then(|version| version.as_str().map(str::to_owned)).unwrap_or_default();
    let alpn = session.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()).unwrap_or_default();
    let shown = session.peer_certificates().and_then(|chain| chain.first()).and_then(|der| describe(der));
    (format!("{version}, ALPN {alpn}"), shown.unwrap_or_default())
}

fn describe(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(format!("{} (by {})", names.collect::<Vec<_>>().join(", "), certificate.issuer()))
}
