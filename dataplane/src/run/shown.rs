//! What a runner shows: `/ready`, metrics, and the files that name its processes and hold its names.

use std::sync::{Arc, Mutex};

use atoll_runtime::diagnostics::{self, Diagnostics, Readiness};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    dns::{Table, server::Questions},
    envoy::supervisor::EnvoyStatus,
    folder::{Folder, Status},
};

/// What is counted.
pub(super) struct Metrics {
    pub(super) questions: Questions,
    pub(super) starts: Counter,
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("atoll_dp");
        let (questions, starts) = (Questions::default(), Counter::default());
        registry.register("dns_questions", "DNS questions by outcome", questions.clone());
        registry.register("envoy_starts", "Starts of Envoy by this runner", starts.clone());
        Self { questions, starts, registry: Arc::new(Mutex::new(registry)) }
    }

    /// Serves `/ready` and `/metrics`.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        envoy: watch::Receiver<EnvoyStatus>,
        draining: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let ready = move || match *draining.borrow() {
            true => Readiness::NotReady("terminating".to_owned()),
            false => envoy.borrow().readiness.clone(),
        };
        let diagnostics = Diagnostics { ready: Arc::new(ready), registry: self.registry, metrics_token: None };
        if let Err(error) = diagnostics::serve(listener, diagnostics, stop).await {
            tracing::error!(%error, "readiness cannot be served any more");
        }
    }
}

/// Writes each table down, so that a restarted runner answers at once.
pub(super) async fn keep_names(folder: Arc<Folder>, mut table: watch::Receiver<Arc<Table>>) {
    while table.changed().await.is_ok() {
        let (folder, table) = (folder.clone(), table.borrow_and_update().clone());
        let saved = tokio::task::spawn_blocking(move || folder.save("names.json", &*table)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!("the names cannot be kept for a restart: {error}");
        }
    }
}

/// Writes down which processes run.
pub(super) async fn keep_status(folder: Arc<Folder>, mut status: Status, mut envoy: watch::Receiver<EnvoyStatus>) {
    loop {
        status.envoy_pid = envoy.borrow_and_update().pid;
        if let Err(error) = folder.save("status.json", &status) {
            tracing::warn!("status.json cannot be written: {error}");
        }
        let pid = status.envoy_pid;
        if envoy.wait_for(|envoy| envoy.pid != pid).await.is_err() {
            return;
        }
    }
}
