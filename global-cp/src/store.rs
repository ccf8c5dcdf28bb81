//! Opening the store at start-up: patient for a moment, then clear.

use std::{sync::Arc, time::Duration};

use atoll_model::Clock;
use atoll_runtime::{backoff::Backoff, tasks::Tasks, telemetry};
use atoll_store::{Keys, Store, StoreError};

use crate::{Config, StartError, StoreAddress};

/// How long a start waits for a database.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the store; tries again for 10 s while it cannot be reached.
pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Store, StartError> {
    open_with(&config.store_address(), &config.seal.keys(&config.data_dir), clock, tasks).await
}

/// As [`open`], with other keys.
pub(crate) async fn open_with(
    address: &StoreAddress,
    keys: &Keys,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Store, StartError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        // One try must not outlast the patience: a host that drops packets answers nothing.
        let opening = Store::open_sealed(address.to_config(), keys.clone(), clock.clone(), tasks);
        let opened = tokio::time::timeout_at(deadline, opening).await;
        let error = match opened {
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(error @ StoreError::Unavailable(_))) => error,
            Ok(Err(StoreError::Sealed(why))) => return Err(StartError::SealKey(why)),
            Ok(Err(error)) => return Err(StartError::Store { address: address.to_string(), source: error }),
            Err(_) => return Err(StartError::NoAnswer(address.to_string())),
        };
        let pause = backoff.next(&mut rand::rng());
        if tokio::time::Instant::now() + pause >= deadline {
            return Err(StartError::Unreachable { address: address.to_string(), source: error });
        }
        tracing::warn!(store = %address, error = %telemetry::with_causes(&error), "the store cannot be reached yet; trying again");
        tokio::time::sleep(pause).await;
    }
}
