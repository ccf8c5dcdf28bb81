//! F1, F2, F5 and P1, P2, P6, P7, P10: two instances of global on one Postgres are killed, one by one, together, and with their
//! database, while eight clients write and repeat what was not answered. Afterwards a ledger of every acknowledged write is
//! compared with what is there, with the history and with the audit.

mod ledger;
mod writers;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use self::writers::Writers;
use crate::{
    probe,
    rig::{Plane, Rig},
};

/// Sizes of the run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How often something is killed.
    #[arg(long, default_value_t = 60)]
    kills: usize,
    /// Rounds of 64 simultaneous updates with one precondition.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Seed of what is killed, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How long a killed instance may take until it is ready again.
const BACK: Duration = Duration::from_secs(15);

pub(crate) async fn run(programs: &Path, options: &Options) -> Result<()> {
    let mut rig = Rig::start(programs, &[]).await?;
    let mut second = rig.second_global(programs).await?;
    let fsync = probe::fsync(rig.folder())?;
    eprintln!("faults: seed {}, fsync p50 {:.2} ms", options.seed, fsync.p50);
    let stop = CancellationToken::new();
    let writers = Arc::new(Writers::new([&rig.global.rest, &second.rest]));
    let writing = tokio::spawn(Arc::clone(&writers).run(stop.clone()));
    let killed = kill_often(&mut rig, &mut second, options, &writers).await;
    stop.cancel();
    let ledger = writing.await??;
    let counts = killed?;
    let seen = ledger.check(&rig.global.rest, rig.store()).await?;
    println!(
        "faults: {counts}; {} writes acknowledged, {} of them on a repeat; 0 lost, 0 doubled; {} audit records, chain whole",
        ledger.acknowledged(),
        ledger.repeated(),
        seen.audit
    );
    println!("faults: {} reads of the other instance with min-revision, none older than what was acknowledged", ledger.paired());
    let began = Instant::now();
    let refused = writers.contend(options.rounds).await?;
    println!(
        "faults: {} rounds of 64 updates with one precondition on two instances: one won each, {refused} refused (in {:.1} s)",
        options.rounds,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What was killed how often.
#[derive(Default)]
struct Counts {
    one: usize,
    both: usize,
    database: usize,
    slowest: Duration,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills of one instance, {} of both, {} of Postgres, back after at most {} ms",
            self.one,
            self.both,
            self.database,
            self.slowest.as_millis()
        )
    }
}

async fn kill_often(rig: &mut Rig, second: &mut Plane, options: &Options, writers: &Writers) -> Result<Counts> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let mut counts = Counts::default();
    for kill in 0..options.kills {
        writers.progress(20).await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
        let began = match rng.random_range(0..10) {
            0 => {
                rig.postgres().kill();
                counts.database += 1;
                let began = Instant::now();
                rig.postgres().restart().await.map_err(|error| anyhow!(error))?;
                began
            }
            1 | 2 => {
                rig.global.program.crash()?;
                second.program.crash()?;
                counts.both += 1;
                rig.global.program.start_again()?;
                second.program.start_again()?;
                Instant::now()
            }
            3..=6 => crash(&mut rig.global, &mut counts)?,
            _ => crash(second, &mut counts)?,
        };
        for plane in [&mut rig.global, second] {
            let ready = plane.ready.clone();
            plane.program.ready(&ready).await?;
        }
        ensure!(began.elapsed() < BACK, "kill {kill}: not ready again within {BACK:?}");
        counts.slowest = counts.slowest.max(began.elapsed());
    }
    Ok(counts)
}

fn crash(plane: &mut Plane, counts: &mut Counts) -> Result<Instant> {
    plane.program.crash()?;
    counts.one += 1;
    plane.program.start_again()?;
    Ok(Instant::now())
}
