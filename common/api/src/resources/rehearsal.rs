//! Writes that are only judged: what they would do, from the same plan as a commit.

use std::sync::Arc;

use atoll_model::{Resource, Style};
use atoll_store::{OutcomeKind, Write, WriteBatch, WriteResult};
use serde_json::{Map, Value, json};

use crate::{
    Plane, Problem, counts,
    difference::{self, Difference},
    query::Ask,
};

/// What each write would do now.
///
/// # Errors
/// What the store would refuse, under `title`.
pub(crate) async fn rehearse(
    plane: &Plane,
    ask: &Ask,
    writes: Vec<Write>,
    title: &'static str,
) -> Result<Vec<WriteResult>, Problem> {
    counts::check(plane, &writes, title)?;
    let batch = WriteBatch::new(ask.actor(), writes);
    let rehearsed = plane.store.rehearse(&batch).await.map_err(|error| Problem::from_store(title, &error))?;
    Ok(rehearsed.results)
}

/// What a write did, as answers say it.
pub(crate) fn word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Created => "created",
        OutcomeKind::Updated => "updated",
        OutcomeKind::Unchanged => "unchanged",
        OutcomeKind::Deleted => "deleted",
        OutcomeKind::Absent => "absent",
    }
}

/// The fields that a write changes in a resource that was like `before`.
pub(crate) fn differences(before: Option<&Arc<Resource>>, result: &WriteResult) -> Vec<Difference> {
    let after = match result {
        WriteResult::Created(resource) | WriteResult::Updated(resource) | WriteResult::Unchanged(resource) => Some(resource),
        WriteResult::Deleted(_) | WriteResult::Absent => None,
    };
    let sealed = before.or(after).is_some_and(|resource| resource.key.kind.descriptor().sealed);
    let authored = |resource: Option<&Arc<Resource>>| resource.map_or_else(|| json!({}), |resource| authored(resource));
    let found = difference::between(&authored(before), &authored(after));
    if sealed { difference::sealed(found) } else { found }
}

/// What the author of a resource wrote: labels and spec as they stand in the document.
fn authored(resource: &Resource) -> Value {
    let spec = serde_json::from_slice(&resource.spec).unwrap_or(Value::Null);
    let mut document = match (resource.key.kind.descriptor().style, spec) {
        (Style::Flat, Value::Object(fields)) => fields,
        (_, spec) => Map::from_iter([("spec".to_owned(), spec)]),
    };
    if !resource.labels.is_empty() {
        document.insert("labels".to_owned(), json!(resource.labels));
    }
    Value::Object(document)
}
