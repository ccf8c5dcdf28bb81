//! Templates of hostnames, trust domains and identities.

use atoll_model::{
    Labels,
    hostname::{HostnameFields, hostname},
    names,
};
use serde_json::json;

use crate::text;

/// The first line is a template, the rest are labels `key=value`. What comes out is a host name or an error.
pub(crate) fn template(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (template, rest) = text.split_once('\n').unwrap_or((text, ""));
    let labels = rest.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels: Labels = labels.collect();
    let fields = HostnameFields { name: "api-x", display_name: "api", mesh: "default", zone: "west", labels: &labels };
    if let Ok(name) = hostname(template, &fields) {
        assert!(names::is_hostname(&name), "{name:?}");
    }
    let generator = json!({"selector": {"meshService": {}}, "template": template});
    let identity = json!({"spiffeID": {"trustDomain": template, "path": template}});
    for (kind, spec) in [(atoll_model::Kind::HostnameGenerator, generator), (atoll_model::Kind::MeshIdentity, identity)] {
        let faults = (kind.descriptor().check)(&spec).violations;
        assert!(faults.iter().all(|fault| fault.field.starts_with("spec.")), "{faults:?}");
    }
}
