//! MeshZoneAddress: an address at which other zones reach a zone's ingress.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::is_address;
use crate::document::{Checked, check_as};

/// The spec of a MeshZoneAddress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshZoneAddress {
    /// IP address or host name.
    pub address: String,
    /// Port, 1 to 65535.
    pub port: u32,
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<MeshZoneAddress>(spec, "spec", |address, path| {
        let mut faults = Vec::new();
        if !is_address(&address.address) {
            faults.push(path.field("address").violation("address has to be valid IP address or domain name"));
        }
        if !(1..=65535).contains(&address.port) {
            faults.push(path.field("port").violation("port must be a valid (1-65535)"));
        }
        faults
    })
}
