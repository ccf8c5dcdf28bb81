//! VipAllocation: the virtual address that a zone gave to a service. Its name is made
//! of the service's kind, name and owner, so that a service has one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Kind,
    document::{Checked, check_as},
};

/// The spec of a VipAllocation; owned by the zone in which the address holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipAllocation {
    /// Kind of the service.
    pub service_kind: Kind,
    /// Name of the service.
    pub service_name: String,
    /// Owner of the service: a zone's UID, or empty for global.
    #[serde(default)]
    pub service_owner: String,
    /// The address.
    pub ip: IpAddr,
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<VipAllocation>(spec, "spec", |_, _| Vec::new())
}
