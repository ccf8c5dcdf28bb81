//! `global-cp`: the global control plane.

use std::{path::Path, process::ExitCode};

use atoll_global_cp::{Action, Config, StartError};
use atoll_runtime::{shutdown::Shutdown, telemetry, tls};
use atoll_store::RewrapStep;

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
    match &config.action {
        None => {}
        Some(Action::ResetOperator) => {
            let path = atoll_global_cp::reset_operator(&config).await?;
            println!("wrote {0}; use it with `atoll context add --from {0}`", path.display());
            return Ok(());
        }
        Some(Action::RewrapKeys { old_key_file, new_key_file }) => return rewrap(&config, old_key_file, new_key_file).await,
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

async fn rewrap(config: &Config, old: &Path, new: &Path) -> Result<(), StartError> {
    let told = |step: RewrapStep| eprintln!("{} secrets wrapped, {} left", step.done.resources + step.done.history, step.left);
    let done = atoll_global_cp::rewrap_keys(config, old, new, told).await?;
    println!(
        "wrapped with the key in {}: {} secrets, {} entries of history, {} keys of the control plane",
        new.display(),
        done.resources,
        done.history,
        done.blobs
    );
    println!("give every instance this key as its seal key and start it again; {} opens nothing any more", old.display());
    Ok(())
}
