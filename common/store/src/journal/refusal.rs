//! Why a join token was refused; the same on every journal.

use atoll_model::{Name, Timestamp};

use crate::{Redeem, Refusal};

/// A stored token, as far as a refusal depends on it.
pub(super) struct StoredToken {
    pub(super) hash: Vec<u8>,
    pub(super) zone: Name,
    pub(super) expires: Timestamp,
}

/// Explains to the operator why a token did not match a row.
pub(super) fn explain(stored: Option<StoredToken>, hash: &[u8; 32], zone: &Name, now: Timestamp) -> Redeem {
    Redeem::Refused(match stored {
        None => Refusal::Unknown,
        Some(stored) if stored.hash != hash => Refusal::Unknown,
        Some(stored) if stored.zone != *zone => Refusal::OtherZone,
        Some(stored) if stored.expires <= now => Refusal::Expired,
        Some(_) => Refusal::Used,
    })
}
