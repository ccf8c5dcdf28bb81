//! Writes that go into one transaction: staged in memory, answered together.

use std::sync::Arc;

use atoll_model::{Revision, Timestamp};

use super::Request;
use crate::{
    Applied, Committed, Durable, Early, Rejected, StoreError, TableSnapshot,
    journal::{DoneBefore, LogError},
    plan::Plan,
};

/// What one request of a group comes to, if the group is committed.
#[derive(Debug)]
pub(super) enum Outcome {
    Written(Result<Committed, StoreError>),
    Applied(Revision, Vec<Rejected>),
    /// Not a write.
    Nothing,
}

/// Lays the requests over the table, in their order; one that fails leaves no trace.
/// `before`: what was done before under their keys.
pub(super) fn stage(table: &TableSnapshot, before: DoneBefore, requests: &[Request], now: Timestamp) -> (Plan, Vec<Outcome>) {
    let mut plan = Plan::over(table, now).knowing(before);
    let outcomes = requests.iter().map(|request| stage_one(&mut plan, request)).collect();
    (plan, outcomes)
}

/// Lays one request over a plan.
pub(super) fn stage_one(plan: &mut Plan, request: &Request) -> Outcome {
    match request {
        Request::Commit { batch, .. } | Request::Early { batch, .. } => Outcome::Written(plan.write(batch)),
        Request::Remote { batch, .. } => {
            let (revision, rejected) = plan.remote(batch);
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
            reply.send(Ok(Applied { revision, rejected, durable })).is_err()
        }
        (request, Outcome::Written(_) | Outcome::Applied(..) | Outcome::Nothing) => {
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
