//! `atoll lab trace`: one request, hop by hop. Every value is read from the program that did the hop: the client's own TLS
//! session, the gateways' access logs (found by the request's id), and what the sidecars' and the ingress' counters moved by.

pub mod counters;
pub mod hops;
pub mod request;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::{
    counters::{Counters, Moved},
    request::Sent,
};
use super::{
    Lab,
    admin::Admin,
    documents::GATEWAY,
    gateway::mesh_name,
    layout::{DNS_PORT, GATEWAY_PORT, at},
    member::{AZURE, GCP, Member},
    process,
};

/// Histograms of Envoy are merged every 5 s.
const MERGE: Duration = Duration::from_secs(8);
/// Access logs are written at once; see the gateways' flags.
const LOGS: Duration = Duration::from_secs(5);

/// Flags of `atoll lab trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The zone whose gateway is asked; its catalog is in gcp.
    #[arg(long, default_value = AZURE)]
    zone: String,
}

/// What was seen of one request.
#[derive(Debug)]
pub struct Trace {
    /// The zone that was asked.
    pub zone: String,
    /// By the client itself.
    pub sent: Sent,
    /// In the access log of the zone's gateway.
    pub first: Value,
    /// In the access log of gcp's gateway.
    pub last: Value,
    /// What the mesh's DNS says of the upstream's name.
    pub resolved: String,
    /// The zone's sidecar.
    pub sidecar: Seen,
    /// gcp's ingress.
    pub ingress: Seen,
    /// gcp's sidecar.
    pub far: Seen,
}

/// What was seen of an Envoy of the mesh.
#[derive(Debug)]
pub struct Seen {
    /// How its counters moved.
    pub moved: Moved,
    /// Its clusters, as it has them.
    pub clusters: Value,
    /// The SPIFFE ids and days of its own certificates.
    pub identity: String,
    /// Where its listeners are.
    pub listeners: Value,
}

/// Sends one request and prints its way.
pub async fn run(lab: &Lab, args: Args) -> Result<()> {
    if args.zone == GCP {
        bail!("from gcp the catalog is next door: nothing crosses. Use another zone");
    }
    let address = at(lab.zone(&args.zone)?.sidecar(), GATEWAY_PORT);
    let state = lab.state();
    let admin = |member: Member| member.admin(&lab.layout, &state);
    let admins =
        [admin(Member::Sidecar(args.zone.clone()))?, admin(Member::Ingress(GCP.into()))?, admin(Member::Sidecar(GCP.into()))?];
    let before = counters::read_all(&admins).await?;
    let sent = request::send(&lab.layout.ca(), "catalog.acme.corp", address).await?;
    if sent.status != 200 {
        bail!("{} from {address}: {}", sent.status, sent.body.trim());
    }
    let first = logged(lab, &args.zone, &sent.id).await?;
    let last = logged(lab, GCP, &sent.id).await?;
    let name = mesh_name(GATEWAY, GCP);
    let resolver = at(lab.zone(&args.zone)?.sidecar(), DNS_PORT);
    let said = super::dns::ask(resolver, &name).await?;
    let moved = wait_for_merge(&admins, &before).await?;
    let [sidecar, ingress, far] = moved.try_into().map_err(|_| anyhow::anyhow!("three Envoys were asked"))?;
    let trace = Trace {
        sidecar: seen(&admins[0], sidecar).await?,
        ingress: seen(&admins[1], ingress).await?,
        far: seen(&admins[2], far).await?,
        resolved: format!(
            "{name} is {} (asked of {resolver})",
            said.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ),
        zone: args.zone,
        sent,
        first,
        last,
    };
    print!("{}", hops::show(&trace));
    Ok(())
}

/// The line with the request's id in the access log of a zone's gateway.
///
/// # Errors
/// When it is not written in time.
pub async fn logged(lab: &Lab, zone: &str, id: &str) -> Result<Value> {
    let log = lab.layout.log(&format!("{}-access", Member::Gateway(zone.to_owned()).name()));
    let find = || -> Option<Value> {
        let text = std::fs::read_to_string(&log).ok()?;
        text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["request_id"] == id)
    };
    process::until(LOGS, async || find().is_some()).await;
    find().with_context(|| format!("the request is not in {}", log.display()))
}

async fn wait_for_merge(admins: &[Admin], before: &[Counters]) -> Result<Vec<Moved>> {
    let merged = async || {
        let Ok(after) = counters::read_all(admins).await else { return false };
        before.iter().zip(&after).all(|(before, after)| after.moved_since(before).is_merged())
    };
    process::until(MERGE, merged).await;
    let after = counters::read_all(admins).await?;
    Ok(before.iter().zip(&after).map(|(before, after)| after.moved_since(before)).collect())
}

async fn seen(admin: &Admin, moved: Moved) -> Result<Seen> {
    let clusters = admin.json("/config_dump?resource=dynamic_active_clusters").await?;
    let listeners = admin.json("/listeners?format=json").await?;
    Ok(Seen { moved, clusters, listeners, identity: identity(&admin.json("/certs").await?) })
}

/// The URI names of an Envoy's own certificates, with when they end.
fn identity(certs: &Value) -> String {
    let all = certs["certificates"].as_array().cloned().unwrap_or_default();
    let chains = all.iter().filter_map(|certificate| certificate["cert_chain"].as_array()).flatten();
    let ids = chains.filter_map(|own| {
        let uri = own["subject_alt_names"].as_array()?.iter().find_map(|name| name["uri"].as_str())?;
        Some(format!("{uri} (until {})", own["expiration_time"].as_str().unwrap_or("?")))
    });
    let mut ids: Vec<String> = ids.collect();
    ids.dedup();
    if ids.is_empty() { "no certificate".to_owned() } else { ids.join(", ") }
}
