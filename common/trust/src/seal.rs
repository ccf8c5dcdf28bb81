//! Secrets at rest: AES-256-GCM with the name of the secret as associated data, so that two sealed rows cannot be swapped.
//!
//! ```text
//!   "AS1" 0x00 │ key id, 8 │ nonce, 12 │ ciphertext and tag
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::CryptoRng;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use uuid::Uuid;

use crate::SecretText;

const MAGIC: &[u8; 4] = b"AS1\0";
const KEY_FILE: &str = "atoll-seal-1";

/// The key that seals a plane's secrets; lives in a file of mode 0600.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

/// Names a key without telling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealKeyId([u8; 8]);

/// What a sealed secret is: it opens only as what it was sealed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// The cluster.
    pub cluster: Uuid,
    /// The name of its row.
    pub name: &'a str,
}

/// Why a secret does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was never sealed.
    #[error("this is not a sealed secret")]
    NotSealed,
    /// It was sealed with another key.
    #[error(
        "the secret was sealed with the key {sealed_with}, this is the key {given}: give this instance the seal key of the first one"
    )]
    OtherKey {
        /// The key that opens it.
        sealed_with: SealKeyId,
        /// The key at hand.
        given: SealKeyId,
    },
    /// It was changed, or is another secret than asked for.
    #[error("the sealed secret was changed, or belongs to another row or cluster")]
    Damaged,
    /// The text is no key.
    #[error("not a seal key: expected one line, {KEY_FILE} and 32 bytes in base64")]
    NotAKey,
}

impl SealKey {
    /// Makes a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Self(key)
    }

    /// The text of the key file.
    pub fn to_file(&self) -> SecretText {
        SecretText::new(format!("{KEY_FILE} {}\n", STANDARD.encode(self.0)))
    }

    /// Reads 32 bytes in base64, or the text of a key file.
    ///
    /// # Errors
    /// When it is neither.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        match STANDARD.decode(text.trim()).ok().and_then(|key| key.try_into().ok()) {
            Some(key) => Ok(Self(key)),
            None => text.trim_start().parse(),
        }
    }

    /// Names the key.
    pub fn id(&self) -> SealKeyId {
        let digest = digest(&SHA256, &[b"atoll seal key id", self.0.as_slice()].concat());
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_ref()[..8]);
        SealKeyId(id)
    }

    /// Seals a secret. The nonce is random: a key may seal some four thousand million secrets.
    pub fn seal(&self, label: Label<'_>, secret: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut body = secret.to_vec();
        self.cipher()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(label, self.id()), &mut body)
            .expect("AES-GCM takes up to 64 GiB");
        [MAGIC.as_slice(), &self.id().0, &nonce, &body].concat()
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// When it was sealed with another key, as another secret, or was changed.
    pub fn open(&self, label: Label<'_>, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::NotSealed)?;
        let (id, rest) = rest.split_first_chunk::<8>().ok_or(SealError::NotSealed)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotSealed)?;
        let sealed_with = SealKeyId(*id);
        if sealed_with != self.id() {
            return Err(SealError::OtherKey { sealed_with, given: self.id() });
        }
        let mut body = body.to_vec();
        self.cipher()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(label, sealed_with), &mut body)
            .map(|secret| secret.to_vec())
            .map_err(|_| SealError::Damaged)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("the key has 32 bytes"))
    }
}

/// The key that opens a sealed secret; `None` when it was never sealed.
pub fn sealed_with(sealed: &[u8]) -> Option<SealKeyId> {
    let (id, _) = sealed.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    Some(SealKeyId(*id))
}

fn aad(label: Label<'_>, key: SealKeyId) -> Aad<Vec<u8>> {
    Aad::from([MAGIC.as_slice(), &key.0, label.cluster.as_bytes(), label.name.as_bytes()].concat())
}

impl FromStr for SealKey {
    type Err = SealError;

    /// Reads [`SealKey::to_file`].
    fn from_str(text: &str) -> Result<Self, SealError> {
        let (version, key) = text.trim_end().split_once(' ').ok_or(SealError::NotAKey)?;
        let key = STANDARD.decode(key).ok().and_then(|key| key.try_into().ok());
        match (version, key) {
            (KEY_FILE, Some(key)) => Ok(Self(key)),
            (_, _) => Err(SealError::NotAKey),
        }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id())
    }
}

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn key(seed: u64) -> SealKey {
        SealKey::generate(&mut StdRng::seed_from_u64(seed))
    }

    fn label(cluster: u128, name: &str) -> Label<'_> {
        Label { cluster: Uuid::from_u128(cluster), name }
    }

    fn sealed() -> Vec<u8> {
        key(1).seal(label(1, "ca"), b"secret", &mut StdRng::seed_from_u64(9))
    }

    #[test]
    fn what_was_sealed_opens_as_itself_only() {
        assert_eq!(key(1).open(label(1, "ca"), &sealed()), Ok(b"secret".to_vec()));
        assert_eq!(key(1).open(label(1, "other"), &sealed()), Err(SealError::Damaged));
        assert_eq!(key(1).open(label(2, "ca"), &sealed()), Err(SealError::Damaged));
        assert_eq!(key(1).open(label(1, "ca"), b"secret"), Err(SealError::NotSealed));
        assert!(!sealed().windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn another_key_is_named() {
        let error = key(2).open(label(1, "ca"), &sealed()).unwrap_err();
        assert_eq!(error, SealError::OtherKey { sealed_with: key(1).id(), given: key(2).id() });
        assert!(error.to_string().contains(&key(1).id().to_string()));
    }

    #[test]
    fn a_key_comes_back_from_its_file() {
        let again: SealKey = key(1).to_file().expose().parse().unwrap();
        assert_eq!(again.id(), key(1).id());
        let in_variable = key(1).to_file().expose().split_once(' ').unwrap().1.to_owned();
        assert_eq!(SealKey::from_text(&in_variable).unwrap().id(), key(1).id(), "the key alone, as in a variable");
        assert_eq!(SealKey::from_text(key(1).to_file().expose()).unwrap().id(), key(1).id());
        assert_eq!(sealed_with(&sealed()), Some(key(1).id()));
        for bad in ["", "atoll-seal-1", "atoll-seal-1 AAAA", "atoll-seal-2 AAAA\n"] {
            assert_eq!(bad.parse::<SealKey>().unwrap_err(), SealError::NotAKey);
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_opens(at in 0usize..46, flip in 1u8..) {
            let mut bytes = sealed();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(key(1).open(label(1, "ca"), &bytes).is_err());
        }

        #[test]
        fn garbage_never_opens(bytes: Vec<u8>) {
            prop_assert!(key(1).open(label(1, "ca"), &bytes).is_err());
        }
    }
}
