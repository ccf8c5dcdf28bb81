//! Who may run a proxy: the rules of dataplane tokens. Shared by the runner's stream and Envoy's discovery stream.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{Labels, Name, Timestamp, kinds::MeshIdentity, kinds::mesh_identity::DEFAULT_PATH, labels::WORKLOAD};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

use super::liveness::ProxyId;

/// Judges a dataplane token.
pub trait DataplaneAuth: Send + Sync + 'static {
    /// Whether `token` allows to be this proxy. Called for the document that is presented, and again for the one that is
    /// stored under its name.
    ///
    /// # Errors
    /// The reason for the operator, and whether it may work later.
    fn authenticate(&self, token: &str, proxy: &Presented<'_>) -> Result<Principal, AuthRefusal>;

    /// Cancelled when the principal's token has ended or was revoked: streams that it opened end then.
    fn withdrawn(&self, _: &Principal) -> CancellationToken {
        CancellationToken::new()
    }
}

/// What a proxy says it is.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Mesh and name.
    pub id: &'a ProxyId,
    /// Labels of its Dataplane, as the author wrote them.
    pub labels: &'a Labels,
}

/// Who runs a proxy, for the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `dataplane:<mesh>/<name>`.
    pub subject: String,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// When the token ends.
    pub until: Option<Timestamp>,
}

impl Principal {
    /// The runner of a proxy.
    pub fn of(id: &ProxyId, token_id: Option<String>) -> Self {
        Self { subject: format!("dataplane:{id}"), token_id, until: None }
    }

    /// The same, whose token ends.
    #[must_use]
    pub fn until(self, until: Timestamp) -> Self {
        Self { until: Some(until), ..self }
    }
}

/// Why a token does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    /// It never will, for this proxy.
    #[error("{0}")]
    Never(String),
    /// It may, when this zone has learnt more (a signing key that is still on its way, for instance).
    #[error("{0}")]
    NotYet(String),
}

/// What a dataplane token is bound to. What is absent or empty restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataplaneClaims {
    /// Name of the Dataplane.
    pub name: Option<String>,
    /// Its mesh.
    pub mesh: Option<String>,
    /// Labels that it must have, each with one of these values.
    pub tags: BTreeMap<String, BTreeSet<String>>,
    /// Its `kuma.io/workload`.
    pub workload: Option<String>,
}

/// Whether a proxy's identity is made of its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadRule {
    /// It is: the token must be bound to that workload, or its holder could choose whom to be.
    NamesIdentity,
    /// It is not.
    NotUsed,
}

/// Whether the identity that the mesh gives to a proxy with these labels is made of its workload. `identities`: every
/// MeshIdentity of the mesh with its name; the one that matches by most labels counts, then the first by name.
pub fn workload_rule<'a>(identities: impl IntoIterator<Item = (&'a Name, &'a MeshIdentity)>, labels: &Labels) -> WorkloadRule {
    let best = identities
        .into_iter()
        .filter_map(|(name, identity)| Some((std::cmp::Reverse(identity.selects(labels)?), name, identity)))
        .min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let Some((_, _, identity)) = best else { return WorkloadRule::NotUsed };
    let path = identity.spiffe_id.as_ref().and_then(|id| id.path.as_deref()).unwrap_or(DEFAULT_PATH);
    if path.contains(".Workload") || path.contains(WORKLOAD) { WorkloadRule::NamesIdentity } else { WorkloadRule::NotUsed }
}

/// Whether a token with these claims, whose signature and times hold, allows to be this proxy.
///
/// # Errors
/// What does not fit, in words for the operator.
pub fn admit(claims: &DataplaneClaims, proxy: &Presented<'_>, rule: WorkloadRule) -> Result<(), AuthRefusal> {
    let workload = proxy.labels.get(WORKLOAD);
    only("name", claims.name.as_deref(), Some(&proxy.id.name))?;
    only("mesh", claims.mesh.as_deref(), Some(&proxy.id.mesh))?;
    only("workload", claims.workload.as_deref(), workload.map(String::as_str))?;
    for (key, allowed) in claims.tags.iter().filter(|(_, allowed)| !allowed.is_empty()) {
        let given = proxy.labels.get(key);
        if !given.is_some_and(|value| allowed.contains(value)) {
            let allowed = allowed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let given = given.map_or("has none".to_owned(), |value| format!("has {value:?}"));
            return Err(AuthRefusal::Never(format!("the token wants label {key} to be one of {allowed}; the Dataplane {given}")));
        }
    }
    match (rule, workload, &claims.workload) {
        (WorkloadRule::NotUsed, _, _) | (WorkloadRule::NamesIdentity, Some(_), Some(_)) => Ok(()),
        (WorkloadRule::NamesIdentity, None, _) => Err(AuthRefusal::Never(format!(
            "the mesh's identities are made of the workload, and the Dataplane has no label {WORKLOAD}: add it"
        ))),
        (WorkloadRule::NamesIdentity, Some(workload), None) => Err(AuthRefusal::Never(format!(
            "the mesh's identities are made of the workload, and the token is not bound to one: issue it for workload {workload}"
        ))),
    }
}

