//! The port to whatever has the key-encryption key.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use atoll_trust::seal::Label;

/// Has the key-encryption key: a file or a variable ([`crate::LocalKeys`]), or a key management service.
#[async_trait]
pub trait KeyProvider: Send + Sync + fmt::Debug {
    /// Names the key that wraps from now on.
    fn current(&self) -> String;

    /// Whether it has the key with this name.
    fn has(&self, key_id: &str) -> bool;

    /// Wraps a secret of at most 4 KiB with the current key; it unwraps under the same label only.
    ///
    /// # Errors
    /// When the key cannot be used at present.
    async fn wrap(&self, label: Label<'_>, secret: &[u8]) -> Result<Vec<u8>, KeyFault>;

    /// Unwraps what the key with this name wrapped.
    ///
    /// # Errors
    /// When it has no such key, when the bytes are not what was wrapped, or when the key cannot be used at present.
    async fn unwrap(&self, key_id: &str, label: Label<'_>, wrapped: &[u8]) -> Result<Vec<u8>, KeyFault>;
}

/// Why a key-encryption key did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyFault {
    /// There is no such key here.
    #[error("the key {0} is not at hand")]
    Unknown(String),
    /// What was wrapped was changed, or belongs to another row or cluster.
    #[error("what was wrapped with the key {0} was changed, or belongs to another row or cluster")]
    Damaged(String),
    /// It may work later.
    #[error("the key cannot be used at present")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}
