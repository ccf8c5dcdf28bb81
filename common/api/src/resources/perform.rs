//! Writes that are done: once, even when the request is repeated.

use std::sync::Arc;

use atoll_model::{Resource, Revision};
use atoll_store::{Once, OutcomeKind, Write, WriteBatch, WriteResult};

use crate::{Plane, Problem, counts, once, query::Ask};

/// What became of the writes of a request.
#[derive(Debug)]
pub(crate) struct Done {
    /// The revision that they came to.
    pub(crate) revision: Revision,
    /// What each did, in their order.
    pub(crate) outcomes: Vec<OutcomeKind>,
    /// The resources after it, as far as they are known: of a repeat they are not.
    pub(crate) resources: Vec<Option<Arc<Resource>>>,
    /// The request had been done before; nothing was done now.
    pub(crate) repeated: bool,
}

/// Does what was planned, or says what was done when the request came for the first time. A request that would be refused today
/// and was done before is a repeat like any other.
///
/// # Errors
/// The plan's refusal, or the store's under `title`.
pub(crate) async fn perform(
    plane: &Plane,
    ask: &Ask,
    planned: Result<Vec<Write>, Problem>,
    key: Option<Once>,
    title: &'static str,
) -> Result<Done, Problem> {
    let writes = match (planned, &key) {
        (Ok(writes), _) => writes,
        (Err(refusal), None) => return Err(refusal),
        (Err(refusal), Some(key)) => {
            let before = once::done_before(plane, key, title).await?;
            return before.map_or(Err(refusal), |before| Ok(again(before.revision, before.outcomes)));
        }
    };
    counts::check(plane, &writes, title)?;
    let batch = WriteBatch { once: key, ..WriteBatch::new(ask.actor(), writes) };
    let committed = plane.store.commit(batch).await.map_err(|error| Problem::from_store(title, &error))?;
    Ok(match committed.repeated {
        Some(before) => again(before.revision, before.outcomes),
        None => Done {
            revision: committed.revision,
            outcomes: committed.results.iter().map(WriteResult::kind).collect(),
            resources: committed.results.into_iter().map(after).collect(),
            repeated: false,
        },
    })
}

fn again(revision: Revision, outcomes: Vec<OutcomeKind>) -> Done {
    Done { revision, resources: vec![None; outcomes.len()], outcomes, repeated: true }
}

fn after(result: WriteResult) -> Option<Arc<Resource>> {
    match result {
        WriteResult::Created(resource) | WriteResult::Updated(resource) | WriteResult::Unchanged(resource) => Some(resource),
        WriteResult::Deleted(_) | WriteResult::Absent => None,
    }
}
