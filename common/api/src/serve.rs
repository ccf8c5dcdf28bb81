//! Connections of the REST ports: HTTP/1.1 and HTTP/2 with limits that `axum::serve` does not set.

use std::{any::Any, net::SocketAddr, time::Duration};

use atoll_runtime::tls;
use axum::{Router, body::Body, response::Response, serve::Listener};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, service_fn};

mod gate;
mod hosts;
mod timed;

pub use gate::{Gate, ShedCounts};
pub use hosts::Hosts;
use timed::{Activity, Timed};

use crate::{Limits, access::Shown};

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// What a request's first line, and the marks between its header fields, may take beside path, names and values.
const HEADER_SLACK: usize = 4 << 10;
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

/// Serves what passes `gate` until `stop` is cancelled, then lets running requests finish.
pub async fn serve<L>(mut listener: L, router: Router, scheme: Scheme, gate: Gate, stop: CancellationToken)
where
    L: Listener<Addr = SocketAddr>,
{
    let builder = builder(gate.limits());
    let graceful = GracefulShutdown::new();
    loop {
        let (io, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Some(slot) = gate.admit(address.ip()) else {
            tracing::debug!(peer.address = %address, "too many connections: one is refused");
            continue;
        };
        // TLS listeners do this before the handshake; small answers must not wait for acknowledgements here either.
        if let Some(plain) = (&io as &dyn Any).downcast_ref::<TcpStream>() {
            let _ = plain.set_nodelay(true);
        }
        let peer = Peer { address, tls: scheme == Scheme::Https };
        // Only what TLS verified on this very connection says who asks; nothing in a request does.
        let shown = tls::client_certificate(&io).map(|certificate| Shown::of(&certificate));
        let activity = Activity::default();
        let io = Timed::new(io, gate.limits(), activity.clone());
        let (router, gate, stopping) = (router.clone(), gate.clone(), Stopping(stop.clone()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let running = activity.begin();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(stopping.clone());
            if let Some(shown) = &shown {
                request.extensions_mut().insert(shown.clone());
            }
            let (router, gate) = (router.clone(), gate.clone());
            async move { Ok::<Response, std::convert::Infallible>(running.hold(gate.pass(router, request.map(Body::new)).await)) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(service));
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            let _slot = slot;
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

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let head = limits.limit_header.saturating_add(limits.limit_url).saturating_add(HEADER_SLACK);
    // The exact limits are the gate's; these keep hyper from holding more than that in memory.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.limit_header_fields)
        .max_buf_size(head.max(8 << 10))
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(20))
        .max_local_error_reset_streams(Some(1024))
        .keep_alive_interval(Some(Duration::from_secs(15)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// The router, as the gate asks it.
async fn answer(router: Router, request: Request<Body>) -> Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
