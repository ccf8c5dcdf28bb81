//! PUT: creates or replaces one resource.

use atoll_model::{Kind, Name, ResourceKey, Violation, labels};
use atoll_store::{Expect, Once, OutcomeKind, TableSnapshot, Write};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Done, differences, mesh_of, perform, rehearse, require_mesh, word};
use crate::{
    Plane, Problem,
    access::{GrantFault, Grants},
    body::{self, positions::Positions},
    naming, negotiate, once, plane, present,
    problem::{self, Invalid, title},
    query::Ask,
    review::{self, Review, Reviewed, Target},
};

/// Creates (201) or replaces (200) one resource.
pub(crate) async fn put(plane: Plane, kind: Kind, ask: Ask, body: Body) -> Result<Response, Problem> {
    if !plane.viewpoint.may_write(kind) {
        return Err(Problem::not_allowed(plane::read_only_reason(&plane.viewpoint, kind)));
    }
    let target = Target { kind, mesh: mesh_of(kind, ask.path.mesh()), name: ask.path.name() };
    let dry_run = ask.is_dry_run()?;
    let bytes = body::whole(body).await?;
    let key = once::key(&ask, &Method::PUT, &bytes)?;
    let table = plane.store.snapshot();
    let planned = plan(&plane, &table, &ask, &target, &bytes);
    if dry_run {
        let (writes, warnings) = planned?;
        return foretold(&plane, &table, &ask, writes, &warnings).await;
    }
    written(&plane, &table, &ask, &target, planned, &bytes, key).await
}

/// What is to be written, and what the author should know.
type Plan = (Vec<Write>, Vec<String>);

fn plan(plane: &Plane, table: &TableSnapshot, ask: &Ask, target: &Target, bytes: &Bytes) -> Result<Plan, Problem> {
    let check = require_mesh(table, target.kind, &target.mesh, &ask.permit)?;
    let own = ResourceKey::new(target.kind, target.mesh.clone(), target.name.clone(), plane.viewpoint.owner());
    let guarded = ask.permit.require_put(plane, table, &own, title::PROCESS)?;
    refuse_foreign(plane, table, ask, target)?;
    let (review, yaml) = reviewed(plane, table, ask, target, bytes)?;
    let Reviewed { key, labels, spec } =
        review.outcome.map_err(|faults| refused(table, target, &own, faults, yaml.as_deref()))?;
    Grants::new(plane, table, &ask.permit).check(key.kind, &spec).map_err(refuse_grant)?;
    let there = table.get(&key).map(AsRef::as_ref);
    let expect = guarded.with(negotiate::precondition(&ask.headers, there)?);
    if expect == Expect::Exists && there.is_none() {
        return Err(problem::absent(title::PROCESS, &key));
    }
    let writes = check.into_iter().chain([Write::Put { key, labels, spec, expect }]).collect();
    Ok((writes, review.warnings))
}

fn reviewed(
    plane: &Plane,
    table: &TableSnapshot,
    ask: &Ask,
    target: &Target,
    bytes: &Bytes,
) -> Result<(Review, Option<String>), Problem> {
    let mut parsed = body::parse_one(plane.limits(), body::format(&ask.headers, bytes)?, bytes)?;
    let value = parsed.documents.pop().unwrap_or_default();
    Ok((review::of_target(plane, table, target, value, ask.strictness()?), parsed.yaml))
}

async fn written(
    plane: &Plane,
    table: &TableSnapshot,
    ask: &Ask,
    target: &Target,
    planned: Result<Plan, Problem>,
    bytes: &Bytes,
    key: Option<Once>,
) -> Result<Response, Problem> {
    let (planned, warnings) = match planned {
        Ok((writes, warnings)) => (Ok(writes), Some(warnings)),
        Err(refusal) => (Err(refusal), None),
    };
    let done = perform(plane, ask, planned, key, title::PROCESS).await?;
    let warnings = match warnings {
        Some(warnings) => warnings,
        // A repeat of what would be refused today: its document is the same, and so are the warnings.
        None => reviewed(plane, table, ask, target, bytes)?.0.warnings,
    };
    Ok(answer(plane, target, &done, &warnings))
}

