//! Resources as answers.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{
    Kind, Labels, Name, Owner, Resource, ResourceKey, Scope, Style, Timestamp, alias,
    condition::{Condition, ConditionStatus},
    kri::Kri,
    labels,
    labels::Viewpoint,
    sni,
};
use atoll_store::TableSnapshot;
use bytes::{BufMut, Bytes, BytesMut};
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Plane, negotiate};

mod cache;

pub(crate) use cache::Cache;
use cache::Text;

/// A resource in Kuma's document form.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mesh: Option<String>,
    pub(crate) name: String,
    creation_time: String,
    modification_time: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: Labels,
    kri: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snis: Vec<ServerName>,
    /// `spec`, or the spec's fields of flat kinds.
    #[serde(flatten)]
    body: serde_json::Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

#[derive(Clone, Debug, Serialize)]
struct ServerName {
    port: u64,
    sni: String,
}

/// The namespace of Kubernetes that a resource came from; a part of its KRI.
const NAMESPACE: &str = "k8s.kuma.io/namespace";

/// What does not change of an answer while the resource and the name of its zone do not: all but the status.
struct Fixed {
    answer: Answer,
    /// Set when the document, or a part of it, is stored only.
    silent: Option<Condition>,
}

/// The answer for one resource.
pub(crate) fn answer(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Answer {
    let Fixed { answer, silent } = fixed(plane, table, resource);
    Answer { status: status(plane, &resource.key, silent.as_ref()), ..answer }
}

/// The answer for a resource as it was: how it fared then is not kept.
pub(crate) fn past(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Answer {
    fixed(plane, table, resource).answer
}

fn fixed(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Fixed {
    let key = &resource.key;
    let row = key.kind.descriptor();
    let mut spec = serde_json::from_slice::<Value>(&resource.document()).unwrap_or(Value::Null);
    if let (Kind::MeshService, Value::Object(fields)) = (key.kind, &mut spec) {
        // Kuma's default, until the zone has computed it.
        fields.entry("state").or_insert_with(|| json!("Unavailable"));
    }
    let silent = not_enforced(key.kind, &spec);
    let kri = kri(plane, table, key);
    let snis = if has_server_names(key.kind) { server_names(&kri, &spec) } else { Vec::new() };
    let body = match (row.style, spec) {
        (Style::Flat, Value::Object(fields)) => fields,
        (_, spec) => [("spec".to_owned(), spec)].into_iter().collect(),
    };
    let answer = Answer {
        kind: key.kind.name(),
        mesh: (row.scope == Scope::Mesh).then(|| key.mesh.to_string()),
        name: shown_name(plane, table, key),
        creation_time: time(resource.created),
        modification_time: time(resource.modified),
        labels: shown_labels(plane, table, resource),
        kri: kri.in_namespace(resource.labels.get(NAMESPACE).map_or("", String::as_str)),
        snis,
        body,
        status: None,
    };
    Fixed { answer, silent }
}

/// What the plane says of how a resource fares, with the condition that a part of it has no effect.
fn status(plane: &Plane, key: &ResourceKey, silent: Option<&Condition>) -> Option<Value> {
    let known = plane.status.status(key);
    let empty = empty_status(key.kind);
    if known.is_none() && empty.is_none() && silent.is_none() {
        return None;
    }
    let mut status = known.unwrap_or_else(|| json!({}));
    let Value::Object(fields) = &mut status else { return Some(status) };
    for (field, nothing) in empty.as_ref().and_then(Value::as_object).into_iter().flatten() {
        fields.entry(field).or_insert_with(|| nothing.clone());
    }
    if let Some(silent) = silent
        && let Value::Array(conditions) = fields.entry("conditions").or_insert_with(|| json!([]))
    {
        conditions.push(json!(silent));
    }
    Some(status)
}

/// What Kuma's types write of a status that nobody has reported yet; its clients read these fields without asking.
fn empty_status(kind: Kind) -> Option<Value> {
    match kind {
        Kind::MeshService => Some(json!({"tls": {}, "dataplaneProxies": {}})),
        Kind::MeshExternalService => Some(json!({"vip": {}})),
        Kind::Workload => Some(json!({"dataplaneProxies": {"connected": 0, "healthy": 0, "total": 0}})),
        _ => None,
    }
}

/// The condition of what this version stores and does not put into effect.
fn not_enforced(kind: Kind, spec: &Value) -> Option<Condition> {
    let row = kind.descriptor();
    let message = if row.enforced {
        let fields = (row.check)(spec).not_enforced;
        (!fields.is_empty()).then(|| format!("stored, not enforced by this version: {}", fields.join(", ")))?
    } else {
        format!("{kind} is stored, not enforced by this version")
    };
    let (kind, reason) = ("Enforced".to_owned(), "NotEnforced".to_owned());
    Some(Condition { kind, status: ConditionStatus::False, reason, message })
}

/// Kinds whose ports other zones reach by server names.
pub(crate) fn has_server_names(kind: Kind) -> bool {
    matches!(kind, Kind::MeshService | Kind::MeshExternalService | Kind::MeshMultiZoneService)
}

/// The labels as answers show them and selectors see them.
pub(crate) fn shown_labels(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Labels {
    let zone = zone(plane, table, &resource.key);
    labels::present(&plane.viewpoint, &resource.key, &resource.labels, zone.as_deref())
}

/// Whether a resource shows this label; the same as a look into [`shown_labels`], without making them.
pub(crate) fn shows_label(plane: &Plane, table: &TableSnapshot, resource: &Resource, label: &str, value: &str) -> bool {
    let key = &resource.key;
    match label {
        labels::DISPLAY_NAME => *key.name == *value,
        labels::ORIGIN => plane.viewpoint.origin(key.owner) == value,
        labels::MESH if key.kind.descriptor().scope == Scope::Mesh => *key.mesh == *value,
        labels::ZONE => zone(plane, table, key).is_some_and(|zone| *zone == *value),
        labels::ENV if zone(plane, table, key).is_some() => value == "universal",
        _ => resource.labels.get(label).is_some_and(|held| held == value),
    }
}

/// A resource as JSON text, as GET answers it, and its entity tag.
pub(crate) struct Document {
    pub(crate) text: Bytes,
    pub(crate) tag: String,
}

/// The text of one resource: rendered once for each change of it; the status is always that of now.
pub(crate) fn document(plane: &Plane, table: &TableSnapshot, resource: &Arc<Resource>) -> Document {
    let zone = zone(plane, table, &resource.key);
    let Text { text, silent } = plane.rendered().text(resource, zone.as_ref(), || {
        let Fixed { answer, silent } = fixed(plane, table, resource);
        Text { text: negotiate::pretty(&answer), silent: silent.map(Arc::new) }
    });
    match status(plane, &resource.key, silent.as_deref()) {
        None => Document { text, tag: negotiate::etag(resource) },
        Some(status) => {
            let status = negotiate::pretty(&json!({"status": status}));
            Document { text: joined(&text, &status), tag: negotiate::etag_of_shown(resource, Some(&status)) }
        }
    }
}

/// The fields of two objects, each as [`negotiate::pretty`] writes them, as one.
fn joined(one: &[u8], other: &[u8]) -> Bytes {
    let end = b"\n}\n";
    let (Some(one), Some(other)) = (one.strip_suffix(end), other.strip_prefix(b"{")) else { return Bytes::copy_from_slice(one) };
    Bytes::from([one, b",", other].concat())
}

/// A page of a list: `texts` as [`document`] gives them, indented as they would be if the page were written as a whole.
pub(crate) fn page(total: usize, texts: &[Bytes], next: Option<&str>) -> Bytes {
    let size = texts.iter().map(|text| text.len() + text.len() / 8).sum::<usize>() + 256;
    let mut page = BytesMut::with_capacity(size);
    page.put_slice(format!("{{\n \"total\": {total},\n \"items\": [").as_bytes());
    for (index, text) in texts.iter().enumerate() {
        page.put_slice(if index == 0 { b"" } else { b"," });
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // Line ends inside of texts are escaped in JSON: each one here ends a line of the document.
        for line in text.split(|byte| *byte == b'\n') {
            page.put_slice(b"\n  ");
            page.put_slice(line);
        }
    }
    page.put_slice(if texts.is_empty() { b"]," } else { b"\n ]," });
    let next = next.map_or(Value::Null, Value::from);
    page.put_slice(format!("\n \"next\": {next}\n}}\n").as_bytes());
    page.freeze()
}

/// RFC 3339, as Go writes it.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The name in answers: bare for the plane's own resources, meshes and zones, Kuma's alias for all others.
pub(crate) fn shown_name(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> String {
    if has_alias(plane, key) { alias_of(plane, table, key) } else { key.name.to_string() }
}

/// Whether a resource is shown under another name than its author gave it.
pub(crate) fn has_alias(plane: &Plane, key: &ResourceKey) -> bool {
    key.owner != plane.viewpoint.owner() && !keeps_its_name(key.kind)
}

/// The alias of a resource of another plane.
pub(crate) fn alias_of(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> String {
    alias::alias(&key.mesh, &key.name, zone(plane, table, key).as_deref().unwrap_or_default())
}

fn keeps_its_name(kind: Kind) -> bool {
    matches!(kind, Kind::Mesh | Kind::Zone)
}

/// The name of the zone that a resource belongs to. What only global gives has none, even where a stand-alone zone holds it.
pub(crate) fn zone(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> Option<Name> {
    let row = key.kind.descriptor();
    if !row.zone_writes && !row.travel.up {
        return None;
    }
    match (key.owner, &plane.viewpoint) {
        (Owner::Global, _) => None,
        (Owner::Zone(owner), Viewpoint::Zone { name, uid, .. }) if owner == *uid => Some(name.clone()),
        // A zone whose name is not known here yet is shown by its identity rather than mixed up with global.
        (Owner::Zone(owner), _) => Some(table.zone_name(owner).unwrap_or_else(|| owner.to_string().into())),
    }
}

/// The KRI of a resource.
pub(crate) fn kri(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> Kri {
    Kri {
        kind: key.kind,
        mesh: key.mesh.to_string(),
        zone: zone(plane, table, key).map(|zone| zone.to_string()).unwrap_or_default(),
        name: key.name.to_string(),
        section: String::new(),
    }
}

fn server_names(kri: &Kri, spec: &Value) -> Vec<ServerName> {
    sections(spec)
        .filter_map(|(port, section)| sni::encode(&kri.with_section(&section)).ok().map(|sni| ServerName { port, sni }))
        .collect()
}

/// Ports of a service with the section that each has in KRIs and SNIs; an external service has the one that it matches.
pub(crate) fn sections(spec: &Value) -> impl Iterator<Item = (u64, String)> + '_ {
    let external = spec["match"]["port"].as_u64().map(|port| (port, port.to_string()));
    let own = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
        let number = port["port"].as_u64()?;
        let name = port["name"].as_str().filter(|name| !name.is_empty());
        Some((number, name.map_or_else(|| number.to_string(), str::to_owned)))
    });
    external.into_iter().chain(own)
}
