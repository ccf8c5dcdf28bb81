//! MeshService: a service of one zone.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hostname_generator::LabelSelector;
use crate::{
    document::{Checked, check_spec},
    schema::Schema,
};

/// The spec of a MeshService. `identities`, `state` and `tlsReady` are computed by the owning zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshService {
    /// Which dataplanes serve it.
    #[serde(default)]
    pub selector: Selector,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Computed: the SPIFFE ids that serve it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
    /// Computed: whether anything serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Computed: once every instance had an identity, callers of the zone use the mesh's TLS and never go back to plain text
    /// (an instance without identity is then unreachable, not a way around TLS). Kept here so that a restart remembers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_ready: bool,
}

/// At most one of two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// By labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane_labels: Option<LabelSelector>,
    /// One, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataplane_ref: Option<DataplaneRef>,
}

/// One dataplane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataplaneRef {
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Where clients connect.
    pub port: u16,
    /// Its name; the number, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The inbound that serves it: its port or its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
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

/// An inbound, by port or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetPort {
    /// By port.
    Number(u16),
    /// By name.
    Name(String),
}

/// An identity that serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// `SpiffeID`.
    #[serde(rename = "type")]
    pub kind: IdentityKind,
    /// The id.
    pub value: String,
}

/// The kind of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum IdentityKind {
    /// A SPIFFE id.
    SpiffeID,
}

/// Whether anything serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// At least one healthy instance.
    Available,
    /// None.
    Unavailable,
}

/// The protocols of ports and inbounds.
pub const PROTOCOLS: [&str; 4] = ["tcp", "http", "http2", "grpc"];

/// Whether `text` is one of [`PROTOCOLS`], in any case.
pub fn is_protocol(text: &str) -> bool {
    PROTOCOLS.contains(&text.to_ascii_lowercase().as_str())
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshService>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshService>(&SCHEMA, spec, |service, path| {
        let mut faults = Vec::new();
        if service.selector.dataplane_labels.is_some() && service.selector.dataplane_ref.is_some() {
            faults.push(path.field("selector").violation("must specify only one of: dataplaneRef or dataplaneLabels"));
        }
        for (i, port) in service.ports.iter().enumerate() {
            let path = path.field("ports").index(i);
            if port.port == 0 {
                faults.push(path.field("port").violation("port must be a valid (1-65535)"));
            }
            if !port.app_protocol.is_empty() && !is_protocol(&port.app_protocol) {
                faults.push(path.field("appProtocol").violation("appProtocol must be one of: grpc, http, http2, tcp"));
            }
            let same = |other: &Port| other.port == port.port && other.app_protocol == port.app_protocol;
            if service.ports[..i].iter().any(same) {
                faults.push(path.violation("port and appProtocol must be unique"));
            }
        }
        faults
    })
}

/// What the author of a valid spec should know.
pub fn warnings(name: &str, spec: &Value) -> Vec<String> {
    let selector = spec.get("selector");
    let has = |field: &str| selector.and_then(|selector| selector.get(field)).is_some_and(|value| !value.is_null());
    let selects = has("dataplaneRef") || has("dataplaneLabels");
    let warning = || {
        format!(
            "MeshService resource '{name}' has no selector, so it matches no data plane proxies. Set 'spec.selector.dataplaneRef' or \
             'spec.selector.dataplaneLabels'. The 'spec.selector.dataplaneTags' selector was removed, migrate it to \
             'dataplaneLabels'."
        )
    };
    (!selects).then(warning).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_that_selects_nothing_is_valid_and_warned_of() {
        let spec = json!({"selector": {"dataplaneTags": {"kuma.io/service": "web"}}, "ports": [{"port": 80}]});
        assert_eq!(check(&spec).violations, []);
        assert_eq!(check(&spec).unknown, ["spec.selector.dataplaneTags"]);
        assert!(warnings("web", &spec)[0].contains("'web' has no selector"));
        assert_eq!(warnings("web", &json!({"selector": {"dataplaneLabels": {}}})), [""; 0]);
    }

    #[test]
    fn faults_are_named_by_their_path() {
        let fields = |spec: Value| -> Vec<String> { check(&spec).violations.into_iter().map(|fault| fault.field).collect() };
        let both = json!({"dataplaneLabels": {"matchLabels": {}}, "dataplaneRef": {"name": "a"}});
        let ports = json!([{"port": 80, "appProtocol": "TCP"}, {"port": 81, "appProtocol": "kafka"}]);
        assert_eq!(fields(json!({"selector": both, "ports": ports})), ["spec.selector", "spec.ports[1].appProtocol"]);
        assert_eq!(fields(json!({"ports": [{"targetPort": [1]}]})), ["spec.ports[0].port", "spec.ports[0].targetPort"]);
    }
}
