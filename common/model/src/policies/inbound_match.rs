//! `match`: which callers an inbound rule is about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Violation, names, spiffe::SpiffeId, violation::Path};

/// One alternative; its conditions must hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboundMatch {
    /// The caller's SPIFFE id.
    #[serde(default, rename = "spiffeID", skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<SpiffeMatch>,
    /// The server name that the caller asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<SniMatch>,
}

/// A condition on the SPIFFE id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SpiffeMatch {
    /// How `value` is compared.
    #[serde(rename = "type")]
    pub kind: SpiffeMatchKind,
    /// An id, or the start of one.
    pub value: String,
}

/// How a SPIFFE id is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SpiffeMatchKind {
    /// The whole id.
    Exact,
    /// Its start.
    Prefix,
}

/// A condition on the server name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SniMatch {
    /// How `value` is compared.
    #[serde(rename = "type")]
    pub kind: SniMatchKind,
    /// A server name.
    pub value: String,
}

/// How a server name is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SniMatchKind {
    /// The whole name.
    Exact,
}

/// Checks one match at `path`.
pub fn check(matched: &InboundMatch, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(spiffe) = &matched.spiffe_id {
        // A prefix may end with a slash, which no id does.
        let text = match spiffe.kind {
            SpiffeMatchKind::Exact => spiffe.value.as_str(),
            SpiffeMatchKind::Prefix => spiffe.value.strip_suffix('/').unwrap_or(&spiffe.value),
        };
        if let Err(error) = text.parse::<SpiffeId>() {
            faults.push(path.field("spiffeID").violation(format!("must be a valid Spiffe ID: {error}")));
        }
    }
    if let Some(sni) = &matched.sni {
        let field = path.field("sni").field("value");
        if sni.value.is_empty() {
            faults.push(field.violation("must be set"));
        } else {
            faults.extend(names::subdomain_faults(&sni.value).into_iter().map(|fault| field.violation(fault)));
        }
    }
    faults
}
