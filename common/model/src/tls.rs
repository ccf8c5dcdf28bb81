//! Versions and cipher suites of TLS, as documents say them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Violation, violation::Path};

/// Versions of TLS, inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRange {
    /// The lowest.
    #[serde(default)]
    pub min: Version,
    /// The highest.
    #[serde(default)]
    pub max: Version,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Version {
    /// Atoll's choice.
    #[default]
    TLSAuto,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
}

/// The cipher suites that Kuma accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum Cipher {
    #[serde(rename = "ECDHE-ECDSA-AES128-GCM-SHA256")]
    EcdsaAes128,
    #[serde(rename = "ECDHE-ECDSA-AES256-GCM-SHA384")]
    EcdsaAes256,
    #[serde(rename = "ECDHE-ECDSA-CHACHA20-POLY1305")]
    EcdsaChacha20,
    #[serde(rename = "ECDHE-RSA-AES128-GCM-SHA256")]
    RsaAes128,
    #[serde(rename = "ECDHE-RSA-AES256-GCM-SHA384")]
    RsaAes256,
    #[serde(rename = "ECDHE-RSA-CHACHA20-POLY1305")]
    RsaChacha20,
}

/// Checks that a range holds a version.
pub fn check_range(range: &VersionRange, path: &Path) -> Option<Violation> {
    let both_set = range.min != Version::TLSAuto && range.max != Version::TLSAuto;
    (both_set && range.min > range.max).then(|| path.field("min").violation("min version must be lower than max"))
}
