//! What tests of this and other crates need: a Postgres of one's own, stores in temporary directories, a clock to set.

use std::{sync::Arc, time::Duration};

pub use atoll_model::clock::ManualClock;
use atoll_model::{Clock, Timestamp};
use atoll_runtime::tasks::Tasks;
use atoll_trust::seal::SealKey;
use chrono::TimeZone;
use rand::{SeedableRng, rngs::StdRng};

use crate::{Keys, LocalKeys, Store, StoreConfig, StoreError};

mod postgres;

pub use postgres::Postgres;

/// A clock that stands at 2030-01-01, noon.
pub fn clock() -> Arc<ManualClock> {
    let noon = chrono::Utc.with_ymd_and_hms(2030, 1, 1, 12, 0, 0).single().unwrap_or(Timestamp::UNIX_EPOCH);
    Arc::new(ManualClock::new(noon))
}

/// The URL of a fresh database on a server that all tests of this process share.
///
/// # Errors
/// A text that says what is missing; `apt-get install postgresql` when there are no binaries.
pub async fn postgres_url() -> Result<String, String> {
    Postgres::shared().await?.database().await
}

/// The keys of all stores of tests: always the same.
pub fn keys() -> Keys {
    let key = SealKey::generate(&mut StdRng::seed_from_u64(1));
    Keys::Provider(Arc::new(LocalKeys::new(key, Vec::new())))
}

/// A store in a temporary place, with a clock to set. The place goes when this is dropped.
#[derive(Debug)]
pub struct TestStore {
    /// The store.
    pub store: Store,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// Its tasks.
    pub tasks: Tasks,
    /// How to open it again.
    pub config: StoreConfig,
    dir: Option<tempfile::TempDir>,
}

impl TestStore {
    /// A store on SQLite.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn sqlite() -> Result<Self, StoreError> {
        let dir = tempfile::tempdir().map_err(StoreError::unavailable)?;
        Self::open(StoreConfig::Sqlite { dir: dir.path().join("data") }, clock(), Some(dir)).await
    }

    /// A store on a fresh database of the shared Postgres.
    ///
    /// # Errors
    /// When there is no Postgres, or when it cannot be opened.
    pub async fn postgres() -> Result<Self, StoreError> {
        let url = postgres_url().await.map_err(|text| StoreError::unavailable(std::io::Error::other(text)))?;
        Self::open(StoreConfig::Postgres { url }, clock(), None).await
    }

    /// Ends the store as a program does and opens it again, as after a restart.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn restart(self) -> Result<Self, StoreError> {
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let dir = self.end().await;
        Self::open(config, clock, dir).await
    }

    /// Ends the store as a program does. Its place stays as long as what this gives.
    pub async fn end(self) -> Option<tempfile::TempDir> {
        let Self { store, tasks, dir, .. } = self;
        store.close().await;
        drop(store);
        tasks.join_all(Duration::from_secs(10)).await;
        dir
    }

    /// Another process on the same journal, as far as one can tell from outside; Postgres only.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn beside(&self) -> Result<Self, StoreError> {
        Self::open(self.config.clone(), self.clock.clone(), None).await
    }

    async fn open(config: StoreConfig, clock: Arc<ManualClock>, dir: Option<tempfile::TempDir>) -> Result<Self, StoreError> {
        let tasks = Tasks::new();
        let time: Arc<dyn Clock> = clock.clone();
        let store = Store::open_sealed(config.clone(), keys(), time, &tasks).await?;
        Ok(Self { store, clock, tasks, config, dir })
    }
}
