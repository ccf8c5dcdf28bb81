//! The end of a proxy that serves: withdrawn first, then drained, then stopped.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{bootstrap::Admin, envoy::process::Process};

/// How long the zone may take to withdraw the endpoints.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// How long new connections may still come from peers that have not heard yet.
const LINGER: Duration = Duration::from_secs(1);
/// How often connections are counted.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until the zone has withdrawn the endpoints, but not long: it may be away.
pub async fn withdrawn(mut withdrawn: watch::Receiver<bool>) {
    match tokio::time::timeout(WITHDRAW_TIMEOUT, withdrawn.wait_for(|withdrawn| *withdrawn)).await {
        Ok(Ok(_)) => info!("the zone has withdrawn this proxy's endpoints"),
        Ok(Err(_)) | Err(_) => warn!("the zone did not confirm that this proxy's endpoints are withdrawn"),
    }
}

/// Lets connections finish: until there are none, `limit` is over, Envoy is gone, or `hard` is cancelled.
pub async fn connections(admin: &Admin, process: &mut Process, limit: Duration, hard: &CancellationToken) {
    if limit.is_zero() {
        return;
    }
    for done in [admin.fail_health_checks().await, admin.drain_listeners().await] {
        if let Err(error) = done {
            warn!("draining: {error}");
        }
    }
    let began = Instant::now();
    let finished = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if began.elapsed() < LINGER {
                continue;
            }
            match admin.connections().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => warn!("draining: {error}"),
            }
        }
    };
    tokio::select! {
        () = finished => info!("every connection has finished"),
        () = process.gone() => warn!("Envoy ended while it drained"),
        () = tokio::time::sleep(limit) => info!("the drain time of {limit:?} is over"),
        () = hard.cancelled() => info!("told again to end: connections are cut"),
    }
}
