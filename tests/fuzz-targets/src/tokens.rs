//! Tokens of strangers.

use atoll_model::Timestamp;
use atoll_trust::jwt::{JwkSet, KeyTable, PublicKey, claimed_issuer};

use crate::text;

/// A key whose private half is gone. Tokens of the corpus that it signed ended long ago.
const KEY: &str = include_str!("../../../fuzz/token.key.json");

/// No token is believed: nobody can sign any more, and what was signed has ended.
pub(crate) fn token(bytes: &[u8]) {
    let _ = JwkSet::parse(bytes);
    let Some(token) = text(bytes) else { return };
    let table = KeyTable::new([serde_json::from_str::<PublicKey>(KEY).unwrap()]);
    let now = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
    assert!(table.verify_user(token, now).is_err());
    assert!(table.verify_dataplane(token, now).is_err());
    if let Ok(identified) = table.identify(token) {
        assert!(identified.expires < now);
    }
    let _ = claimed_issuer(token);
}
