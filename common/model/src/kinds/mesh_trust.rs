//! MeshTrust: the CA bundle of one trust domain.

use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::{Checked, check_spec},
    schema::Schema,
    spiffe::TrustDomain,
};

/// The spec of a MeshTrust.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrust {
    /// The trust domain whose certificates the bundle judges.
    #[schemars(length(max = 253))]
    pub trust_domain: String,
    /// CAs, at least one.
    #[schemars(length(min = 1))]
    pub ca_bundles: Vec<CaBundle>,
    /// Computed by the zone: the CAs of the mesh that every proxy of the zone acknowledged, by the first 16 digits of the SHA-256 of
    /// their public keys. A zone issues by a new CA once every other zone lists it here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged: Vec<String>,
    /// Computed by the zone: how far its CAs are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<CaRotation>,
}

/// How far the CAs of a zone are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRotation {
    /// The CAs.
    #[serde(default)]
    pub cas: Vec<CaStage>,
    /// For whom the next step waits: zones, and the first of the zone's own proxies.
    #[serde(default)]
    pub waiting_for: Vec<String>,
}

/// How far a CA is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStage {
    /// The first 16 digits of the SHA-256 of its public key.
    pub pin: String,
    /// `Prepared`: to be trusted before it issues. `Active`: issues. `Retired`: trusted while its certificates may be shown.
    pub state: String,
    /// When it ends.
    pub not_after: String,
}

/// One CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaBundle {
    /// `Pem`.
    #[serde(rename = "type")]
    pub kind: CaBundleKind,
    /// The certificate.
    pub pem: Pem,
}

/// How a CA is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaBundleKind {
    /// As PEM.
    Pem,
}

/// A PEM text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pem {
    /// The text.
    pub value: String,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshTrust>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshTrust>(&SCHEMA, spec, |trust, path| {
        let mut faults = Vec::new();
        if trust.trust_domain.is_empty() {
            faults.push(path.field("trustDomain").violation("trustDomain needs to be defined"));
        } else if let Err(error) = trust.trust_domain.parse::<TrustDomain>() {
            faults.push(path.field("trustDomain").violation(error.to_string()));
        }
        if trust.ca_bundles.is_empty() {
            faults.push(path.field("caBundles").violation("must not be empty"));
        }
        for (i, bundle) in trust.ca_bundles.iter().enumerate() {
            if !is_certificate(&bundle.pem.value) {
                let path = path.field("caBundles").index(i).field("pem").field("value");
                faults.push(path.violation("provided certificate has incorrect format"));
            }
        }
        faults
    })
}

/// Whether a PEM text holds certificates that parse, and no private key.
fn is_certificate(pem: &str) -> bool {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    !pem.contains("PRIVATE KEY")
        && parsed.is_ok_and(|all| {
            !all.is_empty()
                && all.iter().all(|der| x509_parser::parse_x509_certificate(der).is_ok_and(|(rest, _)| rest.is_empty()))
        })
}
