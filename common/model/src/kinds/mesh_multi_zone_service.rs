//! MeshMultiZoneService: one name for the MeshServices of several zones.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{hostname_generator::LabelSelector, mesh_service};
use crate::{
    document::{Checked, check_spec},
    schema::Schema,
};

/// The spec of a MeshMultiZoneService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeshMultiZoneService {
    /// Which services it joins.
    pub selector: Selector,
    /// Its ports.
    #[schemars(length(min = 1))]
    pub ports: Vec<Port>,
}

/// Which services are joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// MeshServices of the mesh, by labels as the looking zone sees them.
    pub mesh_service: LabelSelector,
}

/// A port; the services serve it by their port of the same name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Where clients connect.
    pub port: u16,
    /// Its name; the number, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// tcp, http, http2 or grpc, in any case.
    #[serde(default = "tcp")]
    pub app_protocol: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

impl Port {
    /// Its name, or its number as text: the section in KRIs and SNIs.
    pub fn section(&self) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| self.port.to_string())
    }
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshMultiZoneService>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshMultiZoneService>(&SCHEMA, spec, |service, path| {
        let mut faults = Vec::new();
        if service.selector.mesh_service.match_labels.is_empty() {
            let labels = path.field("selector").field("meshService").field("matchLabels");
            faults.push(labels.violation("cannot be empty"));
        }
        if service.ports.is_empty() {
            faults.push(path.field("ports").violation("cannot be empty"));
        }
        for (i, port) in service.ports.iter().enumerate() {
            let path = path.field("ports").index(i);
            if port.port == 0 {
                faults.push(path.field("port").violation("port must be a valid (1-65535)"));
            }
            if port.name.as_ref().is_some_and(String::is_empty) {
                faults.push(path.field("name").violation("must not be empty"));
            }
            if !port.app_protocol.is_empty() && !mesh_service::is_protocol(&port.app_protocol) {
                faults.push(path.field("appProtocol").violation("appProtocol must be one of: grpc, http, http2, tcp"));
            }
            if service.ports[..i].iter().any(|other| other.port == port.port) {
                faults.push(path.field("port").violation("port must be unique"));
            }
        }
        faults
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(spec: &Value) -> Vec<String> {
        check(spec).violations.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn faults_are_named_by_their_path() {
        let selector = json!({"meshService": {"matchLabels": {"app": "api"}}});
        assert_eq!(fields(&json!({"selector": selector, "ports": [{"port": 80}]})), [""; 0]);
        let ports = json!([{"port": 80, "name": "", "appProtocol": "kafka"}, {"port": 80}]);
        let expected = ["spec.ports[0].name", "spec.ports[0].appProtocol", "spec.ports[1].port"];
        assert_eq!(fields(&json!({"selector": selector, "ports": ports})), expected);
        let everything = json!({"selector": {"meshService": {}}, "ports": [{"port": 80}]});
        assert_eq!(fields(&everything), ["spec.selector.meshService.matchLabels"]);
        assert_eq!(fields(&json!({"selector": selector, "ports": []})), ["spec.ports"]);
        assert_eq!(fields(&json!({"ports": [{}]})), ["spec.ports[0].port", "spec.selector"]);
    }
}
