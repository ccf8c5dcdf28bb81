//! W6: the REST API of global on Postgres, over loopback without TLS.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::Table;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    load::{self, Ask, Outcome, Target, Until},
    probe,
    rest::Rest,
    rig::{Plane, Rig},
};

/// Sizes of the workload.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Seconds of each cell.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Policies that are there before the cells; they are imported first.
    #[arg(long, default_value_t = 10_000)]
    policies: usize,
    /// Only cells whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

const MESHES: u64 = 10;
/// Documents of one request of the import.
const CHUNK: usize = 500;

/// One cell; the names are fixed, tools read them.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    workload: String,
    store: &'static str,
    instances: usize,
    connections: usize,
    n: usize,
    per_second: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cpu_us_per_op: u64,
    /// Of the load generator, on the same cores.
    client_cpu_us_per_op: u64,
    rss_mb: f64,
    bytes: u64,
    fsync_p50_ms: f64,
}

pub(crate) async fn run(programs: &Path, options: &Options) -> Result<()> {
    let rig = Rig::start(programs, &[]).await?;
    let target = Target { instances: vec![rig.global.plain.clone()], token: rig.global.rest.bearer().to_owned() };
    let mut bench = Bench { rig: &rig, options, second: None, target, cells: Vec::new() };
    bench.fill().await?;
    bench.reads().await?;
    bench.writes().await?;
    bench.second = Some(rig.second_global(programs).await?);
    bench.on_two().await?;
    print(&bench.cells);
    Ok(())
}

struct Bench<'a> {
    rig: &'a Rig,
    options: &'a Options,
    second: Option<Plane>,
    target: Target,
    cells: Vec<Cell>,
}

impl Bench<'_> {
    /// Imports the policies that every other cell finds there.
    async fn fill(&mut self) -> Result<()> {
        let meshes: Vec<Value> = (0..MESHES).map(|i| json!({ "type": "Mesh", "name": mesh(i) })).collect();
        self.rig.global.rest.apply(&meshes).await?;
        let documents: Vec<Value> = (0..self.options.policies as u64).map(|i| document(&mesh(i), &format!("p-{i}"), i)).collect();
        let bodies: Vec<Vec<u8>> = documents.chunks(CHUNK).map(serde_json::to_vec).collect::<Result<_, _>>()?;
        let count = bodies.len() as u64;
        let ask = move |i: u64| Ask { method: http::Method::POST, path: "/_apply".to_owned(), body: bodies[i as usize].clone() };
        let name = format!("import {} in requests of {CHUNK}", self.options.policies);
        self.cell(&name, 1, Until::Count(count), ask).await?;
        let total = total(&self.rig.global.rest, "/meshtimeouts?size=1").await?;
        ensure!(total == self.options.policies as u64, "{total} policies are there, {} were imported", self.options.policies);
        Ok(())
    }

    async fn reads(&mut self) -> Result<()> {
        let policies = self.options.policies as u64;
        for connections in [1, 16, 64] {
            let get = move |i: u64| {
                let at = i * 7919 % policies;
                Ask::get(format!("/meshes/{}/meshtimeouts/p-{at}", mesh(at)))
            };
            self.timed("get", connections, get).await?;
        }
        for (name, offset) in [("first", 0), ("middle", policies / 2), ("last", policies.saturating_sub(100))] {
            let path = page(&self.rig.global.rest, offset).await?;
            for connections in [1, 16] {
                let path = path.clone();
                self.timed(&format!("list page of 100, {name}"), connections, move |_| Ask::get(path.clone())).await?;
            }
        }
        let by_name = |i: u64| Ask::get(format!("/meshtimeouts?name=p-{}&size=100", i * 7919 % 10_000));
        self.timed("list by name", 16, by_name).await?;
        let by_label = |i: u64| Ask::get(format!("/meshtimeouts?filter[labels.team]=team-{}&size=100", i % 100));
        self.timed("list by label", 16, by_label).await
    }

    async fn writes(&mut self) -> Result<()> {
        for connections in [1_usize, 16, 64] {
            let create = move |i: u64| put(&format!("c{connections}-{i}"), i, i);
            self.timed("create", connections, create).await?;
        }
        self.timed("update one resource", 16, |i| put("contended", 0, i)).await?;
        let created = total(&self.rig.global.rest, "/meshtimeouts?name=c64-&size=1").await?;
        let delete = |i: u64| Ask {
            method: http::Method::DELETE,
            path: format!("/meshes/{}/meshtimeouts/c64-{i}", mesh(i)),
            body: Vec::new(),
        };
        self.cell("delete", 16, Until::Count(created.min(10_000)), delete).await
    }

    /// The same creates with the connections spread over two instances, and reads of what the other one wrote.
    async fn on_two(&mut self) -> Result<()> {
        let Some(second) = &self.second else { return Ok(()) };
        let (plain, other) = (second.plain.clone(), second.rest.clone());
        self.target.instances.push(plain);
        self.timed("create", 64, |i| put(&format!("two-{i}"), i, i)).await?;
        self.timed("update one resource", 16, |i| put("contended", 0, i)).await?;
        let (one, two) =
            (total(&self.rig.global.rest, "/meshtimeouts?size=1").await?, total(&other, "/meshtimeouts?size=1").await?);
        ensure!(one == two, "the instances differ after the writes: {one} and {two} policies");
        Ok(())
    }

    async fn timed(&mut self, name: &str, connections: usize, ask: impl Fn(u64) -> Ask + Send + Sync + 'static) -> Result<()> {
        self.cell(name, connections, Until::Time(Duration::from_secs(self.options.seconds)), ask).await
    }

    async fn cell(
        &mut self,
        name: &str,
        connections: usize,
        until: Until,
        ask: impl Fn(u64) -> Ask + Send + Sync + 'static,
    ) -> Result<()> {
        let needed = name.starts_with("import") || name == "create";
        if !needed && !name.contains(&self.options.only) {
            return Ok(());
        }
        let fsync = probe::fsync(self.rig.folder())?;
        let (server, client) = (self.cpu_us(), own_cpu_us());
        let outcome = load::run(&self.target, connections, until, ask).await?;
        let per = |total: u64| total / outcome.times.n.max(1) as u64;
        let (server, client) = (per(self.cpu_us() - server), per(own_cpu_us() - client));
        let cell = self.seen(name, connections, &outcome, server, client, fsync.p50);
        eprintln!(
            "w6: {name}, {connections} connections, {} instances: {:.0}/s, p50 {:.2}, p99 {:.2} ms (in all {:.2} s; fsync p50 {:.2} ms)",
            cell.instances,
            cell.per_second,
            cell.p50_ms,
            cell.p99_ms,
            outcome.took.as_secs_f64(),
            fsync.p50
        );
        self.cells.push(cell);
        Ok(())
    }

    fn seen(&self, name: &str, connections: usize, outcome: &Outcome, server: u64, client: u64, fsync: f64) -> Cell {
        Cell {
            workload: format!("w6 {name}"),
            store: "postgres",
            instances: self.target.instances.len(),
            connections,
            n: outcome.times.n,
            per_second: outcome.per_second(),
            p50_ms: outcome.times.p50,
            p90_ms: outcome.times.p90,
            p99_ms: outcome.times.p99,
            max_ms: outcome.times.max,
            cpu_us_per_op: server,
            client_cpu_us_per_op: client,
            rss_mb: self.rig.global.program.rss_mb(),
            bytes: outcome.bytes,
            fsync_p50_ms: fsync,
        }
    }

    fn cpu_us(&self) -> u64 {
        self.rig.global.program.cpu_us() + self.second.as_ref().map_or(0, |second| second.program.cpu_us())
    }
}

