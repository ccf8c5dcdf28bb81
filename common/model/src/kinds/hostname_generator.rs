//! HostnameGenerator: a template that gives services their hostnames.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Labels,
    document::{Checked, check_spec},
    hostname::{self, HostnameFields},
    schema::Schema,
};

/// The spec of a HostnameGenerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostnameGenerator {
    /// Which services.
    #[serde(default)]
    pub selector: Selector,
    /// Go template of the name.
    pub template: String,
    /// Kuma's extension point: kept, without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
}

/// Exactly one of three.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Services of one zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_service: Option<LabelSelector>,
    /// External services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_external_service: Option<LabelSelector>,
    /// Multi-zone services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_multi_zone_service: Option<LabelSelector>,
}

/// Labels, all of which must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// The labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub match_labels: Labels,
}

/// Kuma's extension point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Extension {
    /// Name of the extension.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<HostnameGenerator>);

/// Checks a spec: the template must give a DNS name for made-up values.
pub fn check(spec: &Value) -> Checked {
    check_spec::<HostnameGenerator>(&SCHEMA, spec, |generator, path| {
        let mut faults = Vec::new();
        let selector = &generator.selector;
        let selectors = [&selector.mesh_service, &selector.mesh_external_service, &selector.mesh_multi_zone_service];
        if selectors.iter().filter(|selector| selector.is_some()).count() != 1 {
            let message = "exact one selector (meshService, meshExternalService) must be defined";
            faults.push(path.field("selector").violation(message));
        }
        if let Err(message) = check_template(&generator.template) {
            faults.push(path.field("template").violation(message));
        }
        if generator.extension.as_ref().is_some_and(|extension| extension.kind.is_empty()) {
            faults.push(path.field("extension").field("type").violation("must not be empty"));
        }
        faults
    })
}

fn check_template(template: &str) -> Result<(), String> {
    if template.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let labels = stub_labels(template);
    let fields = HostnameFields { name: "name", display_name: "displayname", mesh: "mesh", zone: "zone", labels: &labels };
    // `.Namespace` is empty on universal, which would leave `..`; a template that uses it is judged with a stub.
    let template = template.replace(".Namespace", ".DisplayName");
    hostname::hostname(&template, &fields).map(|_| ()).map_err(|error| error.to_string())
}

/// Every quoted text of the template as a label, so that `label "x"` is found.
fn stub_labels(template: &str) -> Labels {
    template.split('"').skip(1).step_by(2).map(|key| (key.to_owned(), "label".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_and_selectors_are_checked() {
        let with = |template: &str| check(&json!({"selector": {"meshService": {}}, "template": template})).violations;
        assert_eq!(with("{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp"), []);
        assert_eq!(with("{{ label \"a/b\" }}.{{ .Namespace }}.svc.local"), []);
        for bad in ["", "{{ .Nope }}.local", "UPPER.local", "{{ .Name", "a..b"] {
            assert_eq!(with(bad).len(), 1, "{bad}");
        }
        assert_eq!(check(&json!({"template": "a.b"})).violations[0].field, "spec.selector");
    }
}
