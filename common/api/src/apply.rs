//! POST /_apply: many documents of any kind in one transaction and one range of revisions.

use std::collections::BTreeSet;

use atoll_model::{Kind, Name, ResourceKey, Revision, Scope, Violation};
use atoll_store::{Expect, Once, OutcomeKind, TableSnapshot, Write};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Plane, Problem,
    access::{GrantFault, Grants},
    body,
    difference::Difference,
    naming, negotiate, once,
    problem::{self, Invalid, title},
    query::Ask,
    resources::{self, Done},
    review::{self, Reviewed},
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
    /// The resource's version, for `If-Match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// What would change; of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Difference>>,
    /// Who asks may not write this one.
    #[serde(skip)]
    is_denied: bool,
}

/// Applies all documents of the body; with `atomic=false` those that are valid.
pub(crate) async fn apply(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    let atomic = ask.query.text("atomic").is_none() || ask.query.flag("atomic")?;
    let dry_run = ask.is_dry_run()?;
    let bytes = body::whole(body).await?;
    let key = once::key(&ask, &Method::POST, &bytes)?;
    let table = plane.store.snapshot();
    let reviewed = Batch::review(&plane, &table, &ask, &bytes)?;
    let planned = reviewed.plan(atomic);
    if dry_run {
        return foretold(&plane, &table, &ask, reviewed, planned?).await;
    }
    done(&plane, &ask, reviewed, planned, key).await
}

/// The documents of a request, judged.
struct Batch {
    outcomes: Vec<Outcome>,
    /// What each document writes; nothing of one that is refused.
    puts: Vec<Option<Write>>,
    /// The meshes that must still be there at the commit.
    checks: Vec<Write>,
    /// What the request wants to exist and does not.
    absent: Vec<ResourceKey>,
    /// In the place of a document that is refused: the writes of a repeat stand where those of the first time stood.
    nothing: Write,
}

impl Batch {
    /// Reviews each document; a mesh, or a role, may be made by the same request.
    fn review(plane: &Plane, table: &TableSnapshot, ask: &Ask, bytes: &Bytes) -> Result<Self, Problem> {
        let parsed = body::parse_many(plane.limits(), body::format(&ask.headers, bytes)?, bytes)?;
        let strictness = ask.strictness()?;
        let mut judge = Judge::new(plane, table, ask, &parsed.documents)?;
        let (mut outcomes, mut puts, mut faulty) = (Vec::new(), Vec::new(), Vec::new());
        for (index, value) in parsed.documents.into_iter().enumerate() {
            let mut outcome = named(index, &value);
            let review = review::of_document(plane, table, value, strictness);
            outcome.warnings = review.warnings;
            match review.outcome.map_err(Refusal::Invalid).and_then(|reviewed| judge.accept(reviewed)) {
                Ok(put) => puts.push(Some(put)),
                Err(refusal) => {
                    outcome.is_denied = matches!(refusal, Refusal::Denied(_));
                    outcome.result = "refused";
                    faulty.push((index, refusal.faults()));
                    puts.push(None);
                }
            }
            outcomes.push(outcome);
        }
        let indices: Vec<usize> = faulty.iter().map(|(index, _)| *index).collect();
        for (index, faults) in indices.into_iter().zip(resources::located(faulty, parsed.yaml.as_deref())) {
            outcomes[index].invalid_parameters = faults;
        }
        let checks = judge.mesh_checks(&puts);
        let nowhere = ResourceKey::new(Kind::Mesh, Name::none(), Name::none(), plane.viewpoint.owner());
        let wanted = puts.iter().flatten().filter_map(|put| match put {
            Write::Put { key, expect: Expect::Exists, .. } => Some(key),
            _ => None,
        });
        let absent = wanted.filter(|key| table.get(key).is_none()).cloned().collect();
        Ok(Self { outcomes, puts, checks, absent, nothing: Write::Check { key: nowhere, expect: Expect::Any } })
    }

