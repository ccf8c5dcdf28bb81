//! Point 7: the only endpoint of a service goes, and returns.

use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::scene::{CATALOG, PATIENCE, Scene, ms, until, works};
use crate::lab::{
    documents::GATEWAY,
    layout::{GATEWAY_PORT, MESH},
    member::{AZURE, GCP},
};

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let client = scene.outside(AZURE, CATALOG)?;
    let sidecar = format!("{GCP}-sidecar");
    let start = Instant::now();
    let process = scene.process(&sidecar)?;
    process.signal(Signal::SIGTERM);
    let lost = until("azure's sidecar loses the endpoint", PATIENCE, async || has_endpoint(scene).await == Some(false)).await;
    let gone = until("gcp's sidecar ends", PATIENCE, async || !process.is_alive()).await;
    let ended = start.elapsed();
    scene.restart(&sidecar).await?;
    let returned = Instant::now();
    until("azure's sidecar has the endpoint again", PATIENCE, async || has_endpoint(scene).await == Some(true)).await?;
    until("the catalog answers again", PATIENCE, async || works(&client).await).await?;
    let (lost, _) = (lost?, gone?);
    Ok(format!(
        "azure's sidecar lost the endpoint {} after the SIGTERM (the proxy drained and ended after {}); the catalog answered {} after the \
         proxy was ready again",
        ms(lost),
        ms(ended),
        ms(returned.elapsed())
    ))
}

/// Whether azure's sidecar has an endpoint for gcp's gateway.
async fn has_endpoint(scene: &Scene) -> Option<bool> {
    let clusters = scene.admin(&format!("{AZURE}-sidecar")).ok()?.get("/clusters").await.ok()?;
    let prefix = format!("kri_msvc_{MESH}_{GCP}__{GATEWAY}_{GATEWAY_PORT}::");
    let lines: Vec<&str> = clusters.lines().filter(|line| line.starts_with(&prefix)).collect();
    if lines.is_empty() {
        return None;
    }
    Some(lines.iter().any(|line| line.contains("::cx_active::")))
}
