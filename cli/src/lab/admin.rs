//! Envoy: where its program is, and what its admin interface says.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::layout::in_path;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// Envoy's program: `$ENVOY`, the project's cache, or PATH.
pub fn program(project: &Path) -> Result<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let cached = project.join(".cache/envoy/envoy");
    let candidates = [named, Some(cached), in_path("envoy")];
    let found = candidates.into_iter().flatten().find(|file| file.is_file());
    found.context("no Envoy is found: `make envoy` fetches one, or set ENVOY to its path")
}

/// The admin interface of one Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// At an address.
    Tcp(SocketAddr),
    /// At a socket.
    Unix(PathBuf),
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Admin {
    /// Asks for `path`.
    pub async fn get(&self, path: &str) -> Result<String> {
        let asked = async {
            match self {
                Self::Tcp(address) => ask(tokio::net::TcpStream::connect(address).await?, path).await,
                Self::Unix(socket) => ask(tokio::net::UnixStream::connect(socket).await?, path).await,
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.with_context(|| format!("Envoy's admin interface at {self}")),
            Err(_) => bail!("Envoy's admin interface at {self} does not answer"),
        }
    }

    /// Asks for `path` and reads JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get(path).await?)?)
    }

    /// Whether it is live and serves.
    pub async fn is_ready(&self) -> bool {
        self.get("/ready").await.is_ok_and(|text| text.contains("LIVE"))
    }

    /// Counters and gauges whose names match the regular expression `filter`.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let answer = self.json(&format!("/stats?format=json&filter={}", escape(filter))).await?;
        let all = answer["stats"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?))).collect())
    }

    /// The sum of the counters whose names match.
    pub async fn sum(&self, filter: &str) -> Result<u64> {
        Ok(self.stats(filter).await?.values().sum())
    }
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, path: &str) -> Result<String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let request = Request::get(path).header("host", "admin").body(Full::<Bytes>::default())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    running.abort();
    let text = String::from_utf8_lossy(&body).into_owned();
    // `/ready` says why it is not with 503; the caller reads the text.
    if status.is_client_error() {
        bail!("{status}: {text}");
    }
    Ok(text)
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
