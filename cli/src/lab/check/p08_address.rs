//! Point 8: a zone publishes the address of its ingress by itself, and withdraws it.

use std::time::Instant;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::scene::{CATALOG, PATIENCE, Scene, ms, until, works};
use crate::lab::{
    layout::{INGRESS_PORT, MESH},
    member::{AZURE, GCP},
    rest::Plane,
};

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let global = scene.global()?;
    let address = scene.lab()?.zone(GCP)?.ingress().to_string();
    ensure!(publishes(&global, &address).await == Some(true), "{address}:{INGRESS_PORT} of gcp is not published");
    let ingress = format!("{GCP}-ingress");
    let start = Instant::now();
    let process = scene.process(&ingress)?;
    process.signal(Signal::SIGTERM);
    let withdrawn = until("the address is withdrawn", PATIENCE, async || publishes(&global, &address).await == Some(false)).await;
    until("gcp's ingress ends", PATIENCE, async || !process.is_alive()).await?;
    let ended = start.elapsed();
    scene.restart(&ingress).await?;
    let returned = Instant::now();
    until("the address is published again", PATIENCE, async || publishes(&global, &address).await == Some(true)).await?;
    let published = returned.elapsed();
    let client = scene.outside(AZURE, CATALOG)?;
    until("the catalog answers again", PATIENCE, async || works(&client).await).await?;
    Ok(format!(
        "{address}:{INGRESS_PORT} withdrawn on global {} after the ingress' SIGTERM (it ended after {}), published again {} after it was \
         ready, and the catalog answers",
        ms(withdrawn?),
        ms(ended),
        ms(published)
    ))
}

/// Whether global shows gcp's address.
async fn publishes(global: &Plane, address: &str) -> Option<bool> {
    let all = global.list(&format!("/meshes/{MESH}/meshzoneaddresses")).await.ok()?;
    let is_gcps = |item: &Value| item["labels"]["kuma.io/zone"] == GCP && item["spec"]["address"] == address;
    Some(all.iter().any(|item| is_gcps(item) && item["spec"]["port"] == INGRESS_PORT))
}
