//! KRI: the textual identity of a resource or of a section of it, equal on every plane.
//!
//! `kri_<short>_<mesh>_<zone>_<namespace>_<name>_<section>`; absent parts stay empty.

use std::{fmt, str::FromStr};

use crate::Kind;

/// A parsed KRI. The namespace of Kubernetes is always empty here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kri {
    /// Kind, by its short name.
    pub kind: Kind,
    /// Mesh, or empty.
    pub mesh: String,
    /// Owning zone, or empty.
    pub zone: String,
    /// Name that the author gave.
    pub name: String,
    /// Port or listener name, or empty.
    pub section: String,
}

impl Kri {
    /// The same resource's section `section`.
    #[must_use]
    pub fn with_section(&self, section: &str) -> Self {
        Self { section: section.to_owned(), ..self.clone() }
    }
}

impl Kri {
    /// The text for a resource that came from a namespace of Kubernetes, which its readers expect in it.
    pub fn in_namespace(&self, namespace: &str) -> String {
        let short = self.kind.descriptor().short;
        format!("kri_{short}_{}_{}_{namespace}_{}_{}", self.mesh, self.zone, self.name, self.section)
    }
}

impl fmt::Display for Kri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_namespace(""))
    }
}

/// Why a text is no KRI. The texts are Kuma's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KriError {
    /// Too few parts.
    #[error("invalid identifier string: {0:?}")]
    Invalid(String),
    /// Another first part.
    #[error("identifier must start with 'kri': {0:?}")]
    Prefix(String),
    /// A short name that this version does not know.
    #[error("unknown short name of resource type: {0:?}")]
    Kind(String),
}

impl FromStr for Kri {
    type Err = KriError;

    fn from_str(text: &str) -> Result<Self, KriError> {
        let parts: Vec<&str> = text.split('_').collect();
        let [prefix, short, mesh, zone, _namespace, name, section, ..] = parts[..] else {
            return Err(KriError::Invalid(text.to_owned()));
        };
        if prefix != "kri" {
            return Err(KriError::Prefix(text.to_owned()));
        }
        let kind = Kind::from_short(short).ok_or_else(|| KriError::Kind(short.to_owned()))?;
        Ok(Self { kind, mesh: mesh.into(), zone: zone.into(), name: name.into(), section: section.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in ["kri_msvc_default_zone-1__redis_6739", "kri_m____default_", "kri_hg____a.b_"] {
            assert_eq!(text.parse::<Kri>().map(|kri| kri.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_is_no_kri() {
        assert!(matches!("kri_m".parse::<Kri>(), Err(KriError::Invalid(_))));
        assert!(matches!("x_m____default_".parse::<Kri>(), Err(KriError::Prefix(_))));
        assert!(matches!("kri_nope____default_".parse::<Kri>(), Err(KriError::Kind(_))));
    }
}
