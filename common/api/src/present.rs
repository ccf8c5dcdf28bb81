//! Resources as answers.

use std::collections::BTreeMap;

use atoll_model::{
    Kind, Labels, Name, Owner, Resource, ResourceKey, Scope, Style, Timestamp, alias, kri::Kri, labels, labels::Viewpoint, sni,
};
use atoll_store::TableSnapshot;
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::Value;

use crate::Plane;

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

/// The answer for one resource.
pub(crate) fn answer(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Answer {
    let key = &resource.key;
    let row = key.kind.descriptor();
    let spec = serde_json::from_slice::<Value>(&resource.document()).unwrap_or(Value::Null);
    let kri = kri(plane, table, key);
    let snis = if key.kind == Kind::MeshService { server_names(&kri, &spec) } else { Vec::new() };
    let body = match (row.style, spec) {
        (Style::Flat, Value::Object(fields)) => fields,
        (_, spec) => [("spec".to_owned(), spec)].into_iter().collect(),
    };
    Answer {
        kind: key.kind.name(),
        mesh: (row.scope == Scope::Mesh).then(|| key.mesh.to_string()),
        name: shown_name(plane, table, key),
        creation_time: time(resource.created),
        modification_time: time(resource.modified),
        labels: shown_labels(plane, table, resource),
        kri: kri.to_string(),
        snis,
        body,
        status: plane.status.status(key),
    }
}

/// The labels as answers show them and selectors see them.
pub(crate) fn shown_labels(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Labels {
    let zone = zone(plane, table, &resource.key);
    labels::present(&plane.viewpoint, &resource.key, &resource.labels, zone.as_deref())
}

/// RFC 3339, as Go writes it.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The name in answers: bare for the plane's own resources, meshes and zones, Kuma's alias for all others.
pub(crate) fn shown_name(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> String {
    if key.owner == plane.viewpoint.owner() || keeps_its_name(key.kind) {
        return key.name.to_string();
    }
    alias_of(plane, table, key)
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

/// Ports of a service with the section that each has in KRIs and SNIs.
pub(crate) fn sections(spec: &Value) -> impl Iterator<Item = (u64, String)> + '_ {
    spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
        let number = port["port"].as_u64()?;
        let name = port["name"].as_str().filter(|name| !name.is_empty());
        Some((number, name.map_or_else(|| number.to_string(), str::to_owned)))
    })
}
