//! Private keys (P-256) and requests that prove the possession of one.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

use crate::{Pin, SecretText};

/// Why a key or a request is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no PKCS#8 PEM of a P-256 key.
    #[error("not a P-256 private key in PKCS#8 PEM")]
    NotAKey,
    /// The bytes are no certificate request.
    #[error("not a certificate request: {0}")]
    NotARequest(&'static str),
    /// ring or rcgen failed.
    #[error("cannot make a key")]
    Crypto(#[source] rcgen::Error),
}

/// A P-256 private key.
pub struct PrivateKey {
    pair: KeyPair,
}

impl PrivateKey {
    /// Makes a key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Crypto)?;
        Ok(Self { pair })
    }

    /// Reads [`PrivateKey::to_pem`].
    ///
    /// # Errors
    /// When the text is anything else than a P-256 key in PKCS#8.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NotAKey)?;
        Ok(Self { pair })
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> SecretText {
        SecretText::new(self.pair.serialize_pem())
    }

    /// The key as PKCS#8 DER.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.pair.serialized_der()
    }

    /// The pin of its public key.
    pub fn pin(&self) -> Pin {
        Pin::of_spki(&self.pair.subject_public_key_info())
    }

    /// Its public key as SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// A certificate request that says nothing but "I hold this key": whoever signs chooses all else.
    ///
    /// # Errors
    /// When signing fails.
    pub fn request(&self) -> Result<CertificateRequest, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair).map_err(KeyError::Crypto)?;
        CertificateRequest::from_der(request.der())
    }

    /// The key for rcgen.
    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The key for rcgen, which wants to own an issuer's.
    pub(crate) fn into_pair(self) -> KeyPair {
        self.pair
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.pin())
    }
}

/// A certificate request whose signature was checked. Only its public key is ever used.
#[derive(Clone)]
pub struct CertificateRequest {
    der: Vec<u8>,
    public_key: SubjectPublicKeyInfo,
    pin: Pin,
}

impl CertificateRequest {
    /// Reads a request and checks that its sender holds the key.
    ///
    /// # Errors
    /// When the bytes are no request, its key is not P-256, or it was signed with another key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| KeyError::NotARequest("its DER is broken"))?;
        if !rest.is_empty() {
            return Err(KeyError::NotARequest("bytes follow it"));
        }
        let spki = request.certification_request_info.subject_pki.raw;
        let public_key =
            SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::NotARequest("its key is of an unknown kind"))?;
        if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(KeyError::NotARequest("its key is not P-256"));
        }
        request.verify_signature().map_err(|_| KeyError::NotARequest("it was not signed with its own key"))?;
        Ok(Self { der: der.to_vec(), public_key, pin: Pin::of_spki(spki) })
    }

    /// Reads a request in PEM.
    ///
    /// # Errors
    /// As [`CertificateRequest::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der =
            CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotARequest("it is no PEM"))?;
        Self::from_der(&der)
    }

    /// The request as it travels.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The pin of its public key: by it a repeated request is told from somebody else's.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateRequest({:?})", self.pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_pem_and_hides_from_debug() {
        let key = PrivateKey::generate().unwrap();
        let pem = key.to_pem();
        let again = PrivateKey::from_pem(pem.expose()).unwrap();
        assert_eq!(again.pin(), key.pin());
        assert!(!format!("{key:?} {pem:?}").contains("PRIVATE KEY"));
        assert!(matches!(
            PrivateKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            Err(KeyError::NotAKey)
        ));
    }

    #[test]
    fn a_request_proves_its_key() {
        let key = PrivateKey::generate().unwrap();
        let request = key.request().unwrap();
        assert_eq!(request.pin(), key.pin());
        let mut forged = request.der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(matches!(CertificateRequest::from_der(&forged), Err(KeyError::NotARequest(_))));
    }

    #[test]
    fn a_request_with_another_kind_of_key_is_refused() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let der = CertificateParams::default().serialize_request(&pair).unwrap();
        let error = CertificateRequest::from_der(der.der()).unwrap_err();
        assert_eq!(error.to_string(), "not a certificate request: its key is not P-256");
    }

    #[test]
    fn a_request_for_the_key_of_somebody_else_is_refused() {
        // The public key of `victim` in a request that `thief` signs: swap the two keys' bytes in the DER.
        let (victim, thief) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let mut der = thief.request().unwrap().der().to_vec();
        let (from, to) = (thief.pair.public_key_raw(), victim.pair.public_key_raw());
        let at = der.windows(from.len()).position(|bytes| bytes == from).unwrap();
        der[at..at + to.len()].copy_from_slice(to);
        let error = CertificateRequest::from_der(&der).unwrap_err();
        assert_eq!(error.to_string(), "not a certificate request: it was not signed with its own key");
    }
}
