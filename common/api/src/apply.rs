//! POST /_apply: many documents of any kind in one transaction and one range of revisions.

use std::collections::BTreeSet;

use atoll_model::{Kind, Name, ResourceKey, Scope, Violation};
use atoll_store::{TableSnapshot, Write, WriteBatch, WriteResult};
use axum::{body::Body, response::Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Plane, Problem,
    body::{self, Parsed, limits},
    negotiate,
    problem::{Invalid, title},
    query::Ask,
    resources,
    review::{self, Reviewed, Strictness},
};

/// What became of one document.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    index: usize,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mesh: String,
    name: String,
    result: &'static str,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalid_parameters: Vec<Invalid>,
}

/// Applies all documents of the body; with `atomic=false` those that are valid.
pub(crate) async fn apply(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    let options = Options::of(&ask)?;
    let bytes = body::read(&ask.headers, body, limits::APPLY_BODY).await?;
    let parsed = body::parse_many(body::format(&ask.headers, &bytes)?, &bytes)?;
    let table = plane.store.snapshot();
    let (mut outcomes, reviewed) = review_all(&plane, &table, parsed, options.strictness);
    if options.atomic && outcomes.iter().any(|outcome| !outcome.invalid_parameters.is_empty()) {
        return Err(refused(outcomes));
    }
    if options.dry_run {
        for (index, reviewed) in &reviewed {
            outcomes[*index].result = foretell(&table, reviewed);
        }
        return Ok(answer(&outcomes, table.revision(), true));
    }
    let checks = mesh_checks(&table, &reviewed);
    let (indices, puts): (Vec<_>, Vec<_>) = reviewed.into_iter().map(|(index, reviewed)| (index, into_write(reviewed))).unzip();
    let checked = checks.len();
    let writes = checks.into_iter().chain(puts).collect();
    let committed = plane
        .store
        .commit(WriteBatch::new(ask.actor(), writes))
        .await
        .map_err(|error| Problem::from_store(title::APPLY, &error))?;
    for (index, result) in indices.into_iter().zip(&committed.results[checked..]) {
        outcomes[index].result = word(result);
    }
    Ok(answer(&outcomes, committed.revision, false))
}

struct Options {
    atomic: bool,
    dry_run: bool,
    strictness: Strictness,
}

impl Options {
    fn of(ask: &Ask) -> Result<Self, Problem> {
        let atomic = ask.query.text("atomic").is_none() || ask.query.flag("atomic")?;
        Ok(Self { atomic, dry_run: ask.query.flag("dry_run")?, strictness: ask.strictness()? })
    }
}

/// Reviews each document; a mesh may be made by the same request.
fn review_all(
    plane: &Plane,
    table: &TableSnapshot,
    parsed: Parsed,
    strictness: Strictness,
) -> (Vec<Outcome>, Vec<(usize, Reviewed)>) {
    let made: BTreeSet<Name> = parsed.documents.iter().filter_map(made_mesh).collect();
    let mut seen: BTreeSet<ResourceKey> = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(parsed.documents.len());
    let mut accepted = Vec::new();
    for (index, value) in parsed.documents.into_iter().enumerate() {
        let mut outcome = named(index, &value);
        let reviewed = review::of_document(plane, table, value, strictness).and_then(|reviewed| {
            let faults = faults_among(table, &made, &seen, &reviewed.key);
            if faults.is_empty() { Ok(reviewed) } else { Err(faults) }
        });
        match reviewed {
            Ok(reviewed) => {
                seen.insert(reviewed.key.clone());
                outcome.warnings.clone_from(&reviewed.warnings);
                accepted.push((index, reviewed));
            }
            Err(faults) => {
                outcome.result = "refused";
                outcome.invalid_parameters = resources::located(faults, parsed.yaml.as_deref(), index);
            }
        }
        outcomes.push(outcome);
    }
    (outcomes, accepted)
}

