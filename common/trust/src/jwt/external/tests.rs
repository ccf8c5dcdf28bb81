use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::json;

use super::*;

/// A key of tests only: ring can use RSA keys and cannot make them.
const RSA: &str = include_str!("rsa-2048.pem");

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An identity provider with one key of each kind.
struct Provider {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let rsa = RsaKeyPair::from_pkcs8(PrivatePkcs8KeyDer::from_pem_slice(RSA.as_bytes()).unwrap().secret_pkcs8_der()).unwrap();
        Self { ec, rsa }
    }

    fn set(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "RSA", "kid": "rsa", "alg": "RS256", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            {"kty": "OKP", "kid": "other", "crv": "Ed25519", "x": "AA"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": encode(&rsa.n), "e": encode(&rsa.e)},
        ]})
    }

    fn keys(&self) -> JwkSet {
        JwkSet::parse(self.set().to_string().as_bytes()).unwrap()
    }

    fn token(&self, header: Value, payload: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(payload.to_string()));
        let random = SystemRandom::new();
        let signature = if header["kid"] == "ec" {
            self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        format!("{signed}.{}", encode(signature))
    }
}

const EXPECTED: Expected<'static> = Expected { issuer: "https://idp.example", audience: "atoll" };

fn payload(more: Value) -> Value {
    let mut payload = json!({"iss": EXPECTED.issuer, "aud": "atoll", "sub": "ann", "exp": now().timestamp() + 60});
    payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    payload
}

fn judge(provider: &Provider, header: Value, more: Value) -> Result<String, TokenFault> {
    let verified = provider.keys().verify(&provider.token(header, &payload(more)), EXPECTED, now())?;
    Ok(verified.claims["sub"].as_str().unwrap().to_owned())
}

#[test]
fn both_kinds_of_keys_are_believed() {
    let provider = Provider::new();
    for header in [json!({"alg": "ES256", "kid": "ec"}), json!({"alg": "RS256", "kid": "rsa", "typ": "at+jwt", "x5t": "abc"})] {
        assert_eq!(judge(&provider, header.clone(), json!({})), Ok("ann".to_owned()));
        assert_eq!(judge(&provider, header, json!({"aud": ["x", "atoll"], "nbf": now().timestamp() + 20})), Ok("ann".to_owned()));
    }
    assert_eq!(claimed_issuer(&provider.token(json!({}), &payload(json!({})))).as_deref(), Some(EXPECTED.issuer));
}

#[test]
fn the_key_says_the_algorithm() {
    let provider = Provider::new();
    for (header, fault) in [
        (json!({"alg": "none", "kid": "ec"}), TokenFault::Signature),
        (json!({"alg": "HS256", "kid": "rsa"}), TokenFault::Signature),
        (json!({"alg": "RS256", "kid": "ec"}), TokenFault::Signature),
        (json!({"alg": "ES256", "kid": "rsa"}), TokenFault::Signature),
        (json!({"alg": "RS256", "kid": "enc"}), TokenFault::UnknownKey),
        (json!({"alg": "RS256"}), TokenFault::UnknownKey),
        (json!({"alg": "RS256", "kid": "x", "jku": "https://evil.example/keys"}), TokenFault::UnknownKey),
        (json!({"alg": "ES256", "kid": "ec", "crit": ["b64"]}), TokenFault::Malformed),
    ] {
        assert_eq!(judge(&provider, header.clone(), json!({})), Err(fault), "{header}");
    }
}

#[test]
fn claims_bound_the_token() {
    let provider = Provider::new();
    let at = now().timestamp();
    for (claims, fault) in [
        (json!({"iss": "https://idp.example/"}), TokenFault::Issuer),
        (json!({"aud": "other"}), TokenFault::Audience),
        (json!({"aud": []}), TokenFault::Audience),
        (json!({"exp": at - 31}), TokenFault::Expired),
        (json!({"nbf": at + 31}), TokenFault::NotYet),
        (json!({"exp": "soon"}), TokenFault::Malformed),
    ] {
        assert_eq!(judge(&provider, json!({"alg": "ES256", "kid": "ec"}), claims.clone()), Err(fault), "{claims}");
    }
}

#[test]
fn another_providers_signature_is_wrong() {
    let (own, other) = (Provider::new(), Provider::new());
    let token = other.token(json!({"alg": "ES256", "kid": "ec"}), &payload(json!({})));
    assert_eq!(own.keys().verify(&token, EXPECTED, now()).unwrap_err(), TokenFault::Signature);
}

#[test]
fn sets_without_a_key_that_we_use_are_refused() {
    assert_eq!(JwkSet::parse(b"{}"), Err(JwkSetFault::Malformed));
    assert_eq!(
        JwkSet::parse(br#"{"keys": [{"kty": "RSA", "kid": "short", "n": "AQAB", "e": "AQAB"}]}"#),
        Err(JwkSetFault::Empty)
    );
    let many = json!({"keys": vec![json!({"kty": "OKP"}); KEYS + 1]}).to_string();
    assert_eq!(JwkSet::parse(many.as_bytes()), Err(JwkSetFault::TooMany));
}
