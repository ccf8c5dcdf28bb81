//! The services behind the gateways: a small HTTP server that says who it is and what it was asked.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Flags of `atoll lab backend`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Which service it plays.
    #[arg(long)]
    service: String,
    /// The zone that it says it is in.
    #[arg(long)]
    zone: String,
}

/// Serves until the process is ended.
pub async fn run(args: Args) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
    let who: &'static Args = Box::leak(Box::new(args));
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request| async move { Ok::<_, Infallible>(answer(who, peer, &request)) });
            // A client that goes away is its own affair.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(who: &Args, peer: SocketAddr, request: &Request<Incoming>) -> Response<Body> {
    let mut response = match request.uri().path() {
        "/stream" => Response::new(ticks(request.uri())),
        _ => Response::new(document(who, peer, request)),
    };
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn document(who: &Args, peer: SocketAddr, request: &Request<Incoming>) -> Body {
    let items = match who.service.as_str() {
        "catalog" => json!([{"sku": "1001", "name": "sea chart"}, {"sku": "1002", "name": "compass"}]),
        "orders" => json!([{"order": "7", "sku": "1001", "count": 2}]),
        _ => json!([]),
    };
    let seen = json!({
        "service": who.service, "zone": who.zone, "items": items, "path": request.uri().path(), "peer": peer.to_string(),
        "host": text(request.headers(), "host"), "via": text(request.headers(), "via"),
        "request_id": text(request.headers(), "x-request-id"),
    });
    Full::new(Bytes::from(format!("{seen}\n"))).boxed_unsync()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A line each `every` milliseconds, `count` of them.
fn ticks(uri: &Uri) -> Body {
    let every = Duration::from_millis(number(uri, "every").unwrap_or(100).max(1));
    let count = number(uri, "count").unwrap_or(100);
    StreamBody::new(lines(every, count)).boxed_unsync()
}

fn lines(every: Duration, count: u64) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    futures::stream::iter(0..count).then(move |n| async move {
        if n > 0 {
            tokio::time::sleep(every).await;
        }
        Ok(Frame::data(Bytes::from(format!("{{\"tick\":{n}}}\n"))))
    })
}

fn number(uri: &Uri, name: &str) -> Option<u64> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}
