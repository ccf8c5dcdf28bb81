//! The committer over a journal of this process alone (SQLite).
//!
//! What peers send, and what the plane writes itself, is in memory at once; the journal follows in the background, and if its
//! disk fails it catches up later. What people write is answered, and shown, when it lasts. So the table is never ahead of a
//! write that may still be refused, except when the disk stalls: then what waits behind it is not held back any longer.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use atoll_model::{Clock, Revision};
use atoll_runtime::{backoff::Backoff, tasks::Tasks};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::{error, info};
use uuid::Uuid;

use self::flight::{Chore, Commits, Failing, Flight, Landed, do_chore, landing, until};
use super::{
    PRUNE_EVERY, Published, Publisher, Reply, Request,
    group::{answer, fail_all, refusal, stage, stage_one},
    new_chain, prune_limits,
};
use crate::{
    Durable, PeerCursor, Pruned, StoreError, TableSnapshot,
    audit::Chain,
    error::Cause,
    journal::{DoneBefore, Log, LogError, Position, Rows, links},
    plan::Plan,
};

mod flight;

/// How long a batch of a peer waits behind a commit whose disk does not answer.
const STALLED_AFTER: Duration = Duration::from_millis(100);

type Cursors = BTreeMap<String, PeerCursor>;

/// Opens an epoch, loads the table and starts the task.
pub(crate) async fn start(
    mut log: Box<dyn Log>,
    cursors: Cursors,
    inbox: mpsc::Receiver<Request>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<(Published, watch::Receiver<Arc<Cursors>>), StoreError> {
    let opened = log.open_epoch(Uuid::new_v4(), clock.now()).await?;
    let delta = log.read(Revision(0)).await?;
    let around = log.surroundings().await?;
    let mut table = TableSnapshot::default();
    for change in delta.changes {
        table.apply(change);
    }
    table.advance(opened.position.revision);
    table.set_horizon(delta.horizon);
    table.set_durable(table.revision());
    table.set_epochs(around.epochs);
    let committer = Committer {
        log: Some(log),
        inbox,
        clock,
        out: Publisher::new(&table, around.registry),
        cursors: watch::Sender::new(Arc::new(cursors)),
        table,
        position: opened.position,
        pending: Rows::default(),
        sequence: 0,
        waiting: Vec::new(),
        known: None,
        chain: new_chain(),
        alone: VecDeque::new(),
        held: Vec::new(),
        chores: VecDeque::new(),
        flight: None,
        failing: None,
        closing: None,
    };
    let readers = (committer.out.readers(), committer.cursors.subscribe());
    tasks.spawn("store.committer", committer.run());
    Ok(readers)
}

struct Committer {
    /// The journal, while nothing is in flight to it.
    log: Option<Box<dyn Log>>,
    inbox: mpsc::Receiver<Request>,
    clock: Arc<dyn Clock>,
    out: Publisher,
    cursors: watch::Sender<Arc<Cursors>>,
    table: TableSnapshot,
    position: Position,
    /// What is in the table and not on its way to the journal.
    pending: Rows,
    /// Counts early batches.
    sequence: u64,
    /// Commits that go with the next flight.
    waiting: Vec<Request>,
    /// Commits that are done once only, and what the journal said of their keys: they go with the next flight too.
    known: Option<(Vec<Request>, DoneBefore)>,
    /// The end of what this process adds to the audit. After any failure it begins a new one.
    chain: Chain,
    /// Commits of a group of which one was refused as it is: each goes alone, so that the others are not hurt.
    alone: VecDeque<Request>,
    /// Early batches that came while commits were in flight.
    held: Vec<Request>,
    chores: VecDeque<Chore>,
    flight: Option<Flight>,
    failing: Option<Failing>,
    /// Set when no more is taken; told when all is written.
    closing: Option<Option<oneshot::Sender<()>>>,
}

impl Committer {
    async fn run(mut self) {
        let mut prune = interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.take_off();
            if self.closing.is_some() && self.flight.is_none() && (self.pending.is_empty() || self.failing.is_some()) {
                return self.end();
            }
            let stalled = self.stalled_at();
            let retry = self.failing.as_ref().filter(|_| self.flight.is_none()).map(|failing| failing.retry);
            tokio::select! {
                biased;
                (log, landed) = landing(&mut self.flight) => self.land(log, landed),
                request = self.inbox.recv(), if self.closing.is_none() => match request {
                    Some(request) => self.take(request),
                    None => self.closing = Some(None),
                },
                () = until(stalled) => self.expose(),
                () = until(retry) => {}
                _ = prune.tick() => self.chores.push_back(Chore::Prune(None)),
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Commit { .. } => match &self.failing {
                Some(failing) if !self.pending.is_empty() => request.fail(StoreError::Unavailable(failing.cause.clone())),
                Some(_) | None => self.waiting.push(request),
            },
            Request::Early { .. } | Request::Remote { .. } => {
                if self.hides_commits() {
                    self.held.push(request);
                } else {
                    self.apply_now(request);
                }
            }
            Request::Look { reply } => self.chores.push_back(Chore::Look(reply)),
            Request::Prune { reply } => self.chores.push_back(Chore::Prune(Some(reply))),
            Request::Close { reply } => self.closing = Some(Some(reply)),
        }
    }

    /// Whether commits are in flight that the table does not show yet.
    fn hides_commits(&self) -> bool {
        self.flight.as_ref().and_then(|flight| flight.commits.as_ref()).is_some_and(|commits| !commits.exposed)
    }

    /// Lays an early batch over the table and publishes it.
    fn apply_now(&mut self, request: Request) {
        let mut plan = Plan::over(&self.table, self.clock.now());
        let outcome = stage_one(&mut plan, &request);
        let rows = plan.take_rows();
        if !rows.is_empty() {
            self.sequence += 1;
            if !rows.cursors.is_empty() {
                self.cursors.send_modify(|held| Arc::make_mut(held).extend(rows.cursors.clone()));
            }
            self.pending.extend(rows);
            self.table = plan.table;
            self.note_durability();
            self.out.publish(&self.table);
        }
        let durable = Durable { target: self.sequence, flushed: self.out.flushed.subscribe() };
        answer(request, outcome, durable);
    }

    /// Gives the journal something to do, if it is idle and there is something.
    fn take_off(&mut self) {
        let commits = !self.waiting.is_empty() || !self.alone.is_empty() || self.known.is_some();
        if self.failing.as_ref().is_some_and(|failing| failing.retry > Instant::now() && !commits) {
            return;
        }
        let Some(log) = self.log.take() else { return };
        if self.known.is_none() && self.waiting.iter().chain(self.alone.front()).any(|request| request.once().is_some()) {
            self.flight = Some(self.look_up(log));
            return;
        }
        // While the disk fails, even an empty transaction is worth a try: it tells when all is well again.
        let flight = if commits || !self.pending.is_empty() || self.failing.is_some() {
            self.rows_take_off(log)
        } else if let Some(chore) = self.chores.pop_front() {
            let limits = prune_limits(self.clock.now());
            Flight { landing: Box::pin(do_chore(log, chore, limits)), commits: None }
        } else {
            self.log = Some(log);
            return;
        };
        self.flight = Some(flight);
    }

    /// Asks the journal for the keys of the commits that are done once only. Nothing else is written meanwhile, so what it
    /// says holds for the flight that follows.
    fn look_up(&mut self, mut log: Box<dyn Log>) -> Flight {
        let requests = self.next_commits();
        let landing = async move {
            let keys: Vec<_> = requests.iter().filter_map(Request::once).collect();
            let result = log.done_before(&keys).await;
            (log, Landed::Known(requests, result))
        };
        Flight { landing: Box::pin(landing), commits: None }
    }

    /// Of a group of which one was refused, one; else all that wait.
    fn next_commits(&mut self) -> Vec<Request> {
        self.alone.pop_front().map_or_else(|| mem::take(&mut self.waiting), |request| vec![request])
    }

    fn rows_take_off(&mut self, mut log: Box<dyn Log>) -> Flight {
        let early = mem::take(&mut self.pending);
        let (requests, before) = self.known.take().unwrap_or_else(|| (self.next_commits(), DoneBefore::default()));
        let registry = Arc::clone(&self.out.registry.borrow());
        let (mut plan, outcomes) = stage(&self.table, &registry, before, &requests, self.clock.now());
        let commits = plan.take_rows();
        let (at, revision, sequence, chain) = (self.position, plan.table.revision(), self.sequence, self.chain);
        let landing = async move {
            let mut all = early.clone();
            all.extend(commits.clone());
            let (links, chain) = links(chain, &all.audit);
            let result = log.append(at, revision, &all, &links).await;
            (log, Landed::Rows { early, commits, revision, sequence, chain, result })
        };
        let commits = (!requests.is_empty()).then(|| Commits {
            requests,
            outcomes,
            after: plan.table,
            took_off: Instant::now(),
            exposed: false,
        });
        Flight { landing: Box::pin(landing), commits }
    }

    fn land(&mut self, log: Box<dyn Log>, landed: Landed) {
        self.log = Some(log);
        let commits = self.flight.take().and_then(|flight| flight.commits);
        match landed {
            Landed::Rows { revision, sequence, chain, result: Ok(true), .. } => {
                self.chain = chain;
                self.rows_last(commits, revision, sequence);
            }
            Landed::Rows { early, commits: rows, result, .. } => {
                self.chain = new_chain();
                let error = result.err().unwrap_or_else(|| LogError::Corrupt("another process wrote to it".to_owned()));
                self.rows_failed(commits, early, rows, error);
            }
            Landed::Known(requests, Ok(before)) => self.known = Some((requests, before)),
            Landed::Known(requests, Err(error)) => {
                let refusal = refusal(&requests, error.clone());
                fail_all(requests, &refusal);
                if !matches!(error, LogError::Refused(_)) {
                    self.note_failure(error);
                }
            }
            Landed::Look(reply, result) => {
                let result = result.map(|around| {
                    self.table.set_epochs(around.epochs);
                    self.out.publish_registry(around.registry);
                });
                let _gone = reply.send(result.map_err(Into::into));
            }
            Landed::Prune(reply, result) => self.pruned(reply, result),
        }
        for request in mem::take(&mut self.held) {
            self.apply_now(request);
        }
    }

    fn rows_last(&mut self, commits: Option<Commits>, revision: Revision, sequence: u64) {
        if let Some(failing) = self.failing.take() {
            info!(store.since = %failing.since, "the journal takes writes again; nothing was lost");
        }
        self.position.revision = revision;
        let mut answers = None;
        if let Some(commits) = commits {
            if !commits.exposed {
                self.table = commits.after;
            }
            answers = Some((commits.requests, commits.outcomes));
        }
        self.table.set_durable(revision);
        self.note_durability();
        self.out.publish(&self.table);
        self.out.flushed.send_replace(sequence);
        self.out.set_available(true);
        let durable = Durable { target: sequence, flushed: self.out.flushed.subscribe() };
        for (request, outcome) in answers.into_iter().flat_map(|(requests, outcomes)| requests.into_iter().zip(outcomes)) {
            answer(request, outcome, durable.clone());
        }
    }

    /// Keeps what the table shows for a later try, and tells the callers of what it does not show.
    fn rows_failed(&mut self, commits: Option<Commits>, mut early: Rows, rows: Rows, error: LogError) {
        let newer = mem::take(&mut self.pending);
        if commits.as_ref().is_some_and(|commits| commits.exposed) {
            early.extend(rows);
        }
        early.extend(newer);
        self.pending = early;
        if let Some(Commits { requests, exposed, .. }) = commits {
            match (&error, exposed) {
                (_, true) => fail_all(requests, &StoreError::Uncertain(Arc::new(error.clone()))),
                (LogError::Refused(_), false) if requests.len() > 1 => return self.alone.extend(requests),
                (_, false) => {
                    let refusal = refusal(&requests, error.clone());
                    fail_all(requests, &refusal);
                }
            }
        }
        if matches!(error, LogError::Refused(_)) && self.pending.is_empty() {
            return;
        }
        self.note_failure(error);
    }

    fn note_failure(&mut self, error: LogError) {
        let cause: Cause = Arc::new(error);
        let now = self.clock.now();
        let failing = self.failing.get_or_insert_with(|| {
            error!(error = %cause, "the journal does not take writes; serving from memory");
            let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
            Failing { since: now, cause: cause.clone(), backoff, retry: Instant::now() }
        });
        failing.cause = cause;
        failing.retry = Instant::now() + failing.backoff.next(&mut rand::rng());
        self.note_durability();
        self.out.set_available(false);
        self.out.publish(&self.table);
    }

    fn note_durability(&mut self) {
        let since = self.failing.as_ref().filter(|_| !self.pending.is_empty()).map(|failing| failing.since);
        self.table.set_not_durable_since(since);
    }
}

impl Committer {
    /// When commits that hold back something in front of them have waited long enough for the disk.
    fn stalled_at(&self) -> Option<Instant> {
        let commits = self.flight.as_ref()?.commits.as_ref().filter(|commits| !commits.exposed)?;
        (!self.held.is_empty()).then(|| commits.took_off + STALLED_AFTER)
    }

    /// Shows commits that do not last yet, so that what came after them can be shown too.
    fn expose(&mut self) {
        let Some(commits) = self.flight.as_mut().and_then(|flight| flight.commits.as_mut()) else { return };
        commits.exposed = true;
        self.table = commits.after.clone();
        for request in mem::take(&mut self.held) {
            self.apply_now(request);
        }
    }

    fn pruned(&mut self, reply: Option<Reply<Pruned>>, result: Result<(Pruned, Revision), LogError>) {
        let result = result.map(|(pruned, horizon)| {
            if pruned.revocations > 0 {
                let (reply, _nobody_waits) = oneshot::channel();
                self.chores.push_back(Chore::Look(reply));
            }
            if horizon > atoll_sync::Feed::horizon(&self.table) {
                self.table.set_horizon(horizon);
                self.out.publish(&self.table);
            }
            pruned
        });
        if let Some(reply) = reply {
            let _gone = reply.send(result.map_err(Into::into));
        }
    }

    fn end(self) {
        let known = self.known.map(|(requests, _)| requests).unwrap_or_default();
        let closed: Vec<Request> = self.alone.into_iter().chain(known).chain(self.waiting).chain(self.held).collect();
        fail_all(closed, &StoreError::Closed);
        if let Some(failing) = self.failing.filter(|_| !self.pending.is_empty()) {
            error!(error = %failing.cause, store.since = %failing.since, "ending without having written everything");
        }
        if let Some(Some(reply)) = self.closing {
            let _gone = reply.send(());
        }
    }
}
