//! Workloads on real processes, real sockets and real disks: `bench w1`, `bench w6`.
//!
//! ```text
//!   rig (Postgres, global-cp, two zone-cps) ◀─ rest ─ workload ─▶ proxies (fake discovery clients, one real Envoy)
//!                                                         └─▶ report (one JSON line a cell, a table)
//! ```

mod canary;
mod faults;
mod load;
mod probe;
mod process;
mod proxies;
mod report;
mod rest;
mod rig;
mod w1;
mod w6;
mod w7;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Measures Atoll on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// Folder with the programs to measure.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The Envoy program of the canary; without one the run has none and says so.
    #[arg(long, env = "ENVOY")]
    envoy: Option<PathBuf>,
    #[command(subcommand)]
    workload: Workload,
}

/// What is measured.
#[derive(Debug, Subcommand)]
enum Workload {
    /// A policy changed on global until it is in force at the last proxy of another zone.
    W1(w1::Options),
    /// REST: creates, updates, reads, lists, deletes and an import, on one and on two instances.
    W6(w6::Options),
    /// The cost of one change while services, policies and proxies grow.
    W7(w7::Options),
    /// Processes are killed under writes; nothing that was acknowledged may be lost, doubled or unrecorded.
    Faults(faults::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    atoll_runtime::tls::install_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match &arguments.workload {
            Workload::W1(options) => w1::run(&arguments.programs, arguments.envoy.as_deref(), options).await,
            Workload::Faults(options) => faults::run(&arguments.programs, options).await,
            Workload::W7(options) => w7::run(&arguments.programs, options).await,
            Workload::W6(options) => w6::run(&arguments.programs, options).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
