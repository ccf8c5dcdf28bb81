//! Judging tokens.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta};
use serde::de::DeserializeOwned;

use super::{
    claims::{Claims, DataplaneClaims, Registered, UserClaims},
    keys::{ALG, Header, Payload, PublicKey, TYP},
};

/// How far two clocks may differ.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// No token that we make comes near.
pub(super) const LONGEST: usize = 16 * 1024;

/// Why a token is refused. The text says nothing of the token's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is no token of ours.
    #[error("not a token of this system")]
    Malformed,
    /// Its key is not in the table.
    #[error("the token was signed with a key that is not known here")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its issuer is not the key's owner.
    #[error("the token names another issuer than its key's owner")]
    Issuer,
    /// It is for something else.
    #[error("the token is not meant for this use")]
    Audience,
    /// It ended.
    #[error("the token expired")]
    Expired,
    /// It did not begin.
    #[error("the token is not valid yet")]
    NotYet,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<C> {
    /// Its claims.
    pub claims: C,
    /// Its `jti`.
    pub id: String,
    /// The key that signed it.
    pub issuer: super::Issuer,
    /// When it ends; an open stream ends [`LEEWAY`] later.
    pub expires: Timestamp,
}

/// The keys that one plane believes, and the tokens that it does not believe any more. A zone's table holds its own key and
/// global's; no zone's table holds another zone's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTable {
    keys: BTreeMap<String, PublicKey>,
    revoked: Vec<RevokedTokens>,
}

/// The `jti` of tokens that were revoked, and when each ends by itself.
pub type RevokedTokens = Arc<BTreeMap<String, Timestamp>>;

/// What a list of revoked tokens needs of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Its `jti`.
    pub id: String,
    /// When it ends by itself.
    pub expires: Timestamp,
}

impl KeyTable {
    /// Makes a table.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.kid().to_owned(), key)).collect(), revoked: Vec::new() }
    }

    /// Adds a list of revoked tokens.
    #[must_use]
    pub fn with_revoked(mut self, tokens: RevokedTokens) -> Self {
        self.revoked.push(tokens);
        self
    }

    /// Whether a token was revoked since it was judged: asked again and again while its stream is open.
    pub fn is_revoked(&self, id: &str) -> bool {
        self.revoked.iter().any(|tokens| tokens.contains_key(id))
    }

    /// Judges a user token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_user(&self, token: &str, now: Timestamp) -> Result<Verified<UserClaims>, TokenFault> {
        self.verify(token, now)
    }

    /// Judges a dataplane token. Whether its claims fit a certain dataplane is the caller's to see.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_dataplane(&self, token: &str, now: Timestamp) -> Result<Verified<DataplaneClaims>, TokenFault> {
        self.verify(token, now)
    }

    /// What a list of revoked tokens needs of a token of these keys, whatever it is for and whether it still holds.
    ///
    /// # Errors
    /// When none of the keys signed it.
    pub fn identify(&self, token: &str) -> Result<Identified, TokenFault> {
        let (key, payload) = self.signed(token)?;
        let registered: Registered = decode(payload)?;
        if registered.iss != key.issuer().to_string() {
            return Err(TokenFault::Issuer);
        }
        let expires = DateTime::from_timestamp(registered.exp, 0).ok_or(TokenFault::Malformed)?;
        Ok(Identified { id: registered.jti, expires })
    }

    fn verify<C: Claims>(&self, token: &str, now: Timestamp) -> Result<Verified<C>, TokenFault> {
        let (key, payload) = self.signed(token)?;
        // Registered claims first: a token for another use is named so, whatever its own claims are.
        let registered: Registered = decode(payload)?;
        let expires = self.judge(&registered, key, C::AUDIENCE, now)?;
        let Payload { claims, registered } = decode::<Payload<C>>(payload)?;
        Ok(Verified { claims, id: registered.jti, issuer: key.issuer(), expires })
    }

    /// The key that signed a token, and the token's payload.
    fn signed<'t>(&self, token: &'t str) -> Result<(&PublicKey, &'t str), TokenFault> {
        if token.len() > LONGEST {
            return Err(TokenFault::Malformed);
        }
        let parts: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().map_err(|_| TokenFault::Malformed)?;
        let [header, payload, signature] = parts;
        let signed = &token[..header.len() + 1 + payload.len()];
        let header: Header = decode(header)?;
        if header.alg != ALG || header.typ != TYP {
            return Err(TokenFault::Malformed);
        }
        let key = self.keys.get(&header.kid).ok_or(TokenFault::UnknownKey)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::Malformed)?;
        if !key.verifies(signed.as_bytes(), &signature) {
            return Err(TokenFault::Signature);
        }
        Ok((key, payload))
    }

    fn judge(&self, claims: &Registered, key: &PublicKey, audience: &str, now: Timestamp) -> Result<Timestamp, TokenFault> {
        let time = |seconds| DateTime::from_timestamp(seconds, 0).ok_or(TokenFault::Malformed);
        let (expires, begins) = (time(claims.exp)?, time(claims.nbf)?);
        if claims.iss != key.issuer().to_string() {
            Err(TokenFault::Issuer)
        } else if claims.aud != audience {
            Err(TokenFault::Audience)
        } else if now - expires > LEEWAY {
            Err(TokenFault::Expired)
        } else if begins - now > LEEWAY {
            Err(TokenFault::NotYet)
        } else if self.is_revoked(&claims.jti) {
            Err(TokenFault::Revoked)
        } else {
            Ok(expires)
        }
    }
}

pub(super) fn decode<T: DeserializeOwned>(part: &str) -> Result<T, TokenFault> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenFault::Malformed)
}

#[cfg(test)]
mod tests;
