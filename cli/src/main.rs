//! `atoll`: the command line.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = atoll_cli::Cli::parse();
    match atoll_cli::run(cli, &mut std::io::stdout(), &mut std::io::stderr()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
