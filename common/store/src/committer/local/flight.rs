//! What the journal is doing while the committer goes on.

use std::{
    future::{Future, pending},
    pin::Pin,
};

use atoll_model::{Revision, Timestamp};
use atoll_runtime::backoff::Backoff;
use tokio::time::{Instant, sleep_until};

use super::super::{Reply, Request, group::Outcome};
use crate::{
    Pruned, TableSnapshot,
    audit::Chain,
    error::Cause,
    journal::{DoneBefore, Log, LogError, PruneLimits, Rows, Surroundings},
};

/// The disk does not take writes.
pub(super) struct Failing {
    pub(super) since: Timestamp,
    pub(super) cause: Cause,
    pub(super) backoff: Backoff,
    pub(super) retry: Instant,
}

/// Work for the journal beside the table.
pub(super) enum Chore {
    Look(Reply<()>),
    Prune(Option<Reply<Pruned>>),
}

/// Something that the journal is doing.
pub(super) struct Flight {
    pub(super) landing: Pin<Box<dyn Future<Output = (Box<dyn Log>, Landed)> + Send>>,
    pub(super) commits: Option<Commits>,
}

/// Commits that are in flight.
pub(super) struct Commits {
    pub(super) requests: Vec<Request>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) after: TableSnapshot,
    pub(super) took_off: Instant,
    /// Shown before they last, because the disk stalled.
    pub(super) exposed: bool,
}

/// What came back.
pub(super) enum Landed {
    /// `early`: the rows that are in the table already. `sequence`: the early batches they contain.
    Rows {
        early: Rows,
        commits: Rows,
        revision: Revision,
        sequence: u64,
        /// The audit's chain with these rows.
        chain: Chain,
        result: Result<bool, LogError>,
    },
    /// What was done before under the keys of these commits.
    Known(Vec<Request>, Result<DoneBefore, LogError>),
    Look(Reply<()>, Result<Surroundings, LogError>),
    Prune(Option<Reply<Pruned>>, Result<(Pruned, Revision), LogError>),
}

/// Waits for what is in flight; for ever if nothing is.
pub(super) async fn landing(flight: &mut Option<Flight>) -> (Box<dyn Log>, Landed) {
    match flight {
        Some(flight) => flight.landing.as_mut().await,
        None => pending().await,
    }
}

pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

pub(super) async fn do_chore(mut log: Box<dyn Log>, chore: Chore, limits: PruneLimits) -> (Box<dyn Log>, Landed) {
    let landed = match chore {
        Chore::Look(reply) => Landed::Look(reply, log.surroundings().await),
        Chore::Prune(reply) => Landed::Prune(reply, log.prune(limits).await),
    };
    (log, landed)
}
