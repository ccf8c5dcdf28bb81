//! PUT: creates or replaces one resource.

use atoll_model::{Kind, Violation};
use atoll_store::{TableSnapshot, Write, WriteBatch, WriteResult};
use axum::{body::Body, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{mesh_of, require_mesh};
use crate::{
    Plane, Problem,
    body::{self, limits, positions::Positions},
    naming, negotiate, plane, present,
    problem::{Invalid, title},
    query::Ask,
    review::{self, Reviewed, Target},
};

/// Creates (201) or replaces (200) one resource.
pub(crate) async fn put(plane: Plane, kind: Kind, ask: Ask, body: Body) -> Result<Response, Problem> {
    if !plane.viewpoint.may_write(kind) {
        return Err(Problem::not_allowed(plane::read_only_reason(&plane.viewpoint, kind)));
    }
    let target = Target { kind, mesh: mesh_of(kind, ask.path.mesh()), name: ask.path.name() };
    let table = plane.store.snapshot();
    let check = require_mesh(&table, kind, &target.mesh)?;
    refuse_foreign(&plane, &table, &target)?;
    let bytes = body::read(&ask.headers, body, limits::BODY).await?;
    let mut parsed = body::parse_one(body::format(&ask.headers, &bytes)?, &bytes)?;
    let value = parsed.documents.pop().unwrap_or_default();
    let reviewed = review::of_target(&plane, &table, &target, value, ask.strictness()?)
        .map_err(|faults| refused(&plane, &table, &target, faults, parsed.yaml.as_deref()))?;
    if ask.query.flag("dry_run")? {
        return Ok(negotiate::json(StatusCode::OK, &json!({"warnings": reviewed.warnings, "dryRun": true})));
    }
    commit(&plane, &ask, check, reviewed).await
}

async fn commit(plane: &Plane, ask: &Ask, check: Option<Write>, reviewed: Reviewed) -> Result<Response, Problem> {
    let Reviewed { key, labels, spec, warnings } = reviewed;
    let expect = negotiate::precondition(&ask.headers)?;
    let writes = check.into_iter().chain([Write::Put { key, labels, spec, expect }]).collect();
    let batch = WriteBatch::new(ask.actor(), writes);
    let mut committed = plane.store.commit(batch).await.map_err(|error| Problem::from_store(title::PROCESS, &error))?;
    let (status, resource) = match committed.results.pop() {
        Some(WriteResult::Created(resource)) => (StatusCode::CREATED, Some(resource)),
        Some(WriteResult::Updated(resource) | WriteResult::Unchanged(resource)) => (StatusCode::OK, Some(resource)),
        Some(WriteResult::Deleted(_) | WriteResult::Absent) | None => (StatusCode::OK, None),
    };
    let response = negotiate::json(status, &json!({"warnings": warnings}));
    let response = match &resource {
        Some(resource) => negotiate::with_etag(response, resource),
        None => response,
    };
    Ok(negotiate::with_revision(response, committed.revision))
}

/// The name of another plane's resource as answers show it must not silently make a second one here.
fn refuse_foreign(plane: &Plane, table: &TableSnapshot, target: &Target) -> Result<(), Problem> {
    let Some(foreign) = naming::by_alias(plane, table, target.kind, &target.mesh, &target.name) else { return Ok(()) };
    let owner = match present::zone(plane, table, &foreign.key) {
        Some(zone) => format!("zone {zone}"),
        None => "global".to_owned(),
    };
    Err(Problem::not_allowed(format!("{} belongs to {owner}: change it there", target.name)))
}

/// Every fault, with its place if the body was YAML.
fn refused(plane: &Plane, table: &TableSnapshot, target: &Target, faults: Vec<Violation>, yaml: Option<&str>) -> Problem {
    let only_the_name = faults.iter().all(|fault| fault.field == "name");
    let key = atoll_model::ResourceKey::new(target.kind, target.mesh.clone(), target.name.clone(), plane.viewpoint.owner());
    // Kuma finds a bad name only when it stores, under another title.
    let title = if only_the_name && target.kind.descriptor().label_name && table.get(&key).is_none() {
        "Failed to create a resource"
    } else {
        title::PROCESS
    };
    Problem::invalid(title, located(faults, yaml, 0))
}

/// Adds to faults of document `index` their places in a YAML text.
pub(crate) fn located(faults: Vec<Violation>, yaml: Option<&str>, index: usize) -> Vec<Invalid> {
    let positions = yaml.map(|text| Positions::of(text, index)).unwrap_or_default();
    faults
        .into_iter()
        .map(|fault| {
            let position = positions.find(&fault.field);
            Invalid { position, ..Invalid::from(fault) }
        })
        .collect()
}
