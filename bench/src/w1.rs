//! W1: a MeshTimeout changed on global until the last proxy of another zone holds it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    canary::Canary,
    probe,
    proxies::{self, Seen, Settings},
    report::{self, Cell, Spread},
    rest::Rest,
    rig::Rig,
};

/// Sizes of the workload.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Fake proxies of each cell.
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    proxies: Vec<usize>,
    /// Services of the mesh.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Policies of the mesh.
    #[arg(long, default_value_t = 100)]
    policies: usize,
    /// Changes of each cell.
    #[arg(long, default_value_t = 300)]
    changes: usize,
    /// Seed of the gaps between changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A change that is not at the last proxy by then counts with this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The service whose timeout changes.
pub(crate) const WATCHED: &str = "svc-0";
/// How many proxies have the label `bench/part: some`.
pub(crate) const PART: usize = 10;
/// The first value; each change is one more.
pub(crate) const BASE_MS: u64 = 10_000;

pub(crate) async fn run(programs: &Path, envoy: Option<&Path>, options: &Options) -> Result<()> {
    let mut cells = Vec::new();
    for proxies in &options.proxies {
        eprintln!("w1: {proxies} proxies, {} services, {} policies", options.services, options.policies);
        cells.push(cell(programs, envoy, options, *proxies).await?);
    }
    report::print(&cells);
    Ok(())
}

async fn cell(programs: &Path, envoy: Option<&Path>, options: &Options, count: usize) -> Result<Cell> {
    let rig = Rig::start(programs, &["zone-a", "zone-b"]).await?;
    let token = prepare(&rig, options.services, options.policies, count).await?;
    let (a, b) = (&rig.zones[0], &rig.zones[1]);
    let cluster = format!("kri_msvc_default_zone-a__{WATCHED}_80");
    let bytes = Arc::new(AtomicU64::new(0));
    let settings = Settings::new(&b.dataplanes, &b.ca, token.clone(), cluster.clone())?;
    let mut seen = proxies::connect(&settings, count, Arc::clone(&bytes)).await?;
    let canary = match envoy {
        Some(envoy) => Some(Canary::start(&rig, 1, programs, envoy, &token).await?),
        None => None,
    };
    change(&rig.global.rest, 0).await?;
    let held = hold(&canary, &cluster, 0).await?;
    eprintln!("w1: ready, canary {held}");

    bytes.store(0, Ordering::Relaxed);
    let cpu = |rig: &Rig| rig.global.program.cpu_us() + a.plane.program.cpu_us() + b.plane.program.cpu_us();
    let before = cpu(&rig);
    let fsync = probe::fsync(rig.folder())?;
    let echo = probe::echo()?;
    let (sent, acks) = send(&rig.global.rest, options).await;
    let (arrivals, _) = collect(&mut seen, count, &sent).await;
    let canary = hold(&canary, &cluster, options.changes as u64).await?;
    let after = probe::fsync(rig.folder())?;
    eprintln!(
        "w1: fsync p50/p99 {:.2}/{:.2} ms before, {:.2}/{:.2} ms after; loopback echo p50 {:.3} ms",
        fsync.p50, fsync.p99, after.p50, after.p99, echo.p50
    );
    let times = |of: fn(&Arrival) -> Option<Instant>| -> Vec<f64> {
        arrivals
            .iter()
            .zip(&sent)
            .map(|(arrival, sent)| of(arrival).map_or(PATIENCE, |at| at.saturating_duration_since(*sent)).as_secs_f64() * 1e3)
            .collect()
    };
    let last = Spread::of(times(|arrival| arrival.last));
    let first = Spread::of(times(|arrival| arrival.first));
    let acks = Spread::of(acks);
    Ok(Cell {
        workload: "w1".to_owned(),
        store: "postgres",
        proxies: count,
        services: options.services,
        zones: 2,
        n: last.n,
        p50_ms: last.p50,
        p90_ms: last.p90,
        p99_ms: last.p99,
        max_ms: last.max,
        timeouts: arrivals.iter().filter(|arrival| arrival.last.is_none()).count(),
        cpu_us_per_op: (cpu(&rig) - before) / options.changes.max(1) as u64,
        rss_mb: b.plane.program.rss_mb(),
        bytes: bytes.load(Ordering::Relaxed),
        fsync_p50_ms: fsync.p50,
        ack_p50_ms: acks.p50,
        ack_p99_ms: acks.p99,
        first_p50_ms: first.p50,
        first_p99_ms: first.p99,
        canary,
    })
}

async fn hold(canary: &Option<Canary>, cluster: &str, change: u64) -> Result<String> {
    match canary {
        None => Ok("none".to_owned()),
        Some(canary) => canary.holds(cluster, Duration::from_millis(BASE_MS + change)).await,
    }
}

