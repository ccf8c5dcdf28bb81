//! Point 1: who reaches what, over which hops.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use super::scene::{CATALOG, ORDERS, PATIENCE, Scene, get, until, works};
use crate::lab::{
    control::Request,
    documents::GATEWAY,
    gateway::mesh_name,
    guide::via,
    layout::{GATEWAY_PORT, at},
    member::{AZURE, GCP},
    probe::{self, Outside},
    trace,
};

/// Requests of each pattern; each opens a connection of its own.
const REQUESTS: usize = 7;

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let (azure, gcp) = (via(AZURE), via(GCP));
    let one = pattern(scene, AZURE, CATALOG, &[&gcp, &azure], [0, REQUESTS]).await.context("pattern 1")?;
    pattern(scene, GCP, CATALOG, &[&gcp], [0, 0]).await.context("pattern 2")?;
    pattern(scene, AZURE, ORDERS, &[&azure], [0, 0]).await.context("pattern 3")?;
    mesh_workload(scene).await.context("pattern 4")?;
    both_ways(scene).await.context("pattern 5")?;
    let names = one_certificate(scene).await?;
    let refusal = verification_is_real(scene).await?;
    Ok(format!(
        "{REQUESTS} requests of each pattern; (1) {one}; (2), (3) crossed nothing; (4) mesh workload to the mesh name, {REQUESTS} crossed; \
         (5) with (1), {REQUESTS} crossed each way; {names}; without the mesh name in the certificate: {refusal}"
    ))
}

/// Requests from outside, with the hops that they took. `crossed`: connections that must have come into azure, into gcp.
async fn pattern(scene: &Scene, zone: &str, host: &str, hops: &[&str], crossed: [usize; 2]) -> Result<String> {
    let before = connections(scene).await?;
    requests(&scene.outside(zone, host)?, hops).await?;
    let came = rise(before, connections(scene).await?);
    ensure!(came == crossed.map(|n| n as u64), "ingress connections rose by {came:?} (azure, gcp), expected {crossed:?}");
    Ok(format!("via {}, ingress of gcp +{}", hops.join(" < "), came[1]))
}

async fn requests(client: &Outside, hops: &[&str]) -> Result<()> {
    for _ in 0..REQUESTS {
        let answer = get(client).await?;
        ensure!(answer.via == hops, "via {:?}, expected {hops:?}", answer.via);
    }
    Ok(())
}

async fn connections(scene: &Scene) -> Result<[u64; 2]> {
    Ok([scene.ingress_connections(AZURE).await?, scene.ingress_connections(GCP).await?])
}

fn rise(before: [u64; 2], after: [u64; 2]) -> [u64; 2] {
    [after[0] - before[0], after[1] - before[1]]
}

/// The workload asks its own sidecar's DNS and connects to where that sidecar bound the name.
async fn mesh_workload(scene: &Scene) -> Result<()> {
    let name = mesh_name(GATEWAY, GCP);
    let said = scene.resolve_as_client(&name).await?;
    let bound = *said.addresses.first().with_context(|| format!("{name}: {said:?}"))?;
    let client = Outside::new(&scene.layout().ca(), &name, at(bound.into(), GATEWAY_PORT))?;
    let before = connections(scene).await?;
    requests(&client, &[&via(GCP)]).await?;
    let came = rise(before, connections(scene).await?);
    ensure!(came == [0, REQUESTS as u64], "ingress connections rose by {came:?}");
    Ok(())
}

async fn both_ways(scene: &Scene) -> Result<()> {
    let (azure, gcp) = (via(AZURE), via(GCP));
    let (there, back) = (scene.outside(AZURE, CATALOG)?, scene.outside(GCP, ORDERS)?);
    let before = connections(scene).await?;
    let (out, home) = ([gcp.as_str(), azure.as_str()], [azure.as_str(), gcp.as_str()]);
    tokio::try_join!(requests(&there, &out), requests(&back, &home))?;
    let came = rise(before, connections(scene).await?);
    ensure!(came == [REQUESTS as u64; 2], "ingress connections rose by {came:?}");
    Ok(())
}

/// Two outside names and the mesh name get the same certificate, verified for each.
async fn one_certificate(scene: &Scene) -> Result<String> {
    let address = scene.gateway(GCP)?;
    let mesh = mesh_name(GATEWAY, GCP);
    let names = [CATALOG, ORDERS, mesh.as_str()];
    let ca = scene.layout().ca();
    let shown = try_join_all(names.map(|name| probe::certificate(&ca, name, address))).await?;
    ensure!(shown.iter().all(|der| *der == shown[0]), "{names:?} are not served by one certificate");
    Ok(format!("one certificate for {}", names.join(", ")))
}

/// The gateway in gcp gets a certificate without the mesh's name: azure's must refuse it.
async fn verification_is_real(scene: &Scene) -> Result<String> {
    let gateway = via(GCP);
    let outside_only = Some(vec!["*.acme.corp".to_owned()]);
    scene.ask(Request::Restart { name: gateway.clone(), certificate_names: outside_only }).await?;
    let client = scene.outside(AZURE, CATALOG)?;
    let id = uuid::Uuid::new_v4().to_string();
    let answer = client.open_with("/", "x-request-id", &id).await;
    let logged = trace::logged(&scene.lab()?, AZURE, &id).await;
    scene.restart(&gateway).await?;
    until("the catalog answers again", PATIENCE, async || works(&client).await).await?;
    let (status, why) = (answer?.status().as_u16(), logged?["upstream_failure"].as_str().unwrap_or_default().to_owned());
    ensure!(status == 503 && why.contains("CERTIFICATE_VERIFY_FAILED"), "answered {status}, because of {why:?}");
    let seen = why.split("certificate_SANs_are_").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
    Ok(format!("refused, CERTIFICATE_VERIFY_FAILED (SANs {seen})"))
}
