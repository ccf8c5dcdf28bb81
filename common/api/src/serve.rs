//! Connections of the REST ports: HTTP/1.1 and HTTP/2 with limits that `axum::serve` does not set.

use std::{any::Any, net::SocketAddr, time::Duration};

use axum::{Router, serve::Listener};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long the header of a request may take, and how long a connection may be idle before it.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// Bytes of all headers of a request.
const HEADER_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// How long requests that run may take when the plane stops.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address of the other side.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// Fires when the plane stops: answers that stream end then, so that nobody waits for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopping(CancellationToken);

impl Stopping {
    /// Waits for the stop; for ever, if the request came by no listener.
    pub(crate) async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

/// Whether a listener's connections are TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

/// Serves until `stop` is cancelled, then lets running requests finish.
pub async fn serve<L>(mut listener: L, router: Router, scheme: Scheme, stop: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let builder = builder();
    let graceful = GracefulShutdown::new();
    loop {
        let (io, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        // TLS listeners do this before the handshake; small answers must not wait for acknowledgements here either.
        if let Some(plain) = (&io as &dyn Any).downcast_ref::<TcpStream>() {
            let _ = plain.set_nodelay(true);
        }
        let peer = Peer { address, tls: scheme == Scheme::Https };
        let stopping = Stopping(stop.clone());
        let service = router.clone().map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(stopping.clone());
            request
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(service));
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(peer.address = %address, %error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::info!("some requests did not end within {DRAIN_TIME:?}");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_MAX as u32)
        .keep_alive_interval(Some(Duration::from_secs(15)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