/// Makes services in zone a, policies on global and dataplanes in zone b; gives the dataplanes' token.
pub(crate) async fn prepare(rig: &Rig, services: usize, policies: usize, proxies: usize) -> Result<String> {
    let global = &rig.global.rest;
    let identity = json!({
        "type": "MeshIdentity", "mesh": "default", "name": "id",
        "spec": {
            "selector": { "dataplane": { "matchLabels": {} } },
            "provider": { "type": "Bundled", "bundled": { "autogenerate": { "enabled": true }, "insecureAllowSelfSigned": true } },
        },
    });
    let others = (0..policies).map(|i| timeout(&format!("p-{i}"), &format!("svc-{}", i + 1), 5_000));
    let documents: Vec<Value> = std::iter::once(identity).chain(others).collect();
    global.apply(&documents).await?;
    let origin = json!({ "kuma.io/origin": "zone" });
    let made = (0..services).map(|i| {
        json!({
            "type": "MeshService", "mesh": "default", "name": format!("svc-{i}"), "labels": origin,
            "spec": { "ports": [{ "port": 80, "targetPort": 80 }], "selector": { "dataplaneLabels": { "matchLabels": { "app": format!("svc-{i}") } } } },
        })
    });
    let address = json!({
        "type": "MeshZoneAddress", "mesh": "default", "name": "ingress", "labels": origin, "spec": { "address": "127.0.0.1", "port": 10001 },
    });
    let documents: Vec<Value> = made.chain([address]).collect();
    rig.zones[0].plane.rest.apply(&documents).await?;
    let dataplanes: Vec<Value> = (0..proxies)
        .map(|i| {
            json!({
                "type": "Dataplane", "mesh": "default", "name": format!("fake-{i}"), "labels": {
                    "kuma.io/workload": "fake", "kuma.io/origin": "zone", "bench/part": if i < PART { "some" } else { "others" },
                },
                "networking": { "address": "127.76.0.1", "inbound": [{ "port": 1000 + i, "servicePort": 80 }] },
            })
        })
        .collect();
    let zone = &rig.zones[1].plane.rest;
    zone.apply(&dataplanes).await?;
    wait_for_services(zone, services).await?;
    global.token("/tokens/dataplane", &json!({ "mesh": "default", "workload": "fake", "validFor": "1h" })).await
}

async fn wait_for_services(zone: &Rest, count: usize) -> Result<()> {
    for _ in 0..600 {
        let list = zone.get("/meshes/default/meshservices?size=1").await?;
        if list["total"].as_u64().unwrap_or(0) >= count as u64 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the services never reached the other zone")
}

pub(crate) fn timeout(name: &str, service: &str, ms: u64) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": "default", "name": name,
        "spec": { "to": [{
            "targetRef": { "kind": "MeshService", "labels": { "kuma.io/display-name": service } },
            "default": { "connectionTimeout": format!("{ms}ms") },
        }] },
    })
}

async fn change(global: &Rest, number: u64) -> Result<()> {
    global.put("/meshes/default/meshtimeouts/w1", &timeout("w1", WATCHED, BASE_MS + number)).await
}

/// Sends the changes at random gaps, each at its time whatever became of the ones before; when each was due, and how long REST took.
async fn send(global: &Rest, options: &Options) -> (Vec<Instant>, Vec<f64>) {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut due = Instant::now();
    let (mut sent, mut running) = (Vec::new(), Vec::new());
    for number in 1..=options.changes as u64 {
        due += Duration::from_millis(rng.random_range(20..=200));
        tokio::time::sleep_until(due.into()).await;
        sent.push(due);
        let global = global.clone();
        running.push(tokio::spawn(async move {
            let done = change(&global, number).await;
            (done, due.elapsed().as_secs_f64() * 1e3)
        }));
    }
    let mut acks = Vec::new();
    for task in running {
        match task.await {
            Ok((Ok(()), ms)) => acks.push(ms),
            Ok((Err(error), _)) => eprintln!("bench: a change was refused: {error:#}"),
            Err(error) => eprintln!("bench: a change was lost: {error}"),
        }
    }
    (sent, acks)
}

/// When a change was at the first and at the last proxy.
#[derive(Clone, Default)]
pub(crate) struct Arrival {
    proxies: usize,
    first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

/// Reads what proxies saw until every change is everywhere, or the patience after the last one is over. A proxy that holds a later
/// value holds the earlier change, too. Only the first `count` proxies have to; how often others saw one comes second.
pub(crate) async fn collect(seen: &mut mpsc::UnboundedReceiver<Seen>, count: usize, sent: &[Instant]) -> (Vec<Arrival>, usize) {
    let mut arrivals = vec![Arrival::default(); sent.len()];
    let (mut held, mut others) = (vec![0_usize; count], 0);
    let deadline = sent.last().copied().unwrap_or_else(Instant::now) + PATIENCE;
    while held.iter().any(|held| *held < sent.len()) {
        let Ok(Some((proxy, ms, at))) = tokio::time::timeout_at(deadline.into(), seen.recv()).await else { break };
        if proxy >= count {
            others += 1;
            continue;
        }
        let number = usize::try_from(ms.saturating_sub(BASE_MS)).unwrap_or(0).min(sent.len());
        for arrival in &mut arrivals[held[proxy].min(number)..number] {
            arrival.proxies += 1;
            arrival.first.get_or_insert(at);
            if arrival.proxies == count {
                arrival.last = Some(at);
            }
        }
        held[proxy] = held[proxy].max(number);
    }
    (arrivals, others)
}
