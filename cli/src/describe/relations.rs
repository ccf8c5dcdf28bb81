//! Which resources select which by labels, as far as their documents say it.

use atoll_model::{Kind, Scope, labels};
use serde_json::Value;

use crate::{apply::sources::title, client::Client, kinds};

/// What can be selected.
const TARGETS: [Kind; 4] = [Kind::Dataplane, Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];

/// What selects a resource, each with the field that does.
pub(super) async fn selecting(client: &Client, kind: Kind, target: &Value) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    if !TARGETS.contains(&kind) {
        return Ok(found);
    }
    for selecting in Kind::ALL.iter().filter(|selecting| selects_any(**selecting, kind)) {
        for item in list(client, *selecting, target).await? {
            let field =
                selection(*selecting, &item).into_iter().find(|one| one.takes(kind, target) && reaches(&item, kind, target));
            found.extend(field.map(|field| format!("{} ({})", shown(*selecting, &item), field.field)));
        }
    }
    Ok(found)
}

/// What a resource selects.
pub(super) async fn selected(client: &Client, kind: Kind, selecting: &Value) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let selections = selection(kind, selecting);
    for target in TARGETS.iter().filter(|target| selections.iter().any(|one| one.kind == **target)) {
        let items = list(client, *target, selecting).await?;
        let taken = items
            .iter()
            .filter(|item| reaches(selecting, *target, item) && selections.iter().any(|one| one.takes(*target, item)));
        found.extend(taken.map(|item| shown(*target, item)));
    }
    Ok(found)
}

/// The resources of a kind beside another: in its mesh, or in all.
async fn list(client: &Client, kind: Kind, beside: &Value) -> anyhow::Result<Vec<Value>> {
    client.list(&kinds::list_path(kind, beside["mesh"].as_str()), &[]).await
}

/// What a zone owns selects dataplanes of that zone only.
fn reaches(selecting: &Value, kind: Kind, target: &Value) -> bool {
    let zone = |item: &Value| item["labels"][labels::ZONE].as_str().map(str::to_owned);
    kind != Kind::Dataplane || zone(selecting).is_none_or(|owner| zone(target) == Some(owner))
}

fn shown(kind: Kind, item: &Value) -> String {
    let mesh = if kind.descriptor().scope == Scope::Mesh { item["mesh"].as_str().unwrap_or_default() } else { "" };
    title(kind.name(), mesh, item["name"].as_str().unwrap_or("?"))
}

fn selects_any(selecting: Kind, target: Kind) -> bool {
    match selecting {
        Kind::MeshService | Kind::MeshIdentity => target == Kind::Dataplane,
        Kind::HostnameGenerator => target != Kind::Dataplane,
        Kind::MeshMultiZoneService => target == Kind::MeshService,
        _ => selecting.descriptor().policy.is_some(),
    }
}

/// One selector of a document.
#[derive(Clone, Debug, PartialEq)]
struct Selection<'a> {
    field: &'static str,
    kind: Kind,
    by: By<'a>,
}

#[derive(Clone, Debug, PartialEq)]
enum By<'a> {
    Labels(&'a Value),
    Name(&'a str),
}

impl Selection<'_> {
    fn takes(&self, kind: Kind, item: &Value) -> bool {
        let has = |wanted: &Value| wanted.as_object().into_iter().flatten().all(|(key, value)| item["labels"][key] == *value);
        self.kind == kind
            && match self.by {
                By::Labels(wanted) => has(wanted),
                By::Name(name) => item["name"] == name || item["labels"][labels::DISPLAY_NAME] == name,
            }
    }
}

