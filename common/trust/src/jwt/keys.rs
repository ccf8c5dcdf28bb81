//! Keys that sign and judge tokens, and signing.

use std::fmt;

use atoll_model::Timestamp;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use rand::RngCore;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use super::claims::{Claims, DATAPLANE_LIFE_MAX, DataplaneClaims, Issuer, Registered, UserClaims};
use crate::{PrivateKey, SecretText, key::KeyError};

/// How far `nbf` and `iat` lie in the past, as in Kuma.
const BACKDATED: TimeDelta = TimeDelta::seconds(5);

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// A token must end.
    #[error("a token needs a validity of at least one second")]
    NoValidity,
    /// A dataplane token that would live too long.
    #[error("a dataplane token lives at most {} days", DATAPLANE_LIFE_MAX.num_days())]
    TooLong,
    /// A token for nobody.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// ring failed.
    #[error("cannot sign a token")]
    Signing,
}

/// A token, just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub text: SecretText,
    /// Its `jti`: what a list of revoked tokens names.
    pub id: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// A plane's key for tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    private: PrivateKey,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn generate(issuer: Issuer) -> Result<Self, KeyError> {
        Self::new(PrivateKey::generate()?, issuer)
    }

    /// Reads [`SigningKey::to_pem`].
    ///
    /// # Errors
    /// When the text is no P-256 key.
    pub fn from_pem(pem: &str, issuer: Issuer) -> Result<Self, KeyError> {
        Self::new(PrivateKey::from_pem(pem)?, issuer)
    }

    fn new(private: PrivateKey, issuer: Issuer) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.pkcs8(), &SystemRandom::new())
            .map_err(|_| KeyError::NotAKey)?;
        let public = PublicKey::of_point(pair.public_key().as_ref(), issuer).ok_or(KeyError::NotAKey)?;
        Ok(Self { pair, private, public })
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> SecretText {
        self.private.to_pem()
    }

    /// What others need to judge its tokens.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Makes a user token.
    ///
    /// # Errors
    /// When it has no name or no validity.
    pub fn issue_user(
        &self,
        claims: &UserClaims,
        life: TimeDelta,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<Issued, IssueError> {
        if claims.name.is_empty() {
            return Err(IssueError::Empty("name"));
        }
        self.issue(claims, life, now, rng)
    }

    /// Makes a dataplane token.
    ///
    /// # Errors
    /// When it has no mesh, no validity, or a validity above [`DATAPLANE_LIFE_MAX`].
    pub fn issue_dataplane(
        &self,
        claims: &DataplaneClaims,
        life: TimeDelta,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<Issued, IssueError> {
        if claims.mesh.is_empty() {
            return Err(IssueError::Empty("mesh"));
        }
        if life > DATAPLANE_LIFE_MAX {
            return Err(IssueError::TooLong);
        }
        self.issue(claims, life, now, rng)
    }

    fn issue<C: Claims>(
        &self,
        claims: &C,
        life: TimeDelta,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<Issued, IssueError> {
        let expires = now.checked_add_signed(life).filter(|_| life >= TimeDelta::seconds(1)).ok_or(IssueError::NoValidity)?;
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let registered = Registered {
            iss: self.public.issuer.to_string(),
            aud: C::AUDIENCE.to_owned(),
            exp: expires.timestamp(),
            nbf: (now - BACKDATED).timestamp(),
            iat: (now - BACKDATED).timestamp(),
            jti: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
        };
        let id = registered.jti.clone();
        let text = self.sign(&Payload { registered, claims })?;
        Ok(Issued { text, id, expires })
    }

    pub(super) fn sign(&self, payload: &impl Serialize) -> Result<SecretText, IssueError> {
        let header = Header { alg: ALG.to_owned(), typ: TYP.to_owned(), kid: self.public.kid.clone() };
        let encode = |json: Result<Vec<u8>, _>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_: serde_json::Error| IssueError::Signing)
        };
        let signed = format!("{}.{}", encode(serde_json::to_vec(&header))?, encode(serde_json::to_vec(payload))?);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| IssueError::Signing)?;
        Ok(SecretText::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} of {})", self.public.kid, self.public.issuer)
    }
}

pub(super) const ALG: &str = "ES256";
pub(super) const TYP: &str = "JWT";

/// The header of every token; one that says anything more is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: String,
    pub(super) kid: String,
}

/// The payload of every token.
#[derive(Serialize, Deserialize)]
pub(super) struct Payload<C> {
    #[serde(flatten)]
    pub(super) registered: Registered,
    #[serde(flatten)]
    pub(super) claims: C,
}

/// A public key for tokens, and whose it is: global hands its own to the zones.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct PublicKey {
    kid: String,
    issuer: Issuer,
    point: [u8; POINT],
}

const POINT: usize = 65;

/// How a public key travels.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    issuer: String,
    alg: String,
    key: String,
}

impl PublicKey {
    fn of_point(point: &[u8], issuer: Issuer) -> Option<Self> {
        let point: [u8; POINT] = point.try_into().ok().filter(|point: &[u8; POINT]| point[0] == 4)?;
        let kid = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &point).as_ref()[..12]);
        Some(Self { kid, issuer, point })
    }

    /// The name by which tokens call it: made of the key itself, so no two keys have one name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Whose it is.
    pub fn issuer(&self) -> Issuer {
        self.issuer
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(signed, signature).is_ok()
    }
}

impl From<PublicKey> for Written {
    fn from(key: PublicKey) -> Self {
        Self { issuer: key.issuer.to_string(), alg: ALG.to_owned(), key: URL_SAFE_NO_PAD.encode(key.point) }
    }
}

impl TryFrom<Written> for PublicKey {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let issuer = written.issuer.parse().map_err(|_| "unknown issuer")?;
        let point = URL_SAFE_NO_PAD.decode(written.key).map_err(|_| "the key is not base64url")?;
        if written.alg != ALG {
            return Err("the key is not for ES256");
        }
        Self::of_point(&point, issuer).ok_or("the key is no point of P-256")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} of {})", self.kid, self.issuer)
    }
}