    /// The writes, or the refusal of all: checks first, then one for each document.
    fn plan(&self, atomic: bool) -> Result<Vec<Write>, Problem> {
        if atomic && self.puts.iter().any(Option::is_none) {
            return Err(refused(self.outcomes.clone()));
        }
        if let Some(absent) = self.absent.first() {
            return Err(problem::absent(title::APPLY, absent));
        }
        let puts = self.puts.iter().map(|put| put.clone().unwrap_or_else(|| self.nothing.clone()));
        Ok(self.checks.iter().cloned().chain(puts).collect())
    }
}

/// Why a document is not written.
enum Refusal {
    Invalid(Vec<Violation>),
    Denied(String),
}

impl Refusal {
    fn faults(self) -> Vec<Violation> {
        match self {
            Refusal::Invalid(faults) => faults,
            Refusal::Denied(why) => vec![Violation::new("", why)],
        }
    }
}

/// Judges valid documents by what stands around them: the table, the request's other documents, and who asks.
struct Judge<'a> {
    plane: &'a Plane,
    table: &'a TableSnapshot,
    ask: &'a Ask,
    grants: Grants<'a>,
    documents: usize,
    made: BTreeSet<Name>,
    seen: BTreeSet<ResourceKey>,
}

impl<'a> Judge<'a> {
    fn new(plane: &'a Plane, table: &'a TableSnapshot, ask: &'a Ask, documents: &[Value]) -> Result<Self, Problem> {
        let made_mesh = |document: &Value| {
            (document["type"] == Kind::Mesh.name()).then(|| document["name"].as_str().map(Name::from)).flatten()
        };
        let made = documents.iter().filter_map(made_mesh).collect();
        let mut grants = Grants::new(plane, table, &ask.permit);
        // A binding may stand before its role, if both are written or none.
        if ask.query.text("atomic").is_none() || ask.query.flag("atomic")? {
            documents.iter().for_each(|document| grants.would_be(document));
        }
        let judge = Self { plane, table, ask, grants, documents: documents.len(), made, seen: BTreeSet::new() };
        // What no document can satisfy is said before any is judged.
        judge.expect(None)?;
        Ok(judge)
    }

    fn accept(&mut self, reviewed: Reviewed) -> Result<Write, Refusal> {
        let Reviewed { key, labels, spec } = reviewed;
        let faults = self.faults(&key);
        if !faults.is_empty() {
            return Err(Refusal::Invalid(faults));
        }
        let denied = |problem: Problem| Refusal::Denied(problem.detail);
        let guarded = self.ask.permit.require_put(self.plane, self.table, &key, title::APPLY).map_err(denied)?;
        self.grants.check(key.kind, &spec).map_err(|fault| match fault {
            GrantFault::Invalid(faults) => Refusal::Invalid(faults),
            GrantFault::TooMuch(why) => Refusal::Denied(why),
        })?;
        self.grants.will_be(&key, &spec);
        let expect = guarded.with(self.expect(Some(&key)).map_err(denied)?);
        self.seen.insert(key.clone());
        Ok(Write::Put { key, labels, spec, expect })
    }

    /// What the request's preconditions want of a document. One version says nothing of many documents.
    fn expect(&self, key: Option<&ResourceKey>) -> Result<Expect, Problem> {
        let there = key.and_then(|key| self.table.get(key)).map(AsRef::as_ref);
        match negotiate::precondition(&self.ask.headers, there)? {
            Expect::Version(_) if self.documents > 1 => Err(Problem::bad_request(
                "If-Match with a version is for one document; with several, If-Match: * wants that all exist and \
                 If-None-Match: * that none does",
            )),
            expect => Ok(expect),
        }
    }

    fn faults(&self, key: &ResourceKey) -> Vec<Violation> {
        let mut faults = Vec::new();
        let in_mesh = key.kind.descriptor().scope == Scope::Mesh;
        if in_mesh && !self.made.contains(&key.mesh) && !self.knows(key) {
            faults.push(Violation::new("mesh", format!("mesh of name {} is not found", key.mesh)));
        }
        if self.seen.contains(key) {
            faults.push(Violation::new("name", "an earlier document of this request has the same type, mesh and name"));
        }
        let foreign = naming::by_alias(self.plane, self.table, key.kind, &key.mesh, &key.name);
        if let Some(foreign) = foreign.filter(|foreign| self.ask.permit.sees(self.plane, self.table, &foreign.key)) {
            let whose = resources::foreign_name(self.plane, self.table, &foreign.key, &key.name);
            faults.push(Violation::new("name", whose));
        }
        faults
    }

