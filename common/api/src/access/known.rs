//! Who was judged a moment ago: a signature costs more than all else that an answer from memory needs.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use atoll_model::Timestamp;
use chrono::TimeDelta;
use sha2::{Digest, Sha256};

use super::Caller;

/// How long a judgement is taken over. Expiry and revocation are looked at each time; what may lag this long is a signing key
/// that was withdrawn.
const FRESH: TimeDelta = TimeDelta::seconds(5);
/// Most callers that are kept; beyond, all are judged again.
const MOST: usize = 4096;

/// The name of a token here: tokens themselves are not kept.
pub(crate) type TokenHash = [u8; 32];

/// Callers by the hash of their token.
#[derive(Default)]
pub(crate) struct Known(RwLock<HashMap<TokenHash, (Caller, Timestamp)>>);

/// What a token is looked up by.
pub(crate) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

impl Known {
    /// Who showed this token a moment ago, if it has not ended since.
    pub(crate) fn get(&self, token: &TokenHash, now: Timestamp) -> Option<Caller> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (caller, judged) = known.get(token)?;
        let fresh = now >= *judged && now - *judged <= FRESH;
        let holds = caller.credential.expires.is_none_or(|expires| now <= expires);
        (fresh && holds).then(|| caller.clone())
    }

    /// Remembers who showed a token.
    pub(crate) fn insert(&self, token: TokenHash, caller: &Caller, now: Timestamp) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&token) {
            known.clear();
        }
        known.insert(token, (caller.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use atoll_store::AuthMethod;
    use chrono::{TimeZone, Utc};

    use super::*;
    use crate::access::Credential;

    #[test]
    fn a_judgement_is_taken_over_for_a_moment_and_never_beyond_the_end_of_the_token() {
        let at = |second: i64| Utc.timestamp_opt(1_000_000 + second, 0).unwrap();
        let credential = Credential { method: AuthMethod::Token, id: "a".into(), expires: Some(at(3)) };
        let caller = Caller::new("u", ["g"]).with(credential);
        let (known, token) = (Known::default(), hash("token"));
        assert_eq!(known.get(&token, at(0)), None);
        known.insert(token, &caller, at(0));
        assert_eq!(known.get(&token, at(3)).as_ref(), Some(&caller));
        assert_eq!(known.get(&token, at(4)), None, "it ended");
        assert_eq!(known.get(&hash("another"), at(0)), None);
        known.insert(token, &Caller::new("u", ["g"]), at(0));
        assert!(known.get(&token, at(5)).is_some());
        assert_eq!(known.get(&token, at(6)), None, "it must be judged again");
    }
}