fn own_cpu_us() -> u64 {
    crate::process::cpu_us_of("self")
}

fn mesh(number: u64) -> String {
    format!("m-{}", number % MESHES)
}

fn document(mesh: &str, name: &str, number: u64) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": mesh, "name": name, "labels": { "team": format!("team-{}", number % 100) },
        "spec": { "to": [{
            "targetRef": { "kind": "MeshService", "labels": { "kuma.io/display-name": format!("svc-{number}") } },
            "default": { "connectionTimeout": format!("{}ms", 1000 + number % 100_000), "http": { "requestTimeout": "15s" } },
        }] },
    })
}

fn put(name: &str, in_mesh: u64, number: u64) -> Ask {
    let mesh = mesh(in_mesh);
    Ask::put(format!("/meshes/{mesh}/meshtimeouts/{name}"), document(&mesh, name, number).to_string())
}

async fn total(rest: &Rest, path: &str) -> Result<u64> {
    Ok(rest.get(path).await?["total"].as_u64().unwrap_or(0))
}

/// The path of the page that begins at `offset`, reached the way clients reach it.
async fn page(rest: &Rest, offset: u64) -> Result<String> {
    let mut path = "/meshtimeouts?size=100".to_owned();
    for _ in 0..offset / 100 {
        let next = rest.get(&path).await?["next"].as_str().map(str::to_owned);
        let Some(next) = next else { break };
        path = match next.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or_else(|| next.clone(), |at| rest[at..].to_owned()),
            None => next,
        };
    }
    Ok(path)
}

fn print(cells: &[Cell]) {
    for cell in cells {
        println!("{}", serde_json::to_string(cell).unwrap_or_default());
    }
    let mut table = Table::new();
    table.set_header([
        "cell",
        "inst",
        "conns",
        "n",
        "per s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "CPU µs/op",
        "client CPU",
        "RSS MiB",
        "fsync p50",
    ]);
    for cell in cells {
        let ms = |value: f64| format!("{value:.2}");
        table.add_row([
            cell.workload.clone(),
            cell.instances.to_string(),
            cell.connections.to_string(),
            cell.n.to_string(),
            format!("{:.0}", cell.per_second),
            ms(cell.p50_ms),
            ms(cell.p90_ms),
            ms(cell.p99_ms),
            ms(cell.max_ms),
            cell.cpu_us_per_op.to_string(),
            cell.client_cpu_us_per_op.to_string(),
            format!("{:.0}", cell.rss_mb),
            ms(cell.fsync_p50_ms),
        ]);
    }
    println!("{table}");
}
