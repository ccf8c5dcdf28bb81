//! What tokens say.

use std::{collections::BTreeMap, fmt, str::FromStr};

use atoll_model::{Labels, ZoneUid, labels::WORKLOAD};
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

/// Which dataplanes a token is good for. Each claim that is there narrows it.
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

/// The dataplane that shows a token.
#[derive(Clone, Copy, Debug)]
pub struct DataplaneFacts<'a> {
    /// Its mesh.
    pub mesh: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// Whether its SPIFFE id is made of its workload label: then the token must be bound to that workload, or any holder of a
    /// mesh-wide token could become any workload.
    pub id_from_workload: bool,
}

/// Why a token is not good for a dataplane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataplaneFault {
    /// It is for another mesh.
    #[error("the token is for mesh {token:?}, the dataplane is in {dataplane:?}")]
    Mesh {
        /// The token's.
        token: String,
        /// The dataplane's.
        dataplane: String,
    },
    /// It is for another dataplane.
    #[error("the token is for dataplane {token:?}, not for {dataplane:?}")]
    Name {
        /// The token's.
        token: String,
        /// The dataplane's.
        dataplane: String,
    },
    /// It is for another type of proxy.
    #[error("the token is for a proxy of type {0:?}")]
    Type(String),
    /// The dataplane lacks a label, or has another value there.
    #[error("the token wants the label {0:?} with one of its values")]
    Tag(String),
    /// It is for another workload.
    #[error("the token is for workload {token:?}, the dataplane's label says {dataplane:?}")]
    Workload {
        /// The token's.
        token: String,
        /// The dataplane's.
        dataplane: String,
    },
    /// The id is made of the workload, and the token is for any.
    #[error("the dataplane's identity is made of its workload: the token must be bound to that workload")]
    NotBound,
}

impl DataplaneClaims {
    /// Whether the token is good for a dataplane.
    ///
    /// # Errors
    /// The first claim that does not fit.
    pub fn permit(&self, dataplane: &DataplaneFacts<'_>) -> Result<(), DataplaneFault> {
        if self.mesh != dataplane.mesh {
            return Err(DataplaneFault::Mesh { token: self.mesh.clone(), dataplane: dataplane.mesh.to_owned() });
        }
        if !matches!(self.kind.as_str(), "" | "dataplane") {
            return Err(DataplaneFault::Type(self.kind.clone()));
        }
        if !self.name.is_empty() && self.name != dataplane.name {
            return Err(DataplaneFault::Name { token: self.name.clone(), dataplane: dataplane.name.to_owned() });
        }
        let lacks =
            |(key, values): &(&String, &Vec<String>)| !dataplane.labels.get(*key).is_some_and(|value| values.contains(value));
        if let Some((key, _)) = self.tags.iter().find(lacks) {
            return Err(DataplaneFault::Tag(key.clone()));
        }
        let workload = dataplane.labels.get(WORKLOAD).map_or("", String::as_str);
        if !self.workload.is_empty() && self.workload != workload {
            return Err(DataplaneFault::Workload { token: self.workload.clone(), dataplane: workload.to_owned() });
        }
        if self.workload.is_empty() && dataplane.id_from_workload {
            return Err(DataplaneFault::NotBound);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl FnOnce(&mut DataplaneClaims), id_from_workload: bool) -> Result<(), DataplaneFault> {
        let labels = [(WORKLOAD, "api"), ("team", "a")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let mut claims = DataplaneClaims { mesh: "default".to_owned(), ..DataplaneClaims::default() };
        edit(&mut claims);
        claims.permit(&DataplaneFacts { mesh: "default", name: "api-1", labels: &labels, id_from_workload })
    }

    fn tags(values: &[&str]) -> BTreeMap<String, Vec<String>> {
        [("team".to_owned(), values.iter().map(|value| (*value).to_owned()).collect())].into()
    }

    #[test]
    fn every_claim_that_is_there_narrows() {
        assert_eq!(check(|_| (), false), Ok(()));
        assert_eq!(check(|claims| claims.workload = "api".to_owned(), true), Ok(()));
        assert_eq!(check(|claims| claims.name = "api-1".to_owned(), false), Ok(()));
        assert_eq!(check(|claims| claims.tags = tags(&["b", "a"]), false), Ok(()));
        assert!(matches!(check(|claims| claims.tags = tags(&["b"]), false), Err(DataplaneFault::Tag(_))));
        assert!(matches!(check(|claims| claims.mesh = "other".to_owned(), false), Err(DataplaneFault::Mesh { .. })));
        assert!(matches!(check(|claims| claims.mesh = String::new(), false), Err(DataplaneFault::Mesh { .. })));
        assert!(matches!(check(|claims| claims.name = "api-2".to_owned(), false), Err(DataplaneFault::Name { .. })));
        assert!(matches!(check(|claims| claims.kind = "ingress".to_owned(), false), Err(DataplaneFault::Type(_))));
        assert!(matches!(check(|claims| claims.workload = "web".to_owned(), false), Err(DataplaneFault::Workload { .. })));
    }

    #[test]
    fn an_id_made_of_the_workload_wants_a_bound_token() {
        assert_eq!(check(|_| (), true), Err(DataplaneFault::NotBound));
        assert_eq!(check(|claims| claims.name = "api-1".to_owned(), true), Err(DataplaneFault::NotBound));
    }

    #[test]
    fn issuers_read_what_they_write() {
        for issuer in [Issuer::Global(Uuid::from_u128(1)), Issuer::Zone(ZoneUid(Uuid::from_u128(2)))] {
            assert_eq!(issuer.to_string().parse(), Ok(issuer));
        }
        assert!("atoll:planet:00000000-0000-0000-0000-000000000001".parse::<Issuer>().is_err());
    }
}
