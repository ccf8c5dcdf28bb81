//! Point 6: a zone plane is killed; its Envoys serve on, and its return changes nothing in them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::scene::{PATIENCE, Scene, ms, until};
use crate::lab::{admin::Admin, member::GCP};

/// Counters that a change, or a refusal, would move.
const COUNTERS: &str = r"^(cluster_manager\.cluster_(added|modified|removed)|listener_manager\.listener_(added|modified|removed)|.*\.update_rejected)$";
/// How long the plane stays away, and how long after its return we watch.
const AWAY: Duration = Duration::from_secs(2);
const WATCH: Duration = Duration::from_secs(3);

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let load = scene.load()?;
    let admins = [scene.admin(&format!("{GCP}-sidecar"))?, scene.admin(&format!("{GCP}-ingress"))?];
    let before = counters(&admins).await?;
    scene.signal(GCP, Signal::SIGKILL).await?;
    tokio::time::sleep(AWAY).await;
    let start = std::time::Instant::now();
    scene.restart(GCP).await?;
    for admin in &admins {
        until("Envoy has its plane again", PATIENCE, async || is_connected(admin).await).await?;
    }
    let back = start.elapsed();
    tokio::time::sleep(WATCH).await;
    let after = counters(&admins).await?;
    let good = load.end().await?;
    ensure!(before == after, "Envoy's counters moved from {before:?} to {after:?}");
    let count: usize = before.iter().map(BTreeMap::len).sum();
    Ok(format!(
        "{good} requests, 0 failed; Envoys connected again {} after the restart; none of {count} counters moved",
        ms(back)
    ))
}

async fn counters(admins: &[Admin]) -> Result<Vec<BTreeMap<String, u64>>> {
    let mut all = Vec::new();
    for admin in admins {
        let found = admin.stats(COUNTERS).await?;
        ensure!(found.len() >= 6, "too few counters at {admin}: {found:?}");
        all.push(found);
    }
    Ok(all)
}

async fn is_connected(admin: &Admin) -> bool {
    admin.sum(r"^control_plane\.connected_state$").await.is_ok_and(|connected| connected == 1)
}
