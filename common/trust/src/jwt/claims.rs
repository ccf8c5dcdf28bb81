//! What tokens say.

use std::{collections::BTreeMap, fmt, str::FromStr};

use atoll_model::ZoneUid;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// Life of a dataplane token, unless asked otherwise.
pub const DATAPLANE_LIFE: TimeDelta = TimeDelta::days(30);
/// Longest life of a dataplane token.
pub const DATAPLANE_LIFE_MAX: TimeDelta = TimeDelta::days(366);

/// Which plane signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issuer {
    /// The global control plane of this cluster: its tokens hold in every zone.
    Global(Uuid),
    /// This zone: its tokens hold only there.
    Zone(ZoneUid),
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issuer::Global(cluster) => write!(f, "atoll:global:{cluster}"),
            Issuer::Zone(zone) => write!(f, "atoll:zone:{zone}"),
        }
    }
}

impl FromStr for Issuer {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        match text.strip_prefix("atoll:global:") {
            Some(cluster) => cluster.parse().map(Issuer::Global),
            None => text.strip_prefix("atoll:zone:").unwrap_or_default().parse().map(|zone| Issuer::Zone(ZoneUid(zone))),
        }
    }
}

/// The claims that every token has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Who signed: an [`Issuer`].
    pub iss: String,
    /// What for: [`Claims::AUDIENCE`].
    pub aud: String,
    /// Not from then on.
    pub exp: i64,
    /// Not before then.
    pub nbf: i64,
    /// When it was signed.
    pub iat: i64,
    /// Its name in lists of revoked tokens.
    pub jti: String,
}

/// The claims of one kind of token.
pub trait Claims: Serialize + DeserializeOwned {
    /// A token for one audience is nothing to another.
    const AUDIENCE: &'static str;
}

/// Who a person or a program is to the REST API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserClaims {
    /// Their name.
    pub name: String,
    /// Their groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Claims for UserClaims {
    const AUDIENCE: &'static str = "atoll:user";
}

/// Which dataplanes a token is good for. Each claim that is there narrows it; whether it fits a dataplane is for its zone to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DataplaneClaims {
    /// The dataplane's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its mesh.
    #[serde(default)]
    pub mesh: String,
    /// Labels that it must have, each with one of these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Vec<String>>,
    /// `dataplane`, the only type of proxy.
    #[serde(default, rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
}

impl Claims for DataplaneClaims {
    const AUDIENCE: &'static str = "atoll:dataplane";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_read_what_they_write() {
        for issuer in [Issuer::Global(Uuid::from_u128(1)), Issuer::Zone(ZoneUid(Uuid::from_u128(2)))] {
            assert_eq!(issuer.to_string().parse(), Ok(issuer));
        }
        assert!("atoll:planet:00000000-0000-0000-0000-000000000001".parse::<Issuer>().is_err());
    }
}
