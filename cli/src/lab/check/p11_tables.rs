//! Point 11: what global keeps can be read with `psql`.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::scene::Scene;
use crate::lab::{
    documents::permission_name,
    member::{AZURE, GCP},
    postgres,
};

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let services = psql(
        scene,
        "select owner || '/' || name || ' ' || (spec->'ports'->0->>'port') from documents where kind = 'MeshService' order by 1",
    )
    .await?;
    for zone in [AZURE, GCP] {
        let expected = format!("{zone}/api-gateway 8443");
        ensure!(services.contains(&expected), "no {expected} among {services:?}");
    }
    let policies = psql(scene, "select kind || ' ' || name from documents where kind in ('MeshTrafficPermission', 'MeshTLS', 'HostnameGenerator', 'MeshIdentity') order by 1").await?;
    let permission = format!("MeshTrafficPermission {}", permission_name(AZURE));
    ensure!(policies.contains(&permission), "no {permission} among {policies:?}");
    let history = psql(scene, "select revision || ' ' || subject || ' ' || action || ' ' || kind || ' ' || name from history order by history.revision desc limit 3").await?;
    ensure!(!history.is_empty(), "the history is empty");
    let counter = psql(scene, "select revision from counter").await?;
    let newest = psql(scene, "select max(revision) from resources").await?;
    let (counter, newest) = (number(&counter)?, number(&newest)?);
    ensure!(newest <= counter, "a resource has revision {newest}, the counter says {counter}");
    Ok(format!(
        "documents: services {}; {} policies; history, newest first: {}; revision {counter}",
        services.join(", "),
        policies.len(),
        history.join(" | ")
    ))
}

/// Rows of one column.
async fn psql(scene: &Scene, query: &str) -> Result<Vec<String>> {
    let state = scene.lab()?.state();
    let known = state.postgres.context("this lab is not on Postgres")?;
    let psql = postgres::binaries().context("Postgres' binaries are gone")?.join("psql");
    let output = tokio::process::Command::new(psql)
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", query, &postgres::url(scene.layout(), &known)])
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn number(rows: &[String]) -> Result<u64> {
    rows.first().and_then(|row| row.parse().ok()).with_context(|| format!("no number in {rows:?}"))
}