/// The selectors of a document.
fn selection(kind: Kind, item: &Value) -> Vec<Selection<'_>> {
    let spec = &item["spec"];
    let by_labels = |field, kind, selector: &'static str, inner: &'static str| {
        let selector = &spec["selector"][selector];
        (!selector.is_null()).then_some(Selection {
            field,
            kind,
            by: By::Labels(if inner.is_empty() { selector } else { &selector[inner] }),
        })
    };
    match kind {
        Kind::MeshService => {
            let named = spec["selector"]["dataplaneRef"]["name"].as_str();
            let named =
                named.map(|name| Selection { field: "spec.selector.dataplaneRef", kind: Kind::Dataplane, by: By::Name(name) });
            let labelled = by_labels("spec.selector.dataplaneLabels", Kind::Dataplane, "dataplaneLabels", "matchLabels");
            named.into_iter().chain(labelled).collect()
        }
        Kind::MeshIdentity => {
            by_labels("spec.selector.dataplane", Kind::Dataplane, "dataplane", "matchLabels").into_iter().collect()
        }
        Kind::HostnameGenerator => [
            by_labels("spec.selector.meshService", Kind::MeshService, "meshService", "matchLabels"),
            by_labels("spec.selector.meshExternalService", Kind::MeshExternalService, "meshExternalService", "matchLabels"),
            by_labels("spec.selector.meshMultiZoneService", Kind::MeshMultiZoneService, "meshMultiZoneService", "matchLabels"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Kind::MeshMultiZoneService => {
            by_labels("spec.selector.meshService", Kind::MeshService, "meshService", "matchLabels").into_iter().collect()
        }
        _ if kind.descriptor().policy.is_some() => of_policy(spec),
        _ => Vec::new(),
    }
}

/// A policy's own target, whose absence means the whole mesh, and the services of its `to`.
fn of_policy(spec: &Value) -> Vec<Selection<'_>> {
    let own = &spec["targetRef"];
    let is_whole_mesh = own["kind"].as_str().is_none_or(|kind| kind == "Mesh");
    let by = if is_whole_mesh { By::Labels(&Value::Null) } else { By::Labels(&own["labels"]) };
    let own = (is_whole_mesh || own["kind"] == Kind::Dataplane.name()).then_some(Selection {
        field: "spec.targetRef",
        kind: Kind::Dataplane,
        by,
    });
    let services = spec["to"].as_array().into_iter().flatten().filter_map(|to| {
        let target = &to["targetRef"];
        let kind: Kind = target["kind"].as_str()?.parse().ok()?;
        let by = target["name"].as_str().map_or(By::Labels(&target["labels"]), By::Name);
        (TARGETS.contains(&kind)).then_some(Selection { field: "spec.to[].targetRef", kind, by })
    });
    own.into_iter().chain(services).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: Kind, spec: Value, target: Kind, item: Value, expected: bool) {
        let document = json!({ "spec": spec });
        let takes = selection(kind, &document).iter().any(|selection| selection.takes(target, &item));
        assert_eq!(takes, expected, "{spec}");
    }

    #[test]
    fn a_zones_resources_reach_its_own_dataplanes() {
        let of = |zone: Option<&str>| json!({"labels": zone.map(|zone| json!({"kuma.io/zone": zone}))});
        for (owner, target, expected) in [(None, "gcp", true), (Some("gcp"), "gcp", true), (Some("gcp"), "azure", false)] {
            assert_eq!(reaches(&of(owner), Kind::Dataplane, &of(Some(target))), expected);
        }
        assert!(reaches(&of(Some("gcp")), Kind::MeshService, &of(Some("azure"))));
    }

    #[test]
    fn selectors_are_read_where_each_kind_has_them() {
        let web = json!({"name": "web-1", "labels": {"app": "web", "tier": "front"}});
        let dp = Kind::Dataplane;
        check(Kind::MeshTimeout, json!({}), dp, web.clone(), true);
        check(Kind::MeshTimeout, json!({"targetRef": {"kind": "Mesh"}}), dp, web.clone(), true);
        check(Kind::MeshTls, json!({"targetRef": {"kind": "Dataplane", "labels": {"app": "web"}}}), dp, web.clone(), true);
        check(Kind::MeshTls, json!({"targetRef": {"kind": "Dataplane", "labels": {"app": "db"}}}), dp, web.clone(), false);
        check(Kind::MeshService, json!({"selector": {"dataplaneRef": {"name": "web-1"}}}), dp, web.clone(), true);
        let selector = json!({"selector": {"dataplaneLabels": {"matchLabels": {"app": "web", "tier": "back"}}}});
        check(Kind::MeshService, selector, dp, web.clone(), false);
        check(Kind::MeshIdentity, json!({"selector": {"dataplane": {"matchLabels": {}}}}), dp, web.clone(), true);
        check(Kind::MeshIdentity, json!({}), dp, web, false);
        let api = json!({"name": "api", "labels": {"team": "x"}});
        let to = json!({"targetRef": {"kind": "Dataplane", "labels": {"a": "b"}}, "to": [{"targetRef": {"kind": "MeshService", "labels": {"team": "x"}}}]});
        check(Kind::MeshTimeout, to, Kind::MeshService, api.clone(), true);
        check(
            Kind::HostnameGenerator,
            json!({"selector": {"meshService": {"matchLabels": {"team": "y"}}}}),
            Kind::MeshService,
            api,
            false,
        );
    }
}
