//! Sealing of rows, each with a key of its own: a data key seals the row, and the [`crate::seal`] key, or a key management
//! service, wraps the data key.
//!
//! ```text
//!   nonce, 12 │ ciphertext and tag          AES-256-GCM, bound to cluster, kind, mesh, name, owner and version of the row
//! ```

use std::fmt;

use rand::CryptoRng;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use uuid::Uuid;

use crate::seal::SealError;

/// The key of one row.
#[derive(Clone)]
pub struct DataKey([u8; 32]);

/// Which row, in which version: it opens only there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The cluster.
    pub cluster: Uuid,
    /// The kind of resource.
    pub kind: &'a str,
    /// Its mesh, if it has one.
    pub mesh: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whose it is.
    pub owner: &'a str,
    /// Its version.
    pub version: u64,
}

impl DataKey {
    /// Makes a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// Takes the bytes of [`DataKey::expose`]; `None` unless there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bytes, to be wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals a row.
    pub fn seal(&self, row: Row<'_>, secret: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut body = secret.to_vec();
        self.cipher()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), row.aad(), &mut body)
            .expect("AES-GCM takes up to 64 GiB");
        [nonce.as_slice(), &body].concat()
    }

    /// Opens a row.
    ///
    /// # Errors
    /// When it was changed, or is another row or another version of it.
    pub fn open(&self, row: Row<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotSealed)?;
        let mut body = body.to_vec();
        self.cipher()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), row.aad(), &mut body)
            .map(|secret| secret.to_vec())
            .map_err(|_| SealError::Damaged)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("the key has 32 bytes"))
    }
}

impl Row<'_> {
    /// Every part with its length, so that no two rows look alike.
    fn aad(&self) -> Aad<Vec<u8>> {
        let mut aad = b"atoll row 1".to_vec();
        aad.extend(self.cluster.as_bytes());
        aad.extend(self.version.to_be_bytes());
        for part in [self.kind, self.mesh, self.name, self.owner] {
            aad.extend((part.len() as u64).to_be_bytes());
            aad.extend(part.as_bytes());
        }
        Aad::from(aad)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Makes digests that tell nothing to those who have not the key, not even whether a guess is right.
#[derive(Clone)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// Of 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The digest of something: equal for equal bytes.
    pub fn digest(&self, bytes: &[u8]) -> [u8; 16] {
        let mut digest = [0; 16];
        digest.copy_from_slice(&hmac::sign(&self.0, bytes).as_ref()[..16]);
        digest
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const ROW: Row<'_> = Row { cluster: Uuid::from_u128(1), kind: "Secret", mesh: "default", name: "a", owner: "", version: 1 };

    fn key(seed: u64) -> DataKey {
        DataKey::generate(&mut StdRng::seed_from_u64(seed))
    }

    fn sealed() -> Vec<u8> {
        key(1).seal(ROW, b"secret", &mut StdRng::seed_from_u64(9))
    }

    #[test]
    fn a_row_opens_in_its_own_place_only() {
        assert_eq!(key(1).open(ROW, &sealed()), Ok(b"secret".to_vec()));
        let others = [
            Row { cluster: Uuid::from_u128(2), ..ROW },
            Row { kind: "GlobalSecret", ..ROW },
            Row { mesh: "other", ..ROW },
            Row { name: "b", ..ROW },
            Row { owner: "zone", ..ROW },
            Row { version: 2, ..ROW },
            Row { mesh: "defaul", name: "ta", ..ROW },
        ];
        for row in others {
            assert_eq!(key(1).open(row, &sealed()), Err(SealError::Damaged), "{row:?}");
        }
        assert_eq!(key(2).open(ROW, &sealed()), Err(SealError::Damaged));
        assert_eq!(key(1).open(ROW, b"short"), Err(SealError::NotSealed));
    }

    #[test]
    fn keys_are_not_in_debug_texts() {
        let key = DataKey::from_bytes(&[7; 32]).unwrap();
        assert_eq!(format!("{key:?} {:?}", DigestKey::new(&[7; 32])), "DataKey(…) DigestKey(…)");
        assert!(DataKey::from_bytes(&[7; 31]).is_none());
    }

    #[test]
    fn digests_depend_on_content_and_key() {
        let digest = |key, text: &str| DigestKey::new(&[key; 32]).digest(text.as_bytes());
        assert_eq!(digest(1, "a"), digest(1, "a"));
        assert_ne!(digest(1, "a"), digest(1, "b"));
        assert_ne!(digest(1, "a"), digest(2, "a"));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_opens(at: usize, flip in 1u8..) {
            let mut bytes = sealed();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(key(1).open(ROW, &bytes).is_err());
        }
    }
}
