//! A closed loop of HTTP/1.1 clients: each connection sends its next request when the answer to the last is complete.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::report::Spread;

/// One request of a workload.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// JSON, or nothing.
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// A read.
    pub(crate) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Vec::new() }
    }

    /// A write of a JSON document.
    pub(crate) fn put(path: String, body: String) -> Self {
        Self { method: Method::PUT, path, body: body.into_bytes() }
    }
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) times: Spread,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// Bytes of all bodies that came back.
    pub(crate) bytes: u64,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.times.n as f64 / self.took.as_secs_f64()
    }
}

/// Who is asked, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    /// `address:port` of every instance; connections are spread over them.
    pub(crate) instances: Vec<String>,
    pub(crate) token: String,
}

/// How long a run goes on.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// This long.
    Time(Duration),
    /// So many requests in all.
    Count(u64),
}

/// Runs `connections` clients; the n-th request of all is `ask(n)`. Every answer must be a success.
pub(crate) async fn run(
    target: &Target,
    connections: usize,
    until: Until,
    ask: impl Fn(u64) -> Ask + Send + Sync + 'static,
) -> Result<Outcome> {
    let (ask, next) = (Arc::new(ask), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for index in 0..connections {
        clients.push(Client::connect(&target.instances[index % target.instances.len()], &target.token).await?);
    }
    let begin = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(client.repeat(begin, until, Arc::clone(&next), Arc::clone(&ask))))
        .collect();
    let (mut times, mut bytes) = (Vec::new(), 0);
    for task in tasks {
        let (own, read) = task.await??;
        times.extend(own);
        bytes += read;
    }
    Ok(Outcome { times: Spread::of(times), took: begin.elapsed(), bytes })
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Client {
    async fn connect(address: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_owned(), authorization: format!("Bearer {token}") })
    }

    async fn repeat<F>(mut self, begin: Instant, until: Until, next: Arc<AtomicU64>, ask: Arc<F>) -> Result<(Vec<f64>, u64)>
    where
        F: Fn(u64) -> Ask,
    {
        let (mut times, mut bytes) = (Vec::new(), 0);
        loop {
            if let Until::Time(limit) = until
                && begin.elapsed() >= limit
            {
                return Ok((times, bytes));
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            if let Until::Count(limit) = until
                && number >= limit
            {
                return Ok((times, bytes));
            }
            let start = Instant::now();
            bytes += self.send(ask(number)).await?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }

    /// Sends one request and reads its whole answer; gives its length.
    async fn send(&mut self, ask: Ask) -> Result<u64> {
        let Ask { method, path, body } = ask;
        let mut request = Request::builder().method(method.clone()).uri(&path).header(header::HOST, &self.host);
        request = request.header(header::AUTHORIZATION, &self.authorization);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let answer = self.sender.send_request(request.body(Full::from(body))?).await?;
        let status = answer.status();
        let read = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&read));
        }
        Ok(read.len() as u64)
    }
}
