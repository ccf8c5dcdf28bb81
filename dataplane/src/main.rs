//! `atoll-dp`: runs one Envoy of the mesh.

use std::process::ExitCode;

use atoll_dataplane::{
    args::{Cli, Command, RunArgs},
    redirect::{
        args::{Install, Uninstall},
        findings::Findings,
        install, report, uninstall,
    },
    run::{self, Environment},
};
use atoll_runtime::telemetry;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("atoll-dp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    telemetry::init(cli.log_format.parse()?, &cli.log_level);
    let said = match cli.command {
        Command::Run(args) => return run_proxy(*args),
        Command::Install(Install::TransparentProxy(args)) => install::install(&args)?,
        Command::Uninstall(Uninstall::TransparentProxy(args)) => uninstall::uninstall(&args)?,
        Command::Check(args) => {
            let findings = Findings::look(&args.redirect, args.before_proxy)?;
            println!("{}", report::check(&findings));
            return Ok(if findings.refuses() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    };
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

fn run_proxy(args: RunArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run::run(args, Environment::of_this_process()));
    // Nothing that still runs is worth waiting for.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}
