//! SPIFFE ids and trust domains. Accepted only in their canonical form (Cure53 SPI-01-003).

use std::{fmt, str::FromStr};

/// A trust domain: 1 to 253 of `a-z 0-9 . - _`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if !text.is_empty() && text.len() <= 253 && text.bytes().all(ok) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SpiffeError::TrustDomain(text.to_owned()))
        }
    }
}

/// A SPIFFE id: `spiffe://<trust domain>/<path>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Empty, or `/` and segments.
    pub path: String,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if text.len() > 2048 || !path.is_empty() && !path[1..].split('/').all(segment) {
            return Err(SpiffeError::Path(path.to_owned()));
        }
        Ok(Self { trust_domain: domain.parse()?, path: path.to_owned() })
    }
}

/// Why a text is no SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Another scheme.
    #[error("must start with spiffe://")]
    Scheme,
    /// Not a trust domain.
    #[error("trust domain {0:?} must be 1 to 253 lower case letters, digits, '.', '-' or '_'")]
    TrustDomain(String),
    /// Not a path.
    #[error("path {0:?} must be segments of letters, digits, '.', '-' or '_', none of them empty, '.' or '..'")]
    Path(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_accepted() {
        for good in ["spiffe://default.azure.mesh.local/workload/api", "spiffe://a", "spiffe://a/B_c.d-e"] {
            assert_eq!(good.parse::<SpiffeId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "http://a/b",
            "spiffe://A/b",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/%2e",
            "spiffe:///b",
            "spiffe://a:1/b",
            "spiffe://a/é",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}
