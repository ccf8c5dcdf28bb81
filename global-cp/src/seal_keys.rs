//! The key that seals the store's secrets: where it comes from, and how it is changed for another.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use atoll_runtime::{clock::SystemClock, tasks::Tasks};
use atoll_store::{Keys, RewrapStep, Rewrapped, StoreError, make_key_file};
use atoll_trust::SecretText;
use clap::Args;
use serde::{Serialize, Serializer};

use crate::{Config, StartError, config::REDACTED, store};

/// Name of the key file in the data folder.
const FILE: &str = "seal.key";

/// Settings of the key that seals secrets.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SealKeyConfig {
    /// File with the key that seals secrets, of mode 0600; made at the first start. Every further instance gets a copy
    /// [default: DATA_DIR/seal.key].
    #[arg(long, env = "ATOLL_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// The key itself, 32 bytes in base64, instead of a file. Set the variable: others can see a flag.
    #[arg(long, env = "ATOLL_SEAL_KEY", hide_env_values = true, value_name = "BASE64", conflicts_with = "seal_key_file")]
    pub seal_key: Option<SealKeyText>,
    /// File with an older key that still opens what it sealed, while keys are being changed; repeatable, or with commas.
    #[arg(long, env = "ATOLL_OLDER_SEAL_KEY_FILE", value_delimiter = ',', value_name = "FILE")]
    pub older_seal_key_file: Vec<PathBuf>,
}

/// A key from the environment, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKeyText(SecretText);

impl FromStr for SealKeyText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(SecretText::new(text)))
    }
}

impl fmt::Debug for SealKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for SealKeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl SealKeyConfig {
    /// As the store takes them.
    pub fn keys(&self, data: &Path) -> Keys {
        let older = self.older_seal_key_file.clone();
        match &self.seal_key {
            Some(key) => Keys::Text { key: key.0.clone(), older },
            None => Keys::File { path: self.seal_key_file.clone().unwrap_or_else(|| data.join(FILE)), older },
        }
    }
}

/// Wraps everything in the store that `old` opens with `new`, which is made if it is not there. It may be cut off and run
/// again.
///
/// # Errors
/// When the store cannot be opened, such as the embedded one while an instance runs, or holds what neither key opens.
pub async fn rewrap_keys(
    config: &Config,
    old: &Path,
    new: &Path,
    told: impl FnMut(RewrapStep) + Send,
) -> Result<Rewrapped, StartError> {
    let failed = |error| match error {
        StoreError::Sealed(why) => StartError::SealKey(why),
        source => StartError::Store { address: config.store_address().to_string(), source },
    };
    if !new.exists() {
        make_key_file(new).map_err(failed)?;
    }
    let keys = Keys::File { path: new.to_owned(), older: vec![old.to_owned()] };
    let tasks = Tasks::new();
    let store = store::open_with(&config.store_address(), &keys, Arc::new(SystemClock), &tasks).await?;
    let done = store.rewrap(told).await.map_err(failed);
    store.close().await;
    drop(store);
    tasks.join_all(std::time::Duration::from_secs(5)).await;
    done
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use atoll_model::{Clock, Kind, Labels, Owner, ResourceKey};
    use atoll_store::{Actor, Store, Write, WriteBatch};

    use super::*;
    use crate::zones::GlobalKeys;

    fn read(args: &[&str]) -> Config {
        Config::read(["global-cp"].iter().chain(args).map(OsString::from)).unwrap()
    }

    #[test]
    fn the_key_is_never_shown_and_comes_from_one_place() {
        let config = read(&["--seal-key", "c2VjcmV0"]);
        let shown = format!("{} {config:?}", config.shown());
        assert!(!shown.contains("c2VjcmV0") && shown.contains(REDACTED), "{shown}");
        assert!(matches!(config.seal.keys(Path::new("/data")), Keys::Text { .. }));
        assert!(
            matches!(read(&[]).seal.keys(Path::new("/data")), Keys::File { path, .. } if path == Path::new("/data/seal.key"))
        );
        let both = ["global-cp", "--seal-key", "x", "--seal-key-file", "y"].map(OsString::from);
        assert!(Config::read(both).is_err());
    }

    async fn with_store<T>(config: &Config, work: impl AsyncFnOnce(&Store) -> T) -> Result<T, StartError> {
        let tasks = Tasks::new();
        let store = store::open(config, Arc::new(SystemClock), &tasks).await?;
        let done = work(&store).await;
        store.close().await;
        drop(store);
        tasks.join_all(std::time::Duration::from_secs(5)).await;
        Ok(done)
    }

    #[tokio::test]
    async fn a_changed_key_opens_everything_and_the_old_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let data = path("data");
        let config = read(&["--data-dir", data.to_str().unwrap()]);
        let pin = async |store: &Store| GlobalKeys::open(store, SystemClock.now(), &mut rand::rng()).await.unwrap().ca.pin();
        let before = with_store(&config, async |store| {
            let key = ResourceKey::new(Kind::GlobalSecret, "", "s", Owner::Global);
            let write = Write::put(key, Labels::new(), "{\"data\":\"eA==\"}");
            store.commit(WriteBatch::one(Actor::recorded("user:ada", None), write)).await.unwrap();
            pin(store).await
        })
        .await
        .unwrap();

        let (old, new) = (data.join(FILE), path("new.key"));
        let mut steps = 0;
        let done = rewrap_keys(&config, &old, &new, |_| steps += 1).await.unwrap();
        assert_eq!((done.resources, done.history, done.blobs), (1, 1, 3));
        assert!(steps > 0 && atoll_runtime::files::is_private(&new).unwrap());
        assert_eq!(rewrap_keys(&config, &old, &new, |_| ()).await.unwrap(), Rewrapped::default(), "again does nothing");

        let refused = with_store(&config, async |_| ()).await.unwrap_err();
        assert!(matches!(&refused, StartError::SealKey(why) if why.contains("seal.key")), "{refused}");
        std::fs::rename(&new, &old).unwrap();
        assert_eq!(with_store(&config, pin).await.unwrap(), before);
    }
}