fn made_mesh(document: &Value) -> Option<Name> {
    (document["type"] == Kind::Mesh.name()).then(|| document["name"].as_str().map(Name::from))?
}

fn faults_among(table: &TableSnapshot, made: &BTreeSet<Name>, seen: &BTreeSet<ResourceKey>, key: &ResourceKey) -> Vec<Violation> {
    let mut faults = Vec::new();
    let in_mesh = key.kind.descriptor().scope == Scope::Mesh;
    if in_mesh && !made.contains(&key.mesh) && resources::mesh_check(table, &key.mesh).is_none() {
        faults.push(Violation::new("mesh", format!("mesh of name {} is not found", key.mesh)));
    }
    if seen.contains(key) {
        faults.push(Violation::new("name", "an earlier document of this request has the same type, mesh and name"));
    }
    faults
}

/// What a document calls itself, so that a result can be told even of a faulty one.
fn named(index: usize, value: &Value) -> Outcome {
    let text = |field: &str| value[field].as_str().unwrap_or_default().chars().take(253).collect();
    Outcome {
        index,
        kind: text("type"),
        mesh: text("mesh"),
        name: text("name"),
        result: "unchanged",
        warnings: Vec::new(),
        invalid_parameters: Vec::new(),
    }
}

/// The meshes that must still be there at the commit.
fn mesh_checks(table: &TableSnapshot, reviewed: &[(usize, Reviewed)]) -> Vec<Write> {
    let made = |mesh: &Name| reviewed.iter().any(|(_, other)| other.key.kind == Kind::Mesh && other.key.name == *mesh);
    let meshes: BTreeSet<&Name> = reviewed.iter().map(|(_, one)| &one.key.mesh).filter(|mesh| !mesh.is_empty()).collect();
    meshes.into_iter().filter(|mesh| !made(mesh)).filter_map(|mesh| resources::mesh_check(table, mesh)).collect()
}

fn into_write(reviewed: Reviewed) -> Write {
    Write::put(reviewed.key, reviewed.labels, reviewed.spec)
}

fn word(result: &WriteResult) -> &'static str {
    match result {
        WriteResult::Created(_) => "created",
        WriteResult::Updated(_) => "updated",
        WriteResult::Unchanged(_) => "unchanged",
        WriteResult::Deleted(_) => "deleted",
        WriteResult::Absent => "absent",
    }
}

/// What a write would do.
fn foretell(table: &TableSnapshot, reviewed: &Reviewed) -> &'static str {
    match table.get(&reviewed.key) {
        None => "created",
        Some(there) if there.spec == reviewed.spec && there.labels == reviewed.labels => "unchanged",
        Some(_) => "updated",
    }
}

fn answer(outcomes: &[Outcome], revision: atoll_model::Revision, dry_run: bool) -> Response {
    let body = json!({"revision": revision, "dryRun": dry_run, "results": outcomes});
    negotiate::with_revision(negotiate::json(StatusCode::OK, &body), revision)
}

/// 400 with every fault of every document, its index before the path.
fn refused(outcomes: Vec<Outcome>) -> Problem {
    let faulty = outcomes.iter().filter(|outcome| !outcome.invalid_parameters.is_empty()).count();
    let prefixed = outcomes.iter().flat_map(|outcome| {
        outcome.invalid_parameters.iter().map(|fault| {
            let dot = if fault.field.is_empty() || fault.field.starts_with('[') { "" } else { "." };
            Invalid { field: format!("[{}]{dot}{}", outcome.index, fault.field), ..fault.clone() }
        })
    });
    let mut problem = Problem::invalid(title::APPLY, prefixed.collect::<Vec<_>>());
    problem.detail = format!("{faulty} of {} documents are not valid; nothing was changed", outcomes.len());
    let results: Vec<Outcome> = outcomes
        .into_iter()
        .map(|outcome| match outcome.result {
            "refused" => outcome,
            _ => Outcome { result: "skipped", ..outcome },
        })
        .collect();
    problem.results = Some(json!(results));
    problem
}
