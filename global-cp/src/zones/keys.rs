//! Global's own keys: rows of the store, sealed with a key that every instance has.

use atoll_model::Timestamp;
use atoll_store::{Store, StoreError};
use atoll_trust::{
    ca::{CaError, ControlPlaneCa},
    jwt::{Issuer, SigningKey},
    key::KeyError,
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const CA_ROW: &str = "keys/control-plane-ca";
const TOKEN_ROW: &str = "keys/token-signing";

/// Why this instance has no keys, and with that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A row opens, and holds something else.
    #[error("the row {0:?} holds no usable key")]
    Row(&'static str),
    /// The CA is of no use.
    #[error("the control plane's CA cannot be used")]
    Ca(#[from] CaError),
    /// The signing key is of no use.
    #[error("the key for tokens cannot be used")]
    Key(#[from] KeyError),
    /// The store cannot be reached, or the row does not open.
    #[error("the control plane's keys cannot be read or written")]
    Store(#[from] StoreError),
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
    /// Opens the keys in the store, or makes them at the very first start.
    ///
    /// # Errors
    /// When a row does not open, or holds something else.
    pub async fn open<R: CryptoRng>(store: &Store, now: Timestamp, rng: &mut R) -> Result<Self, KeysError> {
        let (cluster, issuer) = (store.cluster_id(), Issuer::Global(store.cluster_id()));

        let row = open_or_make(store, CA_ROW, || new_ca(cluster, now, rng)).await?;
        let row: CaRow = serde_json::from_slice(&row).map_err(|_| KeysError::Row(CA_ROW))?;
        let ca = ControlPlaneCa::load(&row.certificate, &row.key)?;

        let row = open_or_make(store, TOKEN_ROW, || Ok(SigningKey::generate(issuer)?.to_pem().expose().into())).await?;
        let pem = String::from_utf8(row).map_err(|_| KeysError::Row(TOKEN_ROW))?;
        Ok(Self { ca, tokens: SigningKey::from_pem(&pem, issuer)? })
    }
}

fn new_ca(cluster: Uuid, now: Timestamp, rng: &mut impl CryptoRng) -> Result<Vec<u8>, KeysError> {
    let ca = ControlPlaneCa::generate(cluster, now, rng)?;
    let row = CaRow { certificate: ca.cert_pem().to_owned(), key: ca.key_pem().expose().to_owned() };
    serde_json::to_vec(&row).map_err(|_| KeysError::Row(CA_ROW))
}

/// Opens a row. Of instances that start together the first one's row stands, and the others open that.
async fn open_or_make(
    store: &Store,
    row: &'static str,
    make: impl FnOnce() -> Result<Vec<u8>, KeysError>,
) -> Result<Vec<u8>, KeysError> {
    match store.sealed_blob(row).await? {
        Some(secret) => Ok(secret),
        None => Ok(store.put_sealed_blob_if_absent(row, &make()?).await?),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Clock;
    use atoll_store::testing::TestStore;
    use atoll_trust::seal::{Label, SealKey};
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    async fn open(test: &TestStore) -> Result<GlobalKeys, KeysError> {
        GlobalKeys::open(&test.store, test.clock.now(), &mut StdRng::seed_from_u64(1)).await
    }

    #[tokio::test]
    async fn every_start_has_the_same_keys() {
        let test = TestStore::sqlite().await.unwrap();
        let keys = open(&test).await.unwrap();
        let test = test.restart().await.unwrap();
        let again = open(&test).await.unwrap();
        assert_eq!((again.ca.pin(), again.tokens.public()), (keys.ca.pin(), keys.tokens.public()));
    }

    #[tokio::test]
    async fn keys_of_the_first_version_are_still_opened() {
        let test = TestStore::sqlite().await.unwrap();
        let cluster = test.store.cluster_id();
        let row = new_ca(cluster, test.clock.now(), &mut StdRng::seed_from_u64(7)).unwrap();
        let seal = SealKey::generate(&mut StdRng::seed_from_u64(1));
        let sealed = seal.seal(Label { cluster, name: CA_ROW }, &row, &mut StdRng::seed_from_u64(8));
        test.store.put_blob(CA_ROW, &sealed).await.unwrap();
        let row: CaRow = serde_json::from_slice(&row).unwrap();
        assert_eq!(open(&test).await.unwrap().ca.cert_pem(), row.certificate);
    }

    #[tokio::test]
    async fn no_key_lies_open_in_the_store() {
        let test = TestStore::sqlite().await.unwrap();
        let keys = open(&test).await.unwrap();
        for row in [CA_ROW, TOKEN_ROW] {
            let sealed = test.store.blob(row).await.unwrap().unwrap();
            assert!(!sealed.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "{row}");
        }
        // Rows that were swapped do not open.
        let swapped = test.store.blob(TOKEN_ROW).await.unwrap().unwrap();
        test.store.put_blob(CA_ROW, &swapped).await.unwrap();
        let error = open(&test).await.unwrap_err();
        assert!(matches!(error, KeysError::Store(StoreError::Corrupt(_))), "{error}");
        assert!(!format!("{keys:?}").contains("PRIVATE"));
    }
}
