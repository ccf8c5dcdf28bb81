//! Why the store refused, named by what the caller can do.

use std::sync::Arc;

use atoll_model::ResourceKey;

/// The cause of a failure; shared, because one failed commit answers many callers.
pub(crate) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such resource.
    #[error("{0} does not exist")]
    NotFound(ResourceKey),
    /// There is such a resource already.
    #[error("{0} exists already")]
    AlreadyExists(ResourceKey),
    /// The resource is not at the version that the caller expected; read it again.
    #[error("{key} is not at version {expected}")]
    Conflict {
        /// Which resource.
        key: ResourceKey,
        /// What the caller expected.
        expected: u64,
        /// What there is; `None` when the resource does not exist.
        actual: Option<u64>,
    },
    /// The write cannot be stored, now or later.
    #[error("{key} cannot be stored: {reason}")]
    Invalid {
        /// Which resource.
        key: ResourceKey,
        /// Why.
        reason: String,
    },
    /// The caller's key stands for another request; see [`crate::Once`].
    #[error("this key was used for another request")]
    KeyReused,
    /// Another process has the data directory open.
    #[error("{0}")]
    Locked(String),
    /// The journal holds what cannot be read; a person must look.
    #[error("the journal is damaged: {0}")]
    Corrupt(String),
    /// The secrets of the journal do not open with the keys at hand; a person must give others.
    #[error("{0}")]
    Sealed(String),
    /// The journal cannot be reached or does not take writes; nothing was changed. Reads go on. Try again later.
    #[error("the journal is not available")]
    Unavailable(#[source] Cause),
    /// The connection was lost while committing and the journal cannot say yet whether it did: the write is there as a whole
    /// or not at all. Read again when the store is available.
    #[error("the journal was lost while committing; the write may or may not be there")]
    Uncertain(#[source] Cause),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Wraps a cause whose effect is that the journal cannot be used at present.
    pub(crate) fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(cause))
    }
}
