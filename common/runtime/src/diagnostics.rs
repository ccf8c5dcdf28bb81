//! The diagnostics port: `/healthy`, `/ready` and `/metrics`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the program can do its job, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why.
    NotReady(String),
}

/// What the port shows.
#[derive(Clone)]
pub struct Diagnostics {
    /// Asked at each `/ready`.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The metrics.
    pub registry: Arc<Mutex<Registry>>,
    /// Wanted as a bearer token for `/metrics`, where the port is open to other machines.
    pub metrics_token: Option<String>,
}

/// Why a file gives no token for `/metrics`.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token for metrics in {0} ({1}); write one line with a secret to it")]
    Read(PathBuf, std::io::Error),
    /// There is nothing in it.
    #[error("the token for metrics in {0} is empty; write one line with a secret to it")]
    Empty(PathBuf),
}

/// Reads the token that `/metrics` wants.
///
/// # Errors
/// When the file cannot be read, or holds nothing.
pub fn read_token(path: &Path) -> Result<String, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|error| TokenError::Read(path.to_owned(), error))?;
    let token = text.trim();
    if token.is_empty() { Err(TokenError::Empty(path.to_owned())) } else { Ok(token.to_owned()) }
}

/// Serves until `stop` is cancelled.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, diagnostics: Diagnostics, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthy", get(|| async { "healthy\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(diagnostics);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(diagnostics): State<Diagnostics>) -> impl IntoResponse {
    match (diagnostics.ready)() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(diagnostics): State<Diagnostics>, headers: HeaderMap) -> impl IntoResponse {
    if let Some(token) = &diagnostics.metrics_token {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if given.strip_prefix("Bearer ") != Some(token) {
            return (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "text/plain")], "a bearer token is needed\n".to_owned());
        }
    }
    let mut text = String::new();
    let registry = diagnostics.registry.lock().unwrap_or_else(PoisonError::into_inner);
    let status = match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
