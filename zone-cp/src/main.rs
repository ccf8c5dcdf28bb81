//! `zone-cp`: the zone control plane.

use std::{process::ExitCode, time::Duration};

use atoll_runtime::{shutdown::Shutdown, telemetry};
use atoll_zone_cp::{Config, run};

fn main() -> ExitCode {
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    if config.print_config {
        println!("{}", serde_json::to_string_pretty(&config.shown()).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    telemetry::init(config.log_format, &config.log_filter);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(serve(config));
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}

async fn serve(config: Config) -> ExitCode {
    let shutdown = Shutdown::new();
    let signals = shutdown.clone();
    tokio::spawn(async move {
        if let Err(error) = signals.on_signals().await {
            tracing::error!(%error, "cannot take signals");
        }
    });
    match run(config, shutdown).await {
        Ok(running) => {
            running.wait().await;
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("zone-cp: {}", telemetry::with_causes(error));
    ExitCode::FAILURE
}
