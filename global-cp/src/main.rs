//! `global-cp`: the global control plane.

use std::process::ExitCode;

use atoll_global_cp::{Action, Config, StartError};
use atoll_runtime::{shutdown::Shutdown, telemetry, tls};

#[tokio::main]
async fn main() -> ExitCode {
    tls::install_provider();
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    telemetry::init(config.log_format, &config.log_filter);
    match begin(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("global-cp: {}", telemetry::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

async fn begin(config: Config) -> Result<(), StartError> {
    if config.print_config {
        config.validate()?;
        println!("{}", serde_saphyr::to_string(&config.shown()).unwrap_or_default().trim_end());
        return Ok(());
    }
    if let Some(Action::ResetOperator) = config.action {
        let path = atoll_global_cp::reset_operator(&config).await?;
        println!("wrote {0}; use it with `atoll context add --from {0}`", path.display());
        return Ok(());
    }
    let shutdown = Shutdown::new();
    let signals = shutdown.clone();
    tokio::spawn(async move {
        if let Err(error) = signals.on_signals().await {
            tracing::error!(%error, "cannot wait for signals");
        }
    });
    atoll_global_cp::run(config, shutdown).await?.ended().await;
    Ok(())
}
