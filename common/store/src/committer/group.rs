//! Writes that go into one transaction: staged in memory, answered together.

use std::sync::Arc;

use atoll_model::{Revision, Timestamp};

use super::Request;
use crate::{
    Applied, Committed, Durable, Early, Registry, Rejected, StoreError, TableSnapshot,
    journal::{DoneBefore, LogError},
    plan::Plan,
};

/// What one request of a group comes to, if the group is committed.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Result<Committed, StoreError>),
    Applied(Revision, Vec<Rejected>),
    /// A newer session with the peer was begun; nothing was done.
    Superseded,
    /// Not a write.
    Nothing,
}

/// Lays the requests over the table, in their order; one that fails leaves no trace.
/// `before`: what was done before under their keys. `registry`: as the journal has it with the table.
pub(super) fn stage(
    table: &TableSnapshot,
    registry: &Registry,
    before: DoneBefore,
    requests: &[Request],
    now: Timestamp,
) -> (Plan, Vec<Outcome>) {
    let mut plan = Plan::over(table, now).knowing(before);
    let stage = |request| if is_superseded(request, registry) { Outcome::Superseded } else { stage_one(&mut plan, request) };
    let outcomes = requests.iter().map(stage).collect();
    (plan, outcomes)
}

fn is_superseded(request: &Request, registry: &Registry) -> bool {
    match request {
        Request::Remote { batch, session: Some(session), .. } => registry.is_superseded(&batch.peer, *session),
        Request::Remote { session: None, .. }
        | Request::Commit { .. }
        | Request::Early { .. }
        | Request::Look { .. }
        | Request::Prune { .. }
        | Request::Close { .. } => false,
    }
}

/// Lays one request over a plan.
pub(super) fn stage_one(plan: &mut Plan, request: &Request) -> Outcome {
    match request {
        Request::Commit { batch, keys, .. } | Request::Early { batch, keys, .. } => Outcome::Written(plan.write(batch, keys)),
        Request::Remote { batch, keys, .. } => {
            let (revision, rejected) = plan.remote(batch, keys);
            Outcome::Applied(revision, rejected)
        }
        Request::Look { .. } | Request::Prune { .. } | Request::Close { .. } => Outcome::Nothing,
    }
}

/// Tells the caller. One that has gone away does not need to know.
pub(super) fn answer(request: Request, outcome: Outcome, durable: Durable) {
    let _gone = match (request, outcome) {
        (Request::Commit { reply, .. }, Outcome::Written(result)) => reply.send(result).is_err(),
        (Request::Early { reply, .. }, Outcome::Written(result)) => {
            reply.send(result.map(|committed| Early { committed, durable })).is_err()
        }
        (Request::Remote { reply, .. }, Outcome::Applied(revision, rejected)) => {
            reply.send(Ok(Some(Applied { revision, rejected, durable }))).is_err()
        }
        (Request::Remote { reply, .. }, Outcome::Superseded) => reply.send(Ok(None)).is_err(),
        (request, Outcome::Written(_) | Outcome::Applied(..) | Outcome::Superseded | Outcome::Nothing) => {
            debug_assert!(!request.is_write(), "a write was staged as something else");
            false
        }
    };
}

/// Tells all callers that nothing was done, or that it is not known.
pub(super) fn fail_all(requests: Vec<Request>, error: &StoreError) {
    for request in requests {
        request.fail(error.clone());
    }
}

/// What to tell the callers of a group that the journal did not take.
pub(super) fn refusal(requests: &[Request], error: LogError) -> StoreError {
    let key = requests.iter().find_map(Request::first_key);
    match (error, key) {
        (LogError::Refused(cause), Some(key)) => {
            StoreError::Invalid { key, reason: format!("the journal refuses it: {}", short(&Arc::clone(&cause).to_string())) }
        }
        (error, _) => error.into(),
    }
}

/// An error text, cut to what belongs in an answer.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
