//! Why the zone plane did not start.

use std::{io, net::SocketAddr};

use atoll_model::Name;
use atoll_runtime::{diagnostics, tls};
use atoll_store::StoreError;
use atoll_trust::ca::CaError;

use super::STORE;
use crate::{Config, ConfigError, identity::DirError, join::JoinError};

/// Why the zone plane did not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory is of no use.
    #[error("the data directory {0} cannot be used; repair it, or set --data-dir to another")]
    Dir(String, #[source] DirError),
    /// Another process has the store.
    #[error("another process uses the data directory {0}; end it, or set --data-dir to another")]
    InUse(String),
    /// The store cannot be read.
    #[error(
        "the store in {0} is damaged; put back a good copy of the folder, or move it away to begin with an empty one \
         (a zone that has joined then takes all from global again), or set --data-dir to another"
    )]
    Damaged(String, #[source] StoreError),
    /// The zone's store cannot be opened.
    #[error("the store in {0} cannot be opened; may this user write there, and is there room? else set --data-dir to another")]
    Store(String, #[source] StoreError),
    /// The zone could not join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The data directory belongs to another zone.
    #[error("{0} belongs to zone {1:?}, this is zone {2:?}: use another --data-dir, or --zone {1}")]
    OtherZone(String, Name, Name),
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen at {address} ({flag}): {source}; stop what listens there, or set --{flag}")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// A file cannot be written.
    #[error("cannot write to the data directory {0}; may this user write there? else set --data-dir to another")]
    Write(String, #[source] io::Error),
    /// The token for metrics cannot be used.
    #[error("--metrics-token-file: {0}")]
    MetricsToken(#[from] diagnostics::TokenError),
}

impl StartError {
    pub(super) fn dir(config: &Config) -> impl Fn(DirError) -> Self {
        let dir = config.data_dir.display().to_string();
        move |error| Self::Dir(dir.clone(), error)
    }

    pub(super) fn store(config: &Config) -> impl Fn(StoreError) -> Self {
        let dir = config.data_dir.display().to_string();
        move |error| match error {
            StoreError::Locked(_) => Self::InUse(dir.clone()),
            StoreError::Corrupt(_) => Self::Damaged(format!("{dir}/{STORE}"), error),
            StoreError::NotFound(_)
            | StoreError::AlreadyExists(_)
            | StoreError::Conflict { .. }
            | StoreError::Invalid { .. }
            | StoreError::KeyReused
            | StoreError::Sealed(_)
            | StoreError::Unavailable(_)
            | StoreError::Uncertain(_)
            | StoreError::Closed => Self::Store(format!("{dir}/{STORE}"), error),
        }
    }
}

impl From<CaError> for StartError {
    fn from(error: CaError) -> Self {
        Self::Certificate(error.to_string())
    }
}

impl From<tls::TlsError> for StartError {
    fn from(error: tls::TlsError) -> Self {
        Self::Certificate(error.to_string())
    }
}