    fn knows(&self, key: &ResourceKey) -> bool {
        self.ask.permit.knows_mesh(key.kind, &key.mesh) && resources::mesh_check(self.table, &key.mesh).is_some()
    }

    /// The meshes that must still be there at the commit: those that the request does not make.
    fn mesh_checks(&self, puts: &[Option<Write>]) -> Vec<Write> {
        let keys = || puts.iter().flatten().map(Write::key);
        let made: BTreeSet<&Name> = keys().filter(|key| key.kind == Kind::Mesh).map(|key| &key.name).collect();
        let meshes: BTreeSet<&Name> = keys().map(|key| &key.mesh).filter(|mesh| !mesh.is_empty()).collect();
        meshes.difference(&made).filter_map(|mesh| resources::mesh_check(self.table, mesh)).collect()
    }
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
        etag: None,
        changes: None,
        is_denied: false,
    }
}

async fn done(
    plane: &Plane,
    ask: &Ask,
    batch: Batch,
    planned: Result<Vec<Write>, Problem>,
    key: Option<Once>,
) -> Result<Response, Problem> {
    let Done { revision, outcomes, resources, repeated } = resources::perform(plane, ask, planned, key, title::APPLY).await?;
    // The checks stand before the documents; how many they were may have been another number the first time.
    let checks = outcomes.len().saturating_sub(batch.outcomes.len());
    let mut shown = batch.outcomes;
    for ((outcome, kind), resource) in shown.iter_mut().zip(&outcomes[checks..]).zip(&resources[checks..]) {
        match kind {
            // Only what stands in the place of a refused document finds nothing.
            OutcomeKind::Absent => outcome.result = "refused",
            kind => {
                outcome.result = resources::word(*kind);
                outcome.invalid_parameters = Vec::new();
            }
        }
        outcome.etag = resource.as_deref().filter(|_| outcome.result != "refused").map(negotiate::etag);
    }
    let response = answer(&shown, revision, false);
    Ok(if repeated { once::replayed(response) } else { response })
}

/// What each document would change; the same refusals, nothing written.
async fn foretold(
    plane: &Plane,
    table: &TableSnapshot,
    ask: &Ask,
    batch: Batch,
    writes: Vec<Write>,
) -> Result<Response, Problem> {
    let checks = batch.checks.len();
    let results = resources::rehearse(plane, ask, writes, title::APPLY).await?;
    let mut shown = batch.outcomes;
    for ((outcome, put), result) in shown.iter_mut().zip(&batch.puts).zip(&results[checks..]) {
        if let Some(put) = put {
            outcome.result = resources::word(result.kind());
            outcome.changes = Some(resources::differences(table.get(put.key()), result));
        }
    }
    Ok(answer(&shown, table.revision(), true))
}

fn answer(outcomes: &[Outcome], revision: Revision, dry_run: bool) -> Response {
    let body = json!({"revision": revision, "dryRun": dry_run, "results": outcomes});
    negotiate::with_revision(negotiate::json(StatusCode::OK, &body), revision)
}

/// 400 with every fault of every document, its index before the path; 403 if who asks may not write one of them.
fn refused(outcomes: Vec<Outcome>) -> Problem {
    let faulty = outcomes.iter().filter(|outcome| !outcome.invalid_parameters.is_empty()).count();
    let is_denied = outcomes.iter().any(|outcome| outcome.is_denied);
    let prefixed = outcomes.iter().flat_map(|outcome| {
        outcome.invalid_parameters.iter().map(|fault| {
            let dot = if fault.field.is_empty() || fault.field.starts_with('[') { "" } else { "." };
            Invalid { field: format!("[{}]{dot}{}", outcome.index, fault.field), ..fault.clone() }
        })
    });
    let mut problem = Problem::invalid(title::APPLY, prefixed.collect::<Vec<_>>());
    problem.detail = format!("{faulty} of {} documents are not valid; nothing was changed", outcomes.len());
    if is_denied {
        problem.status = StatusCode::FORBIDDEN;
        problem.detail = format!("{faulty} of {} documents are refused; nothing was changed", outcomes.len());
    }
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
