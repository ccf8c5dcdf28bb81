//! What people and tokens did to one resource, and how it was then.

use atoll_model::{ContentHash, Kind, Labels, Resource, ResourceKey, Revision, Style, kinds::Access};
use atoll_store::{HistoryEntry, HistoryFilter, TableSnapshot};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{item, mesh_of};
use crate::{
    Plane, Problem,
    difference::{self, Difference},
    naming, negotiate, present,
    problem::title,
    query::{self, Ask},
};

/// Entries of a page, at most: one more tells whether there is a next one.
const PAGE_MAX: usize = 999;

/// Who changed the resource, when, at which revision, and what; newest first.
pub(crate) async fn history(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let key = key(&plane, &table, kind, &ask)?;
    let size = query::size(&ask.query)?.min(PAGE_MAX);
    let before = ask.query.revision("before")?;
    let mut entries = entries(&plane, &key, before, size + 1).await?;
    if entries.is_empty() && before.is_none() && table.get(&key).is_none() {
        return Err(Problem::not_found(title::RETRIEVE));
    }
    let has_more = entries.len() > size;
    entries.truncate(size);
    let last = entries.last().filter(|_| has_more);
    let next = last.map(|last| ask.with_parameter("before", &last.revision.to_string()));
    let items: Vec<Value> = entries.iter().map(shown).collect();
    let body = json!({"items": items, "next": next});
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}

/// The resource as it was at a revision.
pub(super) async fn at(
    plane: &Plane,
    table: &TableSnapshot,
    kind: Kind,
    revision: Revision,
    ask: &Ask,
) -> Result<Response, Problem> {
    if revision > table.revision() {
        let reason = format!("is ahead of this plane, which is at {}", table.revision());
        return Err(query::parameter("revision", reason));
    }
    let key = key(plane, table, kind, ask)?;
    if let Some(now) = table.get(&key).filter(|now| now.revision <= revision) {
        return Ok(item::respond(plane, table, now, ask));
    }
    let entry = entries(plane, &key, Some(revision.next()), 1).await?.pop();
    let then = entry.as_ref().and_then(|entry| past(table, entry)).ok_or_else(|| {
        let detail = match entry {
            Some(_) => format!("it did not exist at revision {revision}"),
            None => format!("the history does not reach back to revision {revision}: see _history for what it has"),
        };
        Problem { detail, ..Problem::not_found(title::RETRIEVE) }
    })?;
    let answer = present::past(plane, table, &then);
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &answer), table.revision()))
}

/// Which resource is meant: one that is there, or the plane's own that was.
fn key(plane: &Plane, table: &TableSnapshot, kind: Kind, ask: &Ask) -> Result<ResourceKey, Problem> {
    let (mesh, name) = (mesh_of(kind, ask.path.mesh()), ask.path.name());
    let key = match naming::find(plane, table, kind, &mesh, &name, &ask.permit, title::RETRIEVE) {
        Ok(resource) => resource.key.clone(),
        Err(problem) if problem.status == StatusCode::NOT_FOUND => ResourceKey::new(kind, mesh, name, plane.viewpoint.owner()),
        Err(problem) => return Err(problem),
    };
    ask.permit.require(plane, table, Access::Get, &key, title::RETRIEVE)?;
    Ok(key)
}

async fn entries(plane: &Plane, key: &ResourceKey, before: Option<Revision>, limit: usize) -> Result<Vec<HistoryEntry>, Problem> {
    let filter = HistoryFilter {
        kind: Some(key.kind),
        mesh: Some(key.mesh.clone()),
        name: Some(key.name.clone()),
        owner: Some(key.owner),
        before,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        ..HistoryFilter::default()
    };
    plane.store.history(&filter).await.map_err(|error| Problem::from_store(title::RETRIEVE, &error))
}

/// Labels and spec as the history keeps them.
#[derive(Deserialize)]
struct Image {
    labels: Labels,
    spec: Box<RawValue>,
}

impl Image {
    fn of(bytes: &Bytes) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// As they stand in the document.
    fn document(&self, kind: Kind) -> Value {
        let spec = serde_json::from_str(self.spec.get()).unwrap_or(Value::Null);
        let mut document = match (kind.descriptor().style, spec) {
            (Style::Flat, Value::Object(fields)) => fields,
            (_, spec) => Map::from_iter([("spec".to_owned(), spec)]),
        };
        if !self.labels.is_empty() {
            document.insert("labels".to_owned(), json!(self.labels));
        }
        Value::Object(document)
    }
}

fn shown(entry: &HistoryEntry) -> Value {
    json!({
        "revision": entry.revision,
        "time": present::time(entry.at),
        "subject": entry.subject,
        "address": entry.address,
        "action": entry.action.to_string(),
        "changes": changes(entry),
    })
}

fn changes(entry: &HistoryEntry) -> Vec<Difference> {
    let kind = entry.key.kind;
    let image = |bytes: &Option<Bytes>| bytes.as_ref().and_then(Image::of).map_or_else(|| json!({}), |it| it.document(kind));
    let found = difference::between(&image(&entry.before), &image(&entry.after));
    if kind.descriptor().sealed { difference::sealed(found) } else { found }
}

/// The resource after an entry; what planes compute is not kept.
fn past(table: &TableSnapshot, entry: &HistoryEntry) -> Option<Resource> {
    let Image { labels, spec } = Image::of(entry.after.as_ref()?)?;
    let spec = Bytes::copy_from_slice(spec.get().as_bytes());
    let created = table.get(&entry.key).map(|now| now.created).filter(|created| *created <= entry.at);
    Some(Resource {
        key: entry.key.clone(),
        revision: entry.revision,
        version: 0,
        generation: 0,
        hash: ContentHash::of(&labels, &spec),
        labels,
        spec,
        computed: None,
        created: created.unwrap_or(entry.at),
        modified: entry.at,
    })
}
