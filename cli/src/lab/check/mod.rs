//! `atoll lab check`: a lab of its own, and every point of the first milestone asserted on it, with evidence.

pub mod p01_patterns;
pub mod p02_certificates;
pub mod p03_permissions;
pub mod p04_timeouts;
pub mod p05_global_dies;
pub mod p06_zone_dies;
pub mod p07_endpoint;
pub mod p08_address;
pub mod p09_names;
pub mod p10_third_zone;
pub mod p11_tables;
pub mod p12_command;
pub mod scene;
pub mod stream;

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Result, bail};
use futures::future::LocalBoxFuture;
use tokio::signal::unix::{SignalKind, signal};

pub use scene::Scene;

/// The block of addresses of the checks' lab, beside a lab that runs.
const OFFSET: u8 = 120;
/// The points of the short run on the embedded store.
const SHORT: [u8; 4] = [1, 3, 5, 8];

/// What a point shows when it holds.
type Outcome<'a> = LocalBoxFuture<'a, Result<String>>;

/// One point.
struct Point {
    number: u8,
    title: &'static str,
    run: for<'a> fn(&'a Scene) -> Outcome<'a>,
}

/// All points, in order. Each leaves the lab as it found it.
const POINTS: [Point; 12] = [
    Point { number: 1, title: "five patterns, counted at every hop", run: |scene| Box::pin(p01_patterns::check(scene)) },
    Point { number: 2, title: "what the outside sees of the mesh's TLS", run: |scene| Box::pin(p02_certificates::check(scene)) },
    Point { number: 3, title: "a permission comes and goes", run: |scene| Box::pin(p03_permissions::check(scene)) },
    Point { number: 4, title: "a timeout arrives without cutting", run: |scene| Box::pin(p04_timeouts::check(scene)) },
    Point { number: 5, title: "global is killed", run: |scene| Box::pin(p05_global_dies::check(scene)) },
    Point { number: 6, title: "a zone plane is killed", run: |scene| Box::pin(p06_zone_dies::check(scene)) },
    Point { number: 7, title: "an endpoint goes and returns", run: |scene| Box::pin(p07_endpoint::check(scene)) },
    Point { number: 8, title: "the zone publishes its ingress", run: |scene| Box::pin(p08_address::check(scene)) },
    Point { number: 9, title: "names", run: |scene| Box::pin(p09_names::check(scene)) },
    Point { number: 10, title: "a third zone joins under load", run: |scene| Box::pin(p10_third_zone::check(scene)) },
    Point { number: 11, title: "tables that a person can read", run: |scene| Box::pin(p11_tables::check(scene)) },
    Point { number: 12, title: "`atoll check` sees what is so", run: |scene| Box::pin(p12_command::check(scene)) },
];

/// Flags of `atoll lab check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only these points, such as 1,3.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u8>,
    /// Only on this store, `postgres` or `embedded`.
    #[arg(long)]
    store: Option<String>,
    /// Keeps the lab's folder.
    #[arg(long)]
    keep: bool,
    /// Added to the second octet of every address.
    #[arg(long, env = "ATOLL_LAB_CHECK_OFFSET", default_value_t = OFFSET)]
    offset: u8,
}

/// Runs the points and says whether all held.
pub async fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    let known: BTreeSet<u8> = POINTS.iter().map(|point| point.number).collect();
    if let Some(odd) = args.only.iter().find(|number| !known.contains(number)) {
        bail!("there is no point {odd}; there are 1 to {}", POINTS.len());
    }
    let mut failed = 0;
    let mut ran = 0;
    for (store, points) in [("postgres", known.clone()), ("embedded", BTreeSet::from(SHORT))] {
        let points: BTreeSet<u8> =
            points.into_iter().filter(|number| args.only.is_empty() || args.only.contains(number)).collect();
        if args.store.as_deref().is_some_and(|only| only != store) || points.is_empty() {
            continue;
        }
        ran += points.len();
        failed += run_on(store, &points, &args).await?;
    }
    println!("\n{} of {ran} points hold ({:.0} s)", ran - failed, start.elapsed().as_secs_f64());
    if failed > 0 {
        bail!("{failed} points do not hold");
    }
    Ok(())
}

async fn run_on(store: &str, points: &BTreeSet<u8>, args: &Args) -> Result<usize> {
    let start = Instant::now();
    let scene = Scene::start(store, args.offset).await?;
    println!("\non the {store} store; the lab was up after {:.1} s", start.elapsed().as_secs_f64());
    let failed = tokio::select! {
        failed = run_points(&scene, points) => Ok(failed),
        interrupted = interrupted() => Err(interrupted),
    };
    scene.end(args.keep || !matches!(failed, Ok(0))).await?;
    match failed {
        Ok(failed) => Ok(failed),
        Err(interrupted) => interrupted.and_then(|()| bail!("interrupted")),
    }
}

async fn run_points(scene: &Scene, points: &BTreeSet<u8>) -> usize {
    let mut failed = 0;
    for point in POINTS.iter().filter(|point| points.contains(&point.number)) {
        let start = Instant::now();
        let outcome = match scene.settle().await {
            Ok(()) => (point.run)(scene).await,
            Err(error) => Err(error.context("the scene is not whole before this point")),
        };
        let (mark, text) = match &outcome {
            Ok(evidence) => ("ok  ", evidence.clone()),
            Err(error) => ("FAIL", format!("{error:#}")),
        };
        println!("{:>2} {mark} {:<40} {:>6.1} s  {text}", point.number, point.title, start.elapsed().as_secs_f64());
        failed += usize::from(outcome.is_err());
    }
    failed
}

/// Returns at SIGINT or SIGTERM, so that the lab is ended too.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
