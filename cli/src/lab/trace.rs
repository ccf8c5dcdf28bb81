//! `atoll lab trace`: one request, hop by hop. Every value is read from the program that did the hop: the client's own TLS
//! session, and the access logs of gateways, sidecars and ingress. The gateways' lines are found by the request's id, and from
//! each connection the next one by its address: where one program's connection begins, the next one's ends.

pub mod hops;
pub mod request;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::request::Sent;
use super::{
    Lab,
    documents::GATEWAY,
    gateway::mesh_name,
    layout::{DNS_PORT, GATEWAY_PORT, at},
    member::{AZURE, GCP, Member},
    process,
};

/// Access logs are written within a second of the end of a request or connection.
const LOGS: Duration = Duration::from_secs(5);

/// Flags of `atoll lab trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The zone whose gateway is asked; its catalog is in gcp.
    #[arg(long, default_value = AZURE)]
    zone: String,
}

/// What was seen of one request. The connections carried no other one: the client opens one for it, and the gateways close
/// theirs after each request.
#[derive(Debug)]
pub struct Trace {
    /// The zone that was asked.
    pub zone: String,
    /// By the client itself.
    pub sent: Sent,
    /// From the client to the zone's gateway, by its sidecar.
    pub inbound: Value,
    /// By the zone's gateway.
    pub first: Value,
    /// What the mesh's DNS says of the upstream's name.
    pub resolved: String,
    /// From the zone's gateway into the mesh, by its sidecar.
    pub outbound: Value,
    /// By gcp's ingress.
    pub ingress: Value,
    /// From the mesh to gcp's gateway, by its sidecar.
    pub far: Value,
    /// The protocols of the filter chain that took it there.
    pub alpn: String,
    /// By gcp's gateway.
    pub last: Value,
}

/// Sends one request and prints its way.
pub async fn run(lab: &Lab, args: Args) -> Result<()> {
    if args.zone == GCP {
        bail!("from gcp the catalog is next door: nothing crosses. Use another zone");
    }
    print!("{}", hops::show(&follow(lab, args.zone).await?));
    Ok(())
}

/// Sends one request and follows it.
async fn follow(lab: &Lab, zone: String) -> Result<Trace> {
    let address = at(lab.zone(&zone)?.sidecar(), GATEWAY_PORT);
    let sent = request::send(&lab.layout.ca(), "catalog.acme.corp", address).await?;
    if sent.status != 200 {
        bail!("{} from {address}: {}", sent.status, sent.body.trim());
    }
    let near = Member::Sidecar(zone.clone());
    let (first, last) = (logged(lab, &zone, &sent.id).await?, logged(lab, GCP, &sent.id).await?);
    let inbound = connection(lab, &near, &sent.local.to_string()).await?;
    let outbound = connection(lab, &near, text(&first, "upstream_local")).await?;
    let ingress = connection(lab, &Member::Ingress(GCP.into()), text(&outbound, "upstream_local")).await?;
    let far = connection(lab, &Member::Sidecar(GCP.into()), text(&ingress, "upstream_local")).await?;
    for (from, to) in [(&inbound, &first), (&far, &last)] {
        let (from, to) = (text(from, "upstream_local"), text(to, "peer"));
        ensure!(from == to, "the sidecar spoke to the gateway from {from}, but the gateway took the request from {to}");
    }
    let alpn = protocols(lab, text(&far, "chain")).await?;
    Ok(Trace { resolved: resolved(lab, &zone).await?, zone, sent, inbound, first, outbound, ingress, far, alpn, last })
}

/// A text in a line; empty when it is not there.
fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// The line with the request's id in the access log of a zone's gateway.
///
/// # Errors
/// When it is not written in time.
pub async fn logged(lab: &Lab, zone: &str, id: &str) -> Result<Value> {
    let log = access_log(lab, &Member::Gateway(zone.to_owned()));
    let line = newest(&log, |line| line["request_id"] == id).await;
    line.with_context(|| format!("the request is not in {}", log.display()))
}

/// The newest connection from `peer` in the access log of a sidecar or ingress.
async fn connection(lab: &Lab, member: &Member, peer: &str) -> Result<Value> {
    let log = access_log(lab, member);
    let line = newest(&log, |line| line["log"] == "connection" && line["peer"] == peer).await;
    line.with_context(|| {
        format!("the connection from {peer} is not in {}: was the lab started by another version?", log.display())
    })
}

fn access_log(lab: &Lab, member: &Member) -> PathBuf {
    lab.layout.log(&format!("{}-access", member.name()))
}

/// The newest line of a log that is the wanted one, once it is there.
async fn newest(log: &std::path::Path, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
    let find = || -> Option<Value> {
        let text = std::fs::read_to_string(log).ok()?;
        text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(&wanted)
    };
    process::until(LOGS, async || find().is_some()).await;
    find()
}

/// What the mesh's DNS says of the name of gcp's gateway.
async fn resolved(lab: &Lab, zone: &str) -> Result<String> {
    let name = mesh_name(GATEWAY, GCP);
    let resolver = at(lab.zone(zone)?.sidecar(), DNS_PORT);
    let said = super::dns::ask(resolver, &name).await?;
    let addresses = said.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Ok(format!("{name} is {addresses} (asked of {resolver})"))
}

/// The protocols that a filter chain of gcp's sidecar takes: access logs do not tell the one that was negotiated.
async fn protocols(lab: &Lab, chain: &str) -> Result<String> {
    let admin = Member::Sidecar(GCP.into()).admin(&lab.layout, &lab.state())?;
    let dump = admin.json("/config_dump?resource=dynamic_listeners").await?;
    let listeners = dump["configs"].as_array().into_iter().flatten().map(|config| &config["active_state"]["listener"]);
    let mut chains = listeners.flat_map(|listener| listener["filter_chains"].as_array().into_iter().flatten());
    let found = chains.find(|found| found["name"] == chain).with_context(|| format!("gcp's sidecar has no chain {chain} now"))?;
    let protocols = found["filter_chain_match"]["application_protocols"].as_array().into_iter().flatten();
    Ok(protocols.filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
}
