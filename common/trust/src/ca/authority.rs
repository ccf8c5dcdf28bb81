//! What all CAs have in common: a key, a certificate, and how they sign.

use std::{net::IpAddr, time::Duration};

use atoll_model::{Timestamp, spiffe::SpiffeId};
use chrono::TimeDelta;
use rand::RngCore;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::SKEW;
use crate::{
    Pin, PrivateKey, SecretText,
    key::KeyError,
    x509::{Facts, ReadError},
};

/// Why a CA cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// What was stored as its certificate is none.
    #[error("the stored CA certificate cannot be read")]
    Certificate(#[from] ReadError),
    /// What was stored as its key is none.
    #[error("the stored CA key cannot be read")]
    Key(#[from] KeyError),
    /// Certificate and key do not belong together, or the certificate is not of this kind of CA.
    #[error("this is not a usable CA: {0}")]
    NotThisCa(String),
    /// A server's name is no DNS name.
    #[error("{0:?} is not a DNS name")]
    Name(String),
    /// The SPIFFE id lies in another trust domain.
    #[error("{id} does not lie in the trust domain {domain}")]
    ForeignId {
        /// The id.
        id: SpiffeId,
        /// The CA's trust domain.
        domain: String,
    },
    /// The CA's own life ends before the certificate's would begin to be of use.
    #[error("the CA expired at {0}")]
    Expired(Timestamp),
    /// The CA's life did not begin: the clock was set back.
    #[error("the CA begins at {0}: the clock of this machine stands too early")]
    NotYet(Timestamp),
    /// Signing failed.
    #[error("cannot sign a certificate")]
    Signing(#[source] rcgen::Error),
}

/// What a server certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names beside the plane's fixed one.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

impl ServerNames {
    /// Sorts what people dial into addresses and names.
    pub fn of<'a>(dialled: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names = Self::default();
        for text in dialled {
            match text.parse() {
                Ok(ip) => names.ips.push(ip),
                Err(_) => names.dns.push(text.to_owned()),
            }
        }
        names
    }
}

/// A key and its CA certificate.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    facts: Facts,
}

/// What the certificate of a new CA says.
pub(super) struct CaProfile {
    pub(super) common_name: String,
    pub(super) life: TimeDelta,
    pub(super) path_len: u8,
    pub(super) name_constraints: Option<Vec<u8>>,
}

impl Authority {
    pub(super) fn generate(profile: CaProfile, now: Timestamp, rng: &mut impl RngCore) -> Result<Self, CaError> {
        let key = PrivateKey::generate()?;
        let mut params = params(now, now + profile.life, rng);
        params.distinguished_name.push(DnType::CommonName, profile.common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(profile.path_len));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        if let Some(der) = profile.name_constraints {
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
        let certificate = params.self_signed(key.pair()).map_err(CaError::Signing)?;
        Self::new(&certificate.pem(), key)
    }

    pub(super) fn load(certificate: &str, key: &str) -> Result<Self, CaError> {
        Self::new(certificate, PrivateKey::from_pem(key)?)
    }

    fn new(pem: &str, key: PrivateKey) -> Result<Self, CaError> {
        let facts = Facts::of_pem(pem)?;
        if !facts.is_ca {
            return Err(CaError::NotThisCa("the certificate is not of a CA".to_owned()));
        }
        if facts.pin != key.pin() {
            return Err(CaError::NotThisCa("the key belongs to another certificate".to_owned()));
        }
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| ReadError::NotPem)?;
        let issuer = Issuer::from_ca_cert_der(&der, key.into_pair()).map_err(CaError::Signing)?;
        Ok(Self { issuer, pem: pem.to_owned(), facts })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    pub(super) fn key_pem(&self) -> SecretText {
        SecretText::new(self.issuer.key().serialize_pem())
    }

    pub(super) fn pin(&self) -> Pin {
        self.facts.pin
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// When a certificate that is made now ends: after `life`, and never after the CA.
    pub(super) fn end_of(&self, life: TimeDelta, now: Timestamp) -> Result<Timestamp, CaError> {
        if now < self.facts.not_before {
            return Err(CaError::NotYet(self.facts.not_before));
        }
        let end = (now + life).min(self.facts.not_after);
        if end <= now { Err(CaError::Expired(self.facts.not_after)) } else { Ok(end) }
    }

    pub(super) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, CaError> {
        params.signed_by(key, &self.issuer).map_err(CaError::Signing)
    }
}

/// Parameters of a certificate that names nobody yet, with a random serial number.
pub(super) fn params(now: Timestamp, end: Timestamp, rng: &mut impl RngCore) -> CertificateParams {
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and always as long
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // rcgen speaks `time`, we speak `chrono`; a certificate holds whole seconds, and nothing here lies before 1970.
    let date = |at: Timestamp| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0));
    params.not_before = date(now - SKEW);
    params.not_after = date(end);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// The alternative names of a server.
pub(super) fn server_names(fixed: &str, names: &ServerNames) -> Result<Vec<SanType>, CaError> {
    let dns = |name: &str| name.try_into().map(SanType::DnsName).map_err(|_| CaError::Name(name.to_owned()));
    let mut seen: Vec<SanType> = vec![dns(fixed)?];
    for name in names.dns.iter().map(|name| dns(name)).chain(names.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)))) {
        let name = name?;
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    Ok(seen)
}

/// One URI.
pub(super) fn uri(text: &str) -> Result<SanType, CaError> {
    text.try_into().map(SanType::URI).map_err(|_| CaError::Name(text.to_owned()))
}