fn answer(plane: &Plane, target: &Target, done: &Done, warnings: &[String]) -> Response {
    let created = done.outcomes.last() == Some(&OutcomeKind::Created);
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = negotiate::json(status, &json!({"warnings": warnings}));
    let tag = match done.resources.last() {
        Some(Some(resource)) => Some(negotiate::etag(resource)),
        // What was not changed since has the tag that it had then; of what was, the old tag is of no more use.
        Some(None) | None => unchanged_since(plane, target, done),
    };
    if let Some(tag) = tag {
        response = negotiate::with_etag(response, &tag);
    }
    if done.repeated {
        response = once::replayed(response);
    }
    negotiate::with_revision(response, done.revision)
}

fn unchanged_since(plane: &Plane, target: &Target, done: &Done) -> Option<String> {
    let key = ResourceKey::new(target.kind, target.mesh.clone(), target.name.clone(), plane.viewpoint.owner());
    let table = plane.store.snapshot();
    table.get(&key).filter(|resource| resource.revision <= done.revision).map(|resource| negotiate::etag(resource))
}

/// What the write would do; the same refusals, nothing written.
async fn foretold(
    plane: &Plane,
    table: &TableSnapshot,
    ask: &Ask,
    writes: Vec<Write>,
    warnings: &[String],
) -> Result<Response, Problem> {
    let before = writes.last().and_then(|write| table.get(write.key()));
    let results = rehearse(plane, ask, writes, title::PROCESS).await?;
    let result = results.last();
    let changes = result.map(|result| differences(before, result)).unwrap_or_default();
    let body = json!({
        "warnings": warnings,
        "dryRun": true,
        "result": result.map(|result| word(result.kind())),
        "changes": changes,
    });
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}

/// The name of another plane's resource as answers show it must not silently make a second one here.
fn refuse_foreign(plane: &Plane, table: &TableSnapshot, ask: &Ask, target: &Target) -> Result<(), Problem> {
    let foreign = naming::by_alias(plane, table, target.kind, &target.mesh, &target.name);
    let Some(foreign) = foreign.filter(|foreign| ask.permit.sees(plane, table, &foreign.key)) else { return Ok(()) };
    Err(Problem::not_allowed(foreign_name(plane, table, &foreign.key, &target.name)))
}

/// Whose resource a name means, and what to do about it.
pub(crate) fn foreign_name(plane: &Plane, table: &TableSnapshot, key: &ResourceKey, name: &Name) -> String {
    let owner = present::zone(plane, table, key).map_or_else(|| "global".to_owned(), |zone| format!("zone {zone}"));
    format!("{name} belongs to {owner}: change it there")
}

/// The refusal of a grant.
fn refuse_grant(fault: GrantFault) -> Problem {
    match fault {
        GrantFault::Invalid(faults) => Problem::invalid(title::PROCESS, faults),
        GrantFault::TooMuch(why) => Problem::denied(why),
    }
}

/// Every fault, with its place if the body was YAML.
fn refused(table: &TableSnapshot, target: &Target, own: &ResourceKey, faults: Vec<Violation>, yaml: Option<&str>) -> Problem {
    // Kuma looks at this label last, and says so in a text of its own.
    if let [only] = &faults[..]
        && target.kind == Kind::Dataplane
        && only.field == format!("labels[{:?}]", labels::WORKLOAD)
    {
        let place = located(vec![(0, faults.clone())], yaml).pop().unwrap_or_default();
        let detail = format!("bad request: {}: {}", only.field, only.message);
        return Problem { invalid: place, ..Problem::bad_request(detail) };
    }
    let only_the_name = faults.iter().all(|fault| fault.field == "name");
    // Kuma finds a bad name only when it stores, under another title.
    let title = if only_the_name && target.kind.descriptor().label_name && table.get(own).is_none() {
        "Failed to create a resource"
    } else {
        title::PROCESS
    };
    Problem::invalid(title, located(vec![(0, faults)], yaml).pop().unwrap_or_default())
}

/// Adds to the faults of some documents, by their index, their places in a YAML text.
pub(crate) fn located(faulty: Vec<(usize, Vec<Violation>)>, yaml: Option<&str>) -> Vec<Vec<Invalid>> {
    let fields = faulty.iter().flat_map(|(index, faults)| faults.iter().map(|fault| (*index, fault.field.as_str())));
    let positions = yaml.map(|text| Positions::of(text, fields)).unwrap_or_default();
    let at = |index: usize, fault: Violation| {
        let position = positions.find(index, &fault.field);
        Invalid { position, ..Invalid::from(fault) }
    };
    faulty.into_iter().map(|(index, faults)| faults.into_iter().map(|fault| at(index, fault)).collect()).collect()
}
