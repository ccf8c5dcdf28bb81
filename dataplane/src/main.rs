//! `atoll-dp`: runs one Envoy of the mesh.

use std::process::ExitCode;

use atoll_dataplane::{
    args::{Cli, Command},
    run::{self, Environment},
};
use atoll_runtime::telemetry;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll-dp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(cli.log_format.parse()?, &cli.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Command::Run(args) = cli.command;
    let result = runtime.block_on(run::run(*args, Environment::of_this_process()));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_background();
    Ok(result?)
}
