//! W7: what one change costs while services, policies and proxies grow and the number of proxies that it is about does not.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    probe,
    proxies::{self, Settings},
    report::Spread,
    rest::Rest,
    rig::Rig,
    w1,
};

/// Sizes of the workload.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Cells, each as services:policies:proxies; the first is what the others are compared with.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100:100:10,1000:100:10,10000:100:10,100:1000:10,100:10000:10,100:100:100,100:100:1000"
    )]
    cells: Vec<Size>,
    /// Changes of each cell.
    #[arg(long, default_value_t = 200)]
    changes: u64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    services: usize,
    policies: usize,
    proxies: usize,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<usize> = text.split(':').filter_map(|part| part.parse().ok()).collect();
        match numbers[..] {
            [services, policies, proxies] if services > 0 && proxies > 0 => Ok(Self { services, policies, proxies }),
            _ => Err(format!("{text:?} is not services:policies:proxies, such as 100:100:10")),
        }
    }
}

/// Changes are this far apart, so that none is merged with another.
const GAP: Duration = Duration::from_millis(40);

/// What one cell measured; the names are fixed, tools read them.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    workload: &'static str,
    #[serde(flatten)]
    size: Size,
    n: usize,
    /// CPU of global and both zone planes for a change, in microseconds.
    cpu_us: f64,
    global_us: f64,
    zone_us: f64,
    /// CPU of the zone plane that has the proxies, compared with the first cell.
    growth: f64,
    p50_ms: f64,
    p99_ms: f64,
    timeouts: usize,
    /// Responses that proxies got on which the change has no bearing.
    others: usize,
    fsync_p50_ms: f64,
}

pub(crate) async fn run(programs: &Path, options: &Options) -> Result<()> {
    let mut cells: Vec<Cell> = Vec::new();
    for size in &options.cells {
        eprintln!("w7: {} services, {} policies, {} proxies", size.services, size.policies, size.proxies);
        let mut cell = cell(programs, *size, options.changes).await?;
        cell.growth = cell.zone_us / cells.first().map_or(cell.zone_us, |first| first.zone_us);
        println!("{}", serde_json::to_string(&cell)?);
        cells.push(cell);
    }
    print(&cells);
    Ok(())
}

async fn cell(programs: &Path, size: Size, changes: u64) -> Result<Cell> {
    let rig = Rig::start(programs, &["zone-a", "zone-b"]).await?;
    let token = w1::prepare(&rig, size.services, size.policies, size.proxies).await?;
    let (a, b) = (&rig.zones[0].plane, &rig.zones[1].plane);
    let cluster = format!("kri_msvc_default_zone-a__{}_80", w1::WATCHED);
    let settings = Settings::new(&rig.zones[1].dataplanes, &rig.zones[1].ca, token, cluster)?;
    let mut seen = proxies::connect(&settings, size.proxies, Arc::new(AtomicU64::new(0))).await?;
    change(&rig.global.rest, 0).await?;
    // Registrations, receipts and statuses of so many proxies come to rest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    while seen.try_recv().is_ok() {}
    let fsync = probe::fsync(rig.folder())?;
    let cpu = || [rig.global.program.cpu_us(), a.program.cpu_us(), b.program.cpu_us()];
    let before = cpu();
    let mut sent = Vec::new();
    for number in 1..=changes {
        sent.push(Instant::now());
        change(&rig.global.rest, number).await?;
        tokio::time::sleep(GAP.saturating_sub(sent[sent.len() - 1].elapsed())).await;
    }
    let affected = size.proxies.min(w1::PART);
    let (arrivals, others) = w1::collect(&mut seen, affected, &sent).await;
    let spent: Vec<f64> = cpu().iter().zip(before).map(|(now, before)| (now - before) as f64 / changes as f64).collect();
    let [global_us, other_us, zone_us] = spent[..] else { bail!("three planes") };
    let took = arrivals.iter().zip(&sent).filter_map(|(arrival, sent)| Some(arrival.last?.duration_since(*sent)));
    let took: Vec<f64> = took.map(|took| took.as_secs_f64() * 1e3).collect();
    let (timeouts, spread) = (sent.len() - took.len(), Spread::of(took));
    Ok(Cell {
        workload: "w7",
        size,
        n: spread.n,
        cpu_us: global_us + other_us + zone_us,
        global_us,
        zone_us,
        growth: 1.0,
        p50_ms: spread.p50,
        p99_ms: spread.p99,
        timeouts,
        others,
        fsync_p50_ms: fsync.p50,
    })
}

/// A policy for the proxies of one label.
async fn change(global: &Rest, number: u64) -> Result<()> {
    let mut document: Value = w1::timeout("w7", w1::WATCHED, w1::BASE_MS + number);
    document["spec"]["targetRef"] = json!({ "kind": "Dataplane", "labels": { "bench/part": "some" } });
    global.put("/meshes/default/meshtimeouts/w7", &document).await
}

fn print(cells: &[Cell]) {
    let mut table = Table::new();
    table.set_header([
        "services",
        "policies",
        "proxies",
        "n",
        "CPU µs/change",
        "global",
        "zone",
        "zone, × first",
        "p50 ms",
        "p99 ms",
        "timeouts",
        "to others",
        "fsync p50",
    ]);
    for cell in cells {
        table.add_row([
            cell.size.services.to_string(),
            cell.size.policies.to_string(),
            cell.size.proxies.to_string(),
            cell.n.to_string(),
            format!("{:.0}", cell.cpu_us),
            format!("{:.0}", cell.global_us),
            format!("{:.0}", cell.zone_us),
            format!("{:.2}", cell.growth),
            format!("{:.2}", cell.p50_ms),
            format!("{:.2}", cell.p99_ms),
            cell.timeouts.to_string(),
            cell.others.to_string(),
            format!("{:.2}", cell.fsync_p50_ms),
        ]);
    }
    println!("{table}");
}
