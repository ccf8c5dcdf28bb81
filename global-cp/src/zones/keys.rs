//! Global's own keys: rows of the store, sealed with a key file that every instance has.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use atoll_model::Timestamp;
use atoll_runtime::files;
use atoll_store::{Store, StoreError};
use atoll_trust::{
    ca::{CaError, ControlPlaneCa},
    jwt::{Issuer, SigningKey},
    key::KeyError,
    seal::{Label, SealError, SealKey},
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the key file in the data folder.
pub const SEAL_KEY_FILE: &str = "seal.key";
const CA_ROW: &str = "keys/control-plane-ca";
const TOKEN_ROW: &str = "keys/token-signing";

/// Why this instance has no keys, and with that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store was set up by an instance with a seal key, and this one has none.
    #[error("the keys in the store are sealed, and {0} is not there: copy it from the first instance of this control plane")]
    NoSealKey(PathBuf),
    /// Others can read the seal key.
    #[error("{0} can be read by others: set its mode to 0600")]
    OpenSealKey(PathBuf),
    /// The seal key's file holds something else.
    #[error("{path} cannot be used: {source}")]
    SealKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// The seal key does not open the store's keys.
    #[error("the row {row:?} does not open with {path}: {source}")]
    Sealed {
        /// Which row.
        row: &'static str,
        /// The key file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// A row opens, and holds something else.
    #[error("the row {0:?} holds no usable key")]
    Row(&'static str),
    /// The CA is of no use.
    #[error("the control plane's CA cannot be used")]
    Ca(#[from] CaError),
    /// The signing key is of no use.
    #[error("the key for tokens cannot be used")]
    Key(#[from] KeyError),
    /// The store cannot be reached.
    #[error("the control plane's keys cannot be read or written")]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Global's keys. The same on every instance.
#[derive(Debug)]
pub struct GlobalKeys {
    /// Signs servers of global and the certificates of zones.
    pub ca: ControlPlaneCa,
    /// Signs user and dataplane tokens.
    pub tokens: SigningKey,
}

#[derive(Serialize, Deserialize)]
struct CaRow {
    certificate: String,
    key: String,
}

impl GlobalKeys {
    /// Opens the keys in the store, or makes them, and the seal key with them, at the very first start.
    ///
    /// # Errors
    /// When the seal key is missing, open to others, or another one than the store was sealed with.
    pub async fn open<R: CryptoRng>(store: &Store, data: &Path, now: Timestamp, rng: &mut R) -> Result<Self, KeysError> {
        let fresh = store.blob(CA_ROW).await?.is_none();
        let vault = Vault { store, path: data.join(SEAL_KEY_FILE), key: seal_key(data, fresh, rng)? };
        let (cluster, issuer) = (store.cluster_id(), Issuer::Global(store.cluster_id()));

        let row = vault.open_or_make(CA_ROW, rng, |rng| new_ca(cluster, now, rng)).await?;
        let row: CaRow = serde_json::from_slice(&row).map_err(|_| KeysError::Row(CA_ROW))?;
        let ca = ControlPlaneCa::load(&row.certificate, &row.key)?;

        let row = vault.open_or_make(TOKEN_ROW, rng, |_| Ok(SigningKey::generate(issuer)?.to_pem().expose().into())).await?;
        let pem = String::from_utf8(row).map_err(|_| KeysError::Row(TOKEN_ROW))?;
        Ok(Self { ca, tokens: SigningKey::from_pem(&pem, issuer)? })
    }
}

fn new_ca(cluster: Uuid, now: Timestamp, rng: &mut impl CryptoRng) -> Result<Vec<u8>, KeysError> {
    let ca = ControlPlaneCa::generate(cluster, now, rng)?;
    let row = CaRow { certificate: ca.cert_pem().to_owned(), key: ca.key_pem().expose().to_owned() };
    serde_json::to_vec(&row).map_err(|_| KeysError::Row(CA_ROW))
}

/// The store's sealed rows.
struct Vault<'a> {
    store: &'a Store,
    path: PathBuf,
    key: SealKey,
}

impl Vault<'_> {
    /// Opens a row. Of instances that start together the first one's row stands, and the others open that.
    async fn open_or_make<R: CryptoRng>(
        &self,
        row: &'static str,
        rng: &mut R,
        make: impl FnOnce(&mut R) -> Result<Vec<u8>, KeysError>,
    ) -> Result<Vec<u8>, KeysError> {
        let label = Label { cluster: self.store.cluster_id(), name: row };
        let sealed = match self.store.blob(row).await? {
            Some(sealed) => sealed,
            None => {
                let sealed = self.key.seal(label, &make(rng)?, rng);
                self.store.put_blob_if_absent(row, &sealed).await?
            }
        };
        self.key.open(label, &sealed).map_err(|source| KeysError::Sealed { row, path: self.path.clone(), source })
    }
}

fn seal_key(data: &Path, fresh: bool, rng: &mut impl CryptoRng) -> Result<SealKey, KeysError> {
    let path = data.join(SEAL_KEY_FILE);
    let file = |source| KeysError::File { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            if !files::is_private(&path).map_err(file)? {
                return Err(KeysError::OpenSealKey(path));
            }
            text.parse().map_err(|source| KeysError::SealKey { path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && fresh => {
            files::private_dir(data).map_err(file)?;
            let key = SealKey::generate(rng);
            files::write_secret(&path, key.to_file().expose().as_bytes()).map_err(file)?;
            tracing::info!(path = %path.display(), "made the key that seals the store's secrets; back it up, every instance needs it");
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeysError::NoSealKey(path)),
        Err(error) => Err(file(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use atoll_model::Clock;
    use atoll_store::testing::TestStore;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    async fn open(test: &TestStore, folder: &tempfile::TempDir) -> Result<GlobalKeys, KeysError> {
        GlobalKeys::open(&test.store, folder.path(), test.clock.now(), &mut StdRng::seed_from_u64(1)).await
    }

    #[tokio::test]
    async fn every_start_and_every_instance_has_the_same_keys() {
        let (test, first, second) =
            (TestStore::sqlite().await.unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = open(&test, &first).await.unwrap();
        let again = open(&test, &first).await.unwrap();
        assert_eq!((again.ca.pin(), again.tokens.public()), (keys.ca.pin(), keys.tokens.public()));
        assert!(files::is_private(&first.path().join(SEAL_KEY_FILE)).unwrap());

        // Another instance wants the first one's seal key, and says so.
        let error = open(&test, &second).await.unwrap_err();
        assert!(matches!(error, KeysError::NoSealKey(_)) && error.to_string().contains("copy it"), "{error}");
        fs::copy(first.path().join(SEAL_KEY_FILE), second.path().join(SEAL_KEY_FILE)).unwrap();
        assert_eq!(open(&test, &second).await.unwrap().ca.pin(), keys.ca.pin());
    }

    #[tokio::test]
    async fn a_wrong_open_or_damaged_seal_key_ends_the_start_with_a_clear_text() {
        let (test, folder) = (TestStore::sqlite().await.unwrap(), tempfile::tempdir().unwrap());
        open(&test, &folder).await.unwrap();
        let path = folder.path().join(SEAL_KEY_FILE);
        let right = fs::read(&path).unwrap();

        let wrong = SealKey::generate(&mut StdRng::seed_from_u64(9)).to_file();
        files::write_secret(&path, wrong.expose().as_bytes()).unwrap();
        let text = open(&test, &folder).await.unwrap_err().to_string();
        assert!(text.contains("sealed with the key") && text.contains("seal.key"), "{text}");

        files::write_secret(&path, b"something else").unwrap();
        assert!(matches!(open(&test, &folder).await, Err(KeysError::SealKey { .. })));

        files::write_secret(&path, &right).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&test, &folder).await, Err(KeysError::OpenSealKey(_))));
    }

    #[tokio::test]
    async fn no_key_lies_open_in_the_store() {
        let (test, folder) = (TestStore::sqlite().await.unwrap(), tempfile::tempdir().unwrap());
        let keys = open(&test, &folder).await.unwrap();
        for row in [CA_ROW, TOKEN_ROW] {
            let sealed = test.store.blob(row).await.unwrap().unwrap();
            assert!(!sealed.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "{row}");
        }
        // Rows that were swapped do not open.
        let swapped = test.store.blob(TOKEN_ROW).await.unwrap().unwrap();
        test.store.put_blob(CA_ROW, &swapped).await.unwrap();
        let error = open(&test, &folder).await.unwrap_err();
        assert!(matches!(error, KeysError::Sealed { source: SealError::Damaged, .. }), "{error}");
        assert!(!format!("{keys:?}").contains("PRIVATE"));
    }
}
