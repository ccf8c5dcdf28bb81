//! Envoy's admin interface.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};

use crate::bootstrap::Admin;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// Why Envoy did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It cannot be reached.
    #[error("Envoy's admin interface cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses, or says what nobody understands.
    #[error("Envoy's admin interface answered {0}")]
    Answer(String),
}

/// What `/server_info` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerInfo {
    /// `LIVE`, `DRAINING`, `PRE_INITIALIZING` or `INITIALIZING`.
    pub state: String,
    /// Who it is.
    pub node: Node,
}

/// Part of [`ServerInfo`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// `<mesh>.<name>`.
    pub id: String,
}

impl Admin {
    /// State and node id.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn server_info(&self) -> Result<ServerInfo, AdminError> {
        let text = self.call(Method::GET, "/server_info").await?;
        serde_json::from_str(&text).map_err(|error| AdminError::Answer(error.to_string()))
    }

    /// Where Envoy listens.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn listeners(&self) -> Result<BTreeSet<SocketAddr>, AdminError> {
        let text = self.call(Method::GET, "/listeners").await?;
        // A line each: `name::address:port`.
        Ok(text.lines().filter_map(|line| line.rsplit_once("::")?.1.parse().ok()).chain(v6(&text)).collect())
    }

    /// How many updates of its listeners Envoy took.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn updates(&self) -> Result<u64, AdminError> {
        let text = self.call(Method::GET, "/stats?filter=listener_manager.lds.update_success").await?;
        Ok(values(&text).map(|(_, value)| value).sum())
    }

    /// How many connections its listeners hold, the admin interface's left out.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn connections(&self) -> Result<u64, AdminError> {
        let text = self.call(Method::GET, "/stats?usedonly&filter=downstream_cx_active").await?;
        Ok(connections(&text))
    }

    /// Answers health checks with "failed" from now on.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn fail_health_checks(&self) -> Result<(), AdminError> {
        self.call(Method::POST, "/healthcheck/fail").await.map(drop)
    }

    /// Tells peers to go, and closes the inbound listeners after the drain time. Outbounds stay: what the application still does
    /// may need them.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn drain_listeners(&self) -> Result<(), AdminError> {
        self.call(Method::POST, "/drain_listeners?graceful&inboundonly").await.map(drop)
    }

    async fn call(&self, method: Method, path: &str) -> Result<String, AdminError> {
        match tokio::time::timeout(TIMEOUT, self.exchange(method, path)).await {
            Ok(answer) => answer,
            Err(_) => Err(AdminError::Unreachable(format!("no answer in {TIMEOUT:?}"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<String, AdminError> {
        let unreachable = |error: io::Error| AdminError::Unreachable(error.to_string());
        match self {
            Admin::Unix(socket) => request(UnixStream::connect(socket).await.map_err(unreachable)?, method, path).await,
            Admin::Tcp(address) => request(TcpStream::connect(address).await.map_err(unreachable)?, method, path).await,
        }
    }
}

fn values(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| line.rsplit_once(": ")).filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

/// A listener's gauge stands there once for all, and once a worker.
fn connections(text: &str) -> u64 {
    let counts = |name: &str| name.starts_with("listener.") && !name.starts_with("listener.admin.") && !name.contains(".worker_");
    values(text).filter(|(name, _)| counts(name)).map(|(_, value)| value).sum()
}

/// `name::[::1]:80`: the last `::` may stand in the address.
fn v6(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| format!("[{}", line.rsplit_once("::[")?.1).parse().ok())
}

async fn request<S>(stream: S, method: Method, path: &str) -> Result<String, AdminError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let unreachable = |error: hyper::Error| AdminError::Unreachable(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    let request = Request::builder().method(method).uri(path).header("host", "envoy").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| AdminError::Answer(error.to_string()))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| AdminError::Answer(error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(AdminError::Answer(format!("{status}: {}", text.trim()))) }
    };
    tokio::pin!(exchange);
    let mut connection = Box::pin(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(unreachable(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_once() {
        let text = "http.admin.downstream_cx_active: 1\nlistener.127.0.0.1_80.downstream_cx_active: 2\n\
                    listener.127.0.0.1_80.worker_0.downstream_cx_active: 2\nlistener.admin.downstream_cx_active: 1\n\
                    listener.a.downstream_cx_active: 3\n";
        assert_eq!(connections(text), 5);
    }
}
