//! Zone: one cloud, with its own control plane.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Timestamp, ZoneUid,
    document::{Checked, check_as},
};

/// The spec of a Zone, with its computed part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Whether other zones see its services; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Computed by global when the zone joins: its lasting identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<ZoneUid>,
    /// Computed by global: the public keys of its tokens, which the zone believes from then on.
    #[serde(default, rename = "tokenKeys", skip_serializing_if = "Vec::is_empty")]
    pub token_keys: Vec<Value>,
    /// Computed by global: the tokens that it revoked, and when each ends by itself.
    #[serde(default, rename = "revokedTokens", skip_serializing_if = "BTreeMap::is_empty")]
    pub revoked_tokens: BTreeMap<String, Timestamp>,
}

impl Zone {
    /// Whether other zones see its services.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<Zone>(spec, "", |_, _| Vec::new())
}
