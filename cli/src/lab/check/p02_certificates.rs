//! Point 2: what an outsider sees of the mesh at an ingress and at a gateway, with `openssl s_client`.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, parse_x509_pem};

use super::scene::{CATALOG, Scene, get};
use crate::lab::{
    documents::{GATEWAY, gateway_sni, trust_domain},
    layout::{GATEWAY_PORT, INGRESS_PORT, at},
    member::GCP,
};

/// The longest life of a workload's certificate, with room for the clock.
const LIFE_HOURS: i64 = 25;

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let ingress = at(scene.lab()?.zone(GCP)?.ingress(), INGRESS_PORT).to_string();
    let sni = gateway_sni(GCP);
    let shown = s_client(&ingress, &["-servername", &sni, "-alpn", "kuma"]).await?;
    let certificate = describe(&shown).with_context(|| format!("with {sni}: {shown}"))?;
    ensure!(
        shown.contains("certificate required") || shown.contains("alert"),
        "not refused without a client certificate: {shown}"
    );
    ensure!(!shown.contains("HTTP/1.1 200"), "an outsider got an answer: {shown}");
    let unknown = format!("sni.msvc.default.{GCP}.nobody.{GATEWAY_PORT}");
    for (what, args) in [("an unknown SNI", ["-servername", &unknown]), ("no SNI", ["-noservername", "-no_ticket"])] {
        let shown = s_client(&ingress, &[&args[..], &["-alpn", "kuma"]].concat()).await?;
        ensure!(!shown.contains("BEGIN CERTIFICATE"), "{what} got a certificate: {shown}");
    }
    let same = same_address(scene).await?;
    Ok(format!("{certificate}; refused without a client certificate; unknown SNI and no SNI closed; {same}"))
}

/// Connects, asks for `/`, and gives all that openssl prints.
async fn s_client(address: &str, args: &[&str]) -> Result<String> {
    let mut child = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", address, "-showcerts", "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("openssl is needed for this point")?;
    if let Some(mut input) = child.stdin.take() {
        // A peer that has closed already is what the caller looks for.
        let _ = input.write_all(b"GET / HTTP/1.1\r\nhost: catalog.acme.corp\r\nconnection: close\r\n\r\n").await;
    }
    let output = tokio::time::timeout(std::time::Duration::from_secs(15), child.wait_with_output()).await;
    let output = output.context("the connection stays open")??;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// The workload certificate in what openssl printed: one URI, in the zone's trust domain, short-lived.
fn describe(shown: &str) -> Result<String> {
    let start = shown.find("-----BEGIN CERTIFICATE-----").context("no certificate")?;
    let (_, pem) = parse_x509_pem(&shown.as_bytes()[start..]).map_err(|error| anyhow::anyhow!("{error}"))?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|error| anyhow::anyhow!("{error}"))?;
    let names = certificate.subject_alternative_name()?.context("no SAN")?;
    let [GeneralName::URI(id)] = names.value.general_names[..] else { bail!("SANs {:?}", names.value.general_names) };
    let expected = format!("spiffe://{}/workload/{GATEWAY}", trust_domain(GCP));
    ensure!(id == expected, "the id is {id}, expected {expected}");
    let validity = certificate.validity();
    let hours = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 3600;
    ensure!(hours <= LIFE_HOURS, "it lives {hours} h");
    Ok(format!("{id}, one URI SAN, {hours} h"))
}

/// A client outside the mesh gets the catalog at the address and port that the ingress sends the mesh to.
async fn same_address(scene: &Scene) -> Result<String> {
    let address = scene.gateway(GCP)?;
    let clusters = scene.admin(&format!("{GCP}-ingress"))?.get("/clusters").await?;
    let endpoint = format!("::{address}::");
    ensure!(
        clusters.lines().any(|line| line.contains(GATEWAY) && line.contains(&endpoint)),
        "the ingress does not lead to {address}"
    );
    get(&scene.outside(GCP, CATALOG)?).await?;
    Ok(format!("without the mesh's ALPN the catalog at {address}, where the ingress leads the mesh"))
}
