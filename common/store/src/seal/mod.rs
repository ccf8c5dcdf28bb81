//! Secrets at rest. Each sealed row has a data key of its own; the key-encryption key, which a [`KeyProvider`] has, wraps it.
//! In memory the resources are open: this plane has to work with them.
//!
//! ```text
//!   commit ─▶ data keys (provider) ─▶ plan: seals each version ─▶ journal
//!   journal ─▶ OpeningLog: unwraps, opens ─▶ table
//! ```

mod envelope;
mod keys;
mod opening;
mod provider;
mod rewrap;
mod vault;

pub(crate) use envelope::{DataKeys, SealedSpec, SealingKey};
pub(crate) use opening::OpeningLog;
pub(crate) use vault::Vault;

pub use keys::{Keys, LocalKeys, make_key_file};
pub use provider::{KeyFault, KeyProvider};
pub use rewrap::{RewrapStep, Rewrapped};

/// Whether resources of a kind are sealed at rest.
pub(crate) fn is_sealed(kind: atoll_model::Kind) -> bool {
    kind.descriptor().sealed
}
