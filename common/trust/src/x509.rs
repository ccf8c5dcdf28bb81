//! Reading certificates: what they say, never whether to believe them.

use atoll_model::Timestamp;
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::DateTime;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    extensions::{GeneralName, GeneralSubtree},
    prelude::{FromDer, X509Certificate},
};

use crate::Pin;

/// Why a certificate cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The text holds no certificate, or something else beside it.
    #[error("not a certificate in PEM")]
    NotPem,
    /// The bytes are no certificate, or an extension is broken or there twice.
    #[error("not a certificate in DER")]
    NotDer,
}

/// What a certificate says, as far as this project asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Pin of its public key.
    pub pin: Pin,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Start of its life.
    pub not_before: Timestamp,
    /// End of its life.
    pub not_after: Timestamp,
    /// Whether it names nobody beside its alternative names.
    pub empty_subject: bool,
    /// URIs among its alternative names.
    pub uris: Vec<String>,
    /// All other alternative names, as text.
    pub other_names: Vec<String>,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// How many CAs may stand between it and a leaf; `None`: as many as they like.
    pub path_len: Option<u32>,
    /// Whether a server may show it.
    pub server_auth: bool,
    /// Whether a client may show it.
    pub client_auth: bool,
    /// Its name constraints.
    pub constraints: Option<Constraints>,
}

/// A CA's name constraints, each subtree as text: `uri:…`, `dns:…`, `ip:<hexadecimal>`, `email:…`, `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Whether who does not understand them must refuse the CA.
    pub critical: bool,
    /// All that may be named, per kind of name.
    pub permitted: Vec<String>,
    /// What must not be named.
    pub excluded: Vec<String>,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When the bytes are anything but one certificate with readable extensions.
    pub fn of_der(der: &[u8]) -> Result<Self, ReadError> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name().map_err(|_| ReadError::NotDer)?;
        let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
        let (uris, other_names) = split_names(&names);
        let basic = certificate.basic_constraints().map_err(|_| ReadError::NotDer)?.map(|basic| basic.value.clone());
        let usage = certificate.extended_key_usage().map_err(|_| ReadError::NotDer)?.map(|usage| usage.value.clone());
        Ok(Self {
            pin: Pin::of_spki(certificate.public_key().raw),
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: timestamp(certificate.validity().not_before.timestamp()),
            not_after: timestamp(certificate.validity().not_after.timestamp()),
            empty_subject: certificate.subject().iter().next().is_none(),
            uris,
            other_names,
            is_ca: basic.as_ref().is_some_and(|basic| basic.ca),
            path_len: basic.and_then(|basic| basic.path_len_constraint),
            server_auth: usage.as_ref().is_none_or(|usage| usage.any || usage.server_auth),
            client_auth: usage.is_none_or(|usage| usage.any || usage.client_auth),
            constraints: constraints(&certificate)?,
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn of_pem(pem: &str) -> Result<Self, ReadError> {
        Self::of_der(chain(pem)?.first().ok_or(ReadError::NotPem)?)
    }

    /// Its only name, when that is a URI.
    pub fn only_uri(&self) -> Option<&str> {
        match (self.uris.as_slice(), self.other_names.as_slice()) {
            ([uri], []) => Some(uri),
            (_, _) => None,
        }
    }
}

/// All certificates of a PEM text, in DER.
///
/// # Errors
/// When the text holds none, or a broken one.
pub fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, ReadError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| ReadError::NotPem)?;
    if all.is_empty() { Err(ReadError::NotPem) } else { Ok(all) }
}

/// Whether one of the CAs in a PEM text signed the certificate. Says nothing of names and times.
pub fn is_signed_by(der: &[u8], cas_pem: &str) -> bool {
    let (Ok(certificate), Ok(cas)) = (parse(der), chain(cas_pem)) else { return false };
    cas.iter().filter_map(|ca| parse(ca).ok()).any(|ca| certificate.verify_signature(Some(ca.public_key())).is_ok())
}

/// A certificate in DER as PEM.
pub fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    lines.for_each(|line| pem.extend([line, "\n"]));
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The SubjectPublicKeyInfo of a certificate.
pub(crate) fn spki(der: &[u8]) -> Result<Vec<u8>, ReadError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, ReadError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(ReadError::NotDer),
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

fn split_names(names: &[GeneralName<'_>]) -> (Vec<String>, Vec<String>) {
    let (mut uris, mut others) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            other => others.push(name_text(other)),
        }
    }
    (uris, others)
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("uri:{uri}"),
        GeneralName::DNSName(name) => format!("dns:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => format!("ip:{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        _ => "other".to_owned(),
    }
}

fn constraints(certificate: &X509Certificate<'_>) -> Result<Option<Constraints>, ReadError> {
    let Some(extension) = certificate.name_constraints().map_err(|_| ReadError::NotDer)? else { return Ok(None) };
    let texts =
        |subtrees: &Option<Vec<GeneralSubtree<'_>>>| subtrees.iter().flatten().map(|subtree| name_text(&subtree.base)).collect();
    Ok(Some(Constraints {
        critical: extension.critical,
        permitted: texts(&extension.value.permitted_subtrees),
        excluded: texts(&extension.value.excluded_subtrees),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_is_of_one_ca_alone() {
        let domain = "a.example".parse().unwrap();
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let [ca, other] = [1, 2].map(|_| crate::ca::WorkloadCa::generate(&domain, now, &mut rand::rng()).unwrap());
        let id = "spiffe://a.example/workload/api".parse().unwrap();
        let leaf = ca.issue(&id, crate::ca::LEAF_LIFE, now, &mut rand::rng()).unwrap();
        let der = chain(&leaf.chain_pem).unwrap().remove(0);
        assert!(is_signed_by(&der, ca.cert_pem()) && is_signed_by(&der, &format!("{}{}", other.cert_pem(), ca.cert_pem())));
        assert!(!is_signed_by(&der, other.cert_pem()) && !is_signed_by(&der, "") && !is_signed_by(b"", ca.cert_pem()));
    }

    proptest! {
        #[test]
        fn a_pem_holds_what_was_put_in(der in proptest::collection::vec(any::<u8>(), 1..300)) {
            let read = chain(&to_pem(&der)).unwrap();
            prop_assert_eq!(read, vec![CertificateDer::from(der)]);
        }

        #[test]
        fn garbage_is_no_certificate(der: Vec<u8>, text: String) {
            prop_assert!(Facts::of_der(&der).is_err());
            prop_assert!(Facts::of_pem(&text).is_err());
        }
    }
}
