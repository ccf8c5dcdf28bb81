//! MeshZoneAddress: an address at which other zones reach a zone's ingress.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_address, is_unspecified};
use crate::{
    document::{Checked, check_spec},
    schema::Schema,
};

/// The spec of a MeshZoneAddress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshZoneAddress {
    /// IP address or host name.
    #[schemars(length(min = 1))]
    pub address: String,
    /// Port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshZoneAddress>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshZoneAddress>(&SCHEMA, spec, |address, path| {
        let field = path.field("address");
        let fault = if is_unspecified(&address.address) {
            Some(field.violation("must not be 0.0.0.0 or ::"))
        } else {
            (!is_address(&address.address)).then(|| field.violation("must be a valid IP address or domain name"))
        };
        fault.into_iter().collect()
    })
}
