//! Tokens of another issuer: an identity provider that publishes its keys as a JWK set (OpenID Connect).
//!
//! The keys decide the algorithm: RS256 for RSA keys, ES256 for keys of P-256, nothing else. What a token's header says of keys
//! or of places to find them is never used.

use std::collections::BTreeMap;

use atoll_model::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::verify::{LEEWAY, LONGEST, TokenFault, decode};

/// Keys that a set may have; more are no set that we understand.
const KEYS: usize = 64;
/// Bytes of an RSA modulus: 2048 to 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// An identity provider's public keys, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwkSet(BTreeMap<String, ExternalKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum ExternalKey {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256([u8; 65]),
}

/// A key as it is published.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What of a token's header is looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    crit: Option<Value>,
}

/// The claims that every token must have, and those that bound it.
#[derive(Deserialize)]
struct Bounds {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    jti: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who must have issued a token, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The issuer, exactly.
    pub issuer: &'a str,
    /// One of the audiences, exactly.
    pub audience: &'a str,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalClaims {
    /// All claims.
    pub claims: Map<String, Value>,
    /// Its `jti`, if it has one.
    pub id: String,
    /// When it ends; an open stream ends [`LEEWAY`] later.
    pub expires: Timestamp,
}

/// The set is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkSetFault {
    /// It is no JSON of the right form.
    #[error("it is no JWK set")]
    Malformed,
    /// It has too many keys.
    #[error("it has more than {KEYS} keys")]
    TooMany,
    /// It has none that we can use.
    #[error("it has no RSA key of 2048 bits or more and no P-256 key for signatures")]
    Empty,
}

impl JwkSet {
    /// Reads a set; keys for other uses and of other kinds are left out.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn parse(json: &[u8]) -> Result<Self, JwkSetFault> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| JwkSetFault::Malformed)?;
        if set.keys.len() > KEYS {
            return Err(JwkSetFault::TooMany);
        }
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: BTreeMap<_, _> = keys.filter_map(|key| Some((key.kid.clone(), ExternalKey::of(&key)?))).collect();
        if keys.is_empty() { Err(JwkSetFault::Empty) } else { Ok(Self(keys)) }
    }

    /// Judges a token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, expected: Expected<'_>, now: Timestamp) -> Result<ExternalClaims, TokenFault> {
        let (signed, [header, payload, signature]) = split(token)?;
        let header: Header = decode(header)?;
        if header.crit.is_some() {
            return Err(TokenFault::Malformed);
        }
        let key = self.0.get(&header.kid).ok_or(TokenFault::UnknownKey)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::Malformed)?;
        if header.alg != key.algorithm() || !key.verifies(signed.as_bytes(), &signature) {
            return Err(TokenFault::Signature);
        }
        let bounds: Bounds = decode(payload)?;
        let expires = bounds.judge(expected, now)?;
        Ok(ExternalClaims { claims: decode(payload)?, id: bounds.jti.unwrap_or_default(), expires })
    }
}

/// The issuer that a token names, before anything of it is believed: it only says who shall judge it.
pub fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    let (_, [_, payload, _]) = split(token).ok()?;
    decode::<Named>(payload).ok().map(|named| named.iss)
}

/// The part that is signed, and the three parts.
fn split(token: &str) -> Result<(&str, [&str; 3]), TokenFault> {
    if token.len() > LONGEST {
        return Err(TokenFault::Malformed);
    }
    let parts: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().map_err(|_| TokenFault::Malformed)?;
    Ok((&token[..parts[0].len() + 1 + parts[1].len()], parts))
}

impl ExternalKey {
    fn of(key: &Jwk) -> Option<Self> {
        let text = |part: &Option<String>| URL_SAFE_NO_PAD.decode(part.as_deref()?).ok();
        let may_sign = key.usage.as_deref().is_none_or(|usage| usage == "sig");
        let is_for = |alg: &str| key.alg.as_deref().is_none_or(|own| own == alg);
        match key.kty.as_str() {
            "RSA" if may_sign && is_for("RS256") => {
                let (n, e) = (text(&key.n)?, text(&key.e)?);
                let n: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                MODULUS.contains(&n.len()).then_some(Self::Rsa { n, e })
            }
            "EC" if may_sign && is_for("ES256") && key.crv.as_deref() == Some("P-256") => {
                let point: Vec<u8> = [vec![4], text(&key.x)?, text(&key.y)?].concat();
                point.try_into().ok().map(Self::P256)
            }
            _ => None,
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            ExternalKey::Rsa { .. } => "RS256",
            ExternalKey::P256(_) => "ES256",
        }
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            ExternalKey::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            ExternalKey::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok(),
        }
    }
}

impl Bounds {
    fn judge(&self, expected: Expected<'_>, now: Timestamp) -> Result<Timestamp, TokenFault> {
        let time = |seconds: f64| DateTime::from_timestamp(seconds as i64, 0).ok_or(TokenFault::Malformed);
        let is_meant = match &self.aud {
            Audience::One(one) => one == expected.audience,
            Audience::Many(all) => all.iter().any(|one| one == expected.audience),
        };
        let (expires, begins) = (time(self.exp)?, self.nbf.map(time).transpose()?);
        if self.iss != expected.issuer {
            Err(TokenFault::Issuer)
        } else if !is_meant {
            Err(TokenFault::Audience)
        } else if now - expires > LEEWAY {
            Err(TokenFault::Expired)
        } else if begins.is_some_and(|begins| begins - now > LEEWAY) {
            Err(TokenFault::NotYet)
        } else {
            Ok(expires)
        }
    }
}

#[cfg(test)]
mod tests;