fn only(what: &str, claimed: Option<&str>, given: Option<&str>) -> Result<(), AuthRefusal> {
    let Some(claimed) = claimed.filter(|claimed| !claimed.is_empty()) else { return Ok(()) };
    if given == Some(claimed) {
        return Ok(());
    }
    let given = given.map_or("none".to_owned(), |given| format!("{given:?}"));
    Err(AuthRefusal::Never(format!("the token is for {what} {claimed:?}, the Dataplane has {given}")))
}

/// The token of a call: `authorization`, bare or after `Bearer `.
pub fn token_of(metadata: &MetadataMap) -> Option<&str> {
    let text = metadata.get("authorization")?.to_str().ok()?.trim();
    let token = if text == "Bearer" { "" } else { text.strip_prefix("Bearer ").unwrap_or(text).trim() };
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// What `admit` says of a token for the proxy default/gw-1 with workload `gw` and label `team` = `a`.
    fn check(claims: serde_json::Value, rule: WorkloadRule) -> Result<(), String> {
        let text = |key: &str| claims[key].as_str().map(str::to_owned);
        let tags = claims["tags"].as_object().into_iter().flatten();
        let values = |value: &serde_json::Value| {
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(Into::into)).collect()
        };
        let tags = tags.map(|(key, value)| (key.clone(), values(value))).collect();
        let claims = DataplaneClaims { name: text("name"), mesh: text("mesh"), tags, workload: text("workload") };
        let labels = labels(&[(WORKLOAD, "gw"), ("team", "a")]);
        admit(&claims, &Presented { id: &ProxyId::new("default", "gw-1"), labels: &labels }, rule)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn every_claim_that_is_present_must_match() {
        let free = WorkloadRule::NotUsed;
        for good in [
            json!({}),
            json!({"name": "gw-1", "mesh": "default", "workload": "gw"}),
            json!({"name": "", "tags": {}}),
            json!({"tags": {"team": ["b", "a"]}}),
        ] {
            assert_eq!(check(good, free), Ok(()));
        }
        for (bad, word) in [
            (json!({"name": "gw-2"}), "name"),
            (json!({"mesh": "other"}), "mesh"),
            (json!({"workload": "other"}), "workload"),
            (json!({"tags": {"team": ["b"]}}), "team"),
            (json!({"tags": {"absent": ["a"]}}), "absent"),
        ] {
            assert!(check(bad.clone(), free).unwrap_err().contains(word), "{bad}");
        }
    }

    #[test]
    fn an_identity_of_the_workload_wants_a_token_of_the_workload() {
        assert_eq!(check(json!({"workload": "gw"}), WorkloadRule::NamesIdentity), Ok(()));
        assert!(check(json!({"name": "gw-1"}), WorkloadRule::NamesIdentity).unwrap_err().contains("not bound"));
    }

    #[test]
    fn the_best_identity_decides() {
        let identity = |labels: serde_json::Value, path: Option<&str>| -> MeshIdentity {
            let path = path.map(|path| json!({"path": path}));
            serde_json::from_value(json!({"selector": {"dataplane": {"matchLabels": labels}}, "spiffeID": path})).unwrap()
        };
        let (all, team) = (identity(json!({}), None), identity(json!({"team": "a"}), Some("/team/{{ label \"team\" }}")));
        let (a, b) = (Name::from("a"), Name::from("b"));
        let rule = |pairs| workload_rule([(&a, &all), (&b, &team)], &labels(pairs));
        assert_eq!(rule(&[]), WorkloadRule::NamesIdentity);
        assert_eq!(rule(&[("team", "a")]), WorkloadRule::NotUsed);
        assert_eq!(workload_rule([], &labels(&[])), WorkloadRule::NotUsed);
    }

    #[test]
    fn the_token_is_bare_or_a_bearer() {
        let with = |value: &str| {
            MetadataMap::from_headers([(http::header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect())
        };
        for (value, token) in [("a.b", Some("a.b")), ("Bearer a.b", Some("a.b")), ("", None), ("Bearer ", None)] {
            assert_eq!(token_of(&with(value)), token);
        }
    }
}
