//! The committer over a journal that other processes write too (Postgres).
//!
//! Memory is exact whenever the journal's counter stands where memory does. The journal checks that while it writes, in one
//! statement; if another process was faster, the counter is locked, the missing rows are read and applied, and the group is
//! checked again. So every answer, refusals too, was right at one moment in the order of commits.

use std::{sync::Arc, time::Duration};

use atoll_model::{Clock, Revision};
use atoll_runtime::{backoff::Backoff, tasks::Tasks};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout_at},
};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{
    PRUNE_EVERY, Published, Publisher, Request, gather,
    group::{Outcome, answer, fail_all, refusal, stage},
    new_chain, prune_limits,
};
use crate::{
    Durable, Pruned, StoreError, TableSnapshot,
    audit::Chain,
    error::Cause,
    journal::{DoneBefore, Log, LogError, Position, Wake, links},
    plan::Plan,
};

/// How often the journal is asked whether others wrote, beside its notifications.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long callers wait for the journal to come back before they are told that it is away.
const RECOVER_WITHIN: Duration = Duration::from_millis(1500);
/// After another process was faster, so many commits begin with the lock, which saves the first try.
const CONTENDED: u8 = 16;

/// Opens an epoch, loads the table and starts the task.
pub(crate) async fn start(
    log: Box<dyn Log>,
    wake: Arc<Wake>,
    inbox: mpsc::Receiver<Request>,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Published, StoreError> {
    let table = TableSnapshot::default();
    let out = Publisher::new(&table, crate::Registry::default());
    let mut committer = Committer {
        log,
        wake,
        inbox,
        clock,
        out,
        table,
        position: Position::default(),
        chain: new_chain(),
        contended: 0,
        down: None,
    };
    committer.reopen().await?;
    let readers = committer.out.readers();
    tasks.spawn("store.committer", committer.run());
    Ok(readers)
}

struct Committer {
    log: Box<dyn Log>,
    wake: Arc<Wake>,
    inbox: mpsc::Receiver<Request>,
    clock: Arc<dyn Clock>,
    out: Publisher,
    table: TableSnapshot,
    /// Where the journal stood when the table was like this.
    position: Position,
    /// The end of what this process adds to the audit. After any doubt it begins a new one.
    chain: Chain,
    contended: u8,
    /// Why the journal cannot be used at present.
    down: Option<Cause>,
}

/// What came of trying to commit a group.
enum Attempt {
    Done(Plan, Vec<Outcome>),
    Failed(LogError),
    /// The journal was lost while it committed. `moved`: the revision that it wrote, if it took any. `audited`: the audit's
    /// chain with its rows, if it had any.
    Doubtful {
        moved: Option<Revision>,
        audited: Option<Chain>,
        outcomes: Vec<Outcome>,
        cause: Cause,
    },
}

impl Committer {
    async fn run(mut self) {
        let mut poll = interval(POLL_EVERY);
        let mut prune = interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(cause) = self.down.take()
                && !self.wait_until_up(cause).await
            {
                return;
            }
            tokio::select! {
                request = self.inbox.recv() => match request {
                    None => return,
                    Some(request) => if !self.serve(request).await { return },
                },
                () = self.wake.notified() => self.look_around().await,
                _ = poll.tick() => self.look_around().await,
                _ = prune.tick() => if let Err(error) = self.prune().await {
                    debug!(error = %error, "pruning will be tried again");
                },
            }
        }
    }

    /// Serves a request and what gathered behind it; false when that was the last.
    async fn serve(&mut self, first: Request) -> bool {
        let mut group = vec![first];
        if group[0].is_write() {
            gather(&mut group, &mut self.inbox);
        }
        let control = group.pop_if(|last| !last.is_write());
        if !group.is_empty() {
            self.commit(group).await;
        }
        match control {
            None => true,
            Some(Request::Close { reply }) => {
                let _gone = reply.send(());
                false
            }
            Some(Request::Look { reply }) => {
                let _gone = reply.send(self.look().await.map_err(Into::into));
                true
            }
            Some(Request::Prune { reply }) => {
                let _gone = reply.send(self.prune().await.map_err(Into::into));
                true
            }
            Some(Request::Commit { .. } | Request::Early { .. } | Request::Remote { .. }) => true,
        }
    }

    /// Commits a group, or tells every caller why not.
    async fn commit(&mut self, requests: Vec<Request>) {
        if let Some(cause) = self.down.clone() {
            return fail_all(requests, &StoreError::Unavailable(cause));
        }
        for _ in 0..3 {
            match self.attempt(&requests).await {
                Attempt::Done(plan, outcomes) => return self.conclude(plan, requests, outcomes),
                Attempt::Failed(LogError::Refused(_)) if requests.len() > 1 => {
                    for request in requests {
                        Box::pin(self.commit(vec![request])).await;
                    }
                    return;
                }
                Attempt::Failed(LogError::Lost(cause)) => {
                    if let Err(cause) = self.recover(cause).await {
                        return fail_all(requests, &StoreError::Unavailable(cause));
                    }
                }
                Attempt::Failed(error) => {
                    let error = refusal(&requests, error);
                    return fail_all(requests, &error);
                }
                Attempt::Doubtful { moved, audited, outcomes, cause } => match self.recover(cause).await {
                    Err(cause) => return fail_all(requests, &StoreError::Uncertain(cause)),
                    // The rows are there, and `recover` has read them with whatever came after them.
                    Ok(written) if self.lasts(written, moved, audited).await => return self.answer_all(requests, outcomes),
                    // They are not there and will not come. A peer's cursor that moved alone may be written twice.
                    Ok(_) => {}
                },
            }
        }
        let error = StoreError::unavailable(std::io::Error::other("the journal was lost three times in a row"));
        fail_all(requests, &error);
    }

    /// Whether the rows of a commit in doubt are in the journal. `written`: the last revision of the epoch that is lost.
    async fn lasts(&mut self, written: Option<Revision>, moved: Option<Revision>, audited: Option<Chain>) -> bool {
        match (moved, audited) {
            (Some(_), _) => written == moved,
            (None, Some(chain)) => self.log.audited(chain.id).await.is_ok_and(|rows| rows == chain.sequence),
            (None, None) => false,
        }
    }

    async fn attempt(&mut self, requests: &[Request]) -> Attempt {
        let mut locked = self.contended > 0;
        loop {
            match self.attempt_once(requests, locked).await {
                Ok(Some(attempt)) => return attempt,
                Ok(None) => {
                    debug!(revision = %self.position.revision, "another process was faster; locking the counter");
                    locked = true;
                    self.contended = CONTENDED;
                }
                Err(error) => return Attempt::Failed(error),
            }
        }
    }

    /// Tries once; `None` when memory was not exact and the counter must be locked.
    async fn attempt_once(&mut self, requests: &[Request], locked: bool) -> Result<Option<Attempt>, LogError> {
        if locked && self.log.lock().await? != self.position {
            self.catch_up().await?;
        }
        let keys: Vec<_> = requests.iter().filter_map(Request::once).collect();
        let before = if keys.is_empty() { DoneBefore::default() } else { self.log.done_before(&keys).await? };
        let registry = Arc::clone(&self.out.registry.borrow());
        let (mut plan, outcomes) = stage(&self.table, &registry, before, requests, self.clock.now());
        let rows = plan.take_rows();
        if rows.is_empty() {
            // A refusal must be as exact as a commit.
            if locked {
                self.log.unlock().await?;
            } else if self.log.position().await? != self.position {
                return Ok(None);
            }
            return Ok(Some(Attempt::Done(plan, outcomes)));
        }
        let (links, chain) = links(self.chain, &rows.audit);
        let done = self.log.append(self.position, plan.table.revision(), &rows, &links).await;
        if done.is_err() {
            self.chain = new_chain();
        }
        match done {
            Ok(true) => {
                self.chain = chain;
                self.contended = self.contended.saturating_sub(1);
                Ok(Some(Attempt::Done(plan, outcomes)))
            }
            Ok(false) => Ok(None),
            Err(LogError::Unknown(cause)) => {
                let revision = plan.table.revision();
                let moved = (revision > self.position.revision).then_some(revision);
                let audited = (!rows.audit.is_empty()).then_some(chain);
                Ok(Some(Attempt::Doubtful { moved, audited, outcomes, cause }))
            }
            Err(error) => Err(error),
        }
    }

    /// Publishes what was committed, then answers.
    fn conclude(&mut self, plan: Plan, requests: Vec<Request>, outcomes: Vec<Outcome>) {
        if plan.table.revision() > self.table.revision() {
            self.table = plan.table;
            self.table.set_durable(self.table.revision());
            self.position.revision = self.table.revision();
            self.out.publish(&self.table);
        }
        self.answer_all(requests, outcomes);
    }

    fn answer_all(&self, requests: Vec<Request>, outcomes: Vec<Outcome>) {
        // All that is answered here lasts already.
        let durable = Durable { target: 0, flushed: self.out.flushed.subscribe() };
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            answer(request, outcome, durable.clone());
        }
    }

    /// Looks at the journal, and connects again if it cannot.
    async fn look_around(&mut self) {
        match self.look().await {
            Ok(()) => {}
            Err(LogError::Lost(cause) | LogError::Unknown(cause)) => {
                // When that takes too long the store is down, which is what the next turn finds.
                let _written = self.recover(cause).await;
            }
            Err(error @ (LogError::Busy(_) | LogError::Refused(_) | LogError::Corrupt(_))) => {
                warn!(error = %error, "the journal could not be read; trying again");
            }
        }
    }

    async fn look(&mut self) -> Result<(), LogError> {
        if self.log.position().await? != self.position {
            self.catch_up().await?;
        }
        Ok(())
    }

    async fn prune(&mut self) -> Result<Pruned, LogError> {
        let (pruned, _) = self.log.prune(prune_limits(self.clock.now())).await?;
        if pruned.tombstones > 0 || pruned.revocations > 0 {
            self.look().await?;
        }
        Ok(pruned)
    }

    /// Reads what others wrote, and publishes it.
    async fn catch_up(&mut self) -> Result<(), LogError> {
        let mut delta = self.log.read(self.table.revision()).await?;
        if delta.position.revision < self.table.revision() {
            error!(
                store.had = %self.table.revision(), store.has = %delta.position.revision,
                "the journal's history went back; taking over what it has now"
            );
            self.table = self.table.other_history();
            self.position = Position::default();
            delta = self.log.read(Revision(0)).await?;
        } else if self.table.revision() > Revision(0) && self.table.revision() < delta.horizon {
            warn!(store.had = %self.table.revision(), store.horizon = %delta.horizon, "too far behind; reading everything again");
            delta = self.log.read(Revision(0)).await?;
            self.table = self.table.caught_up(std::mem::take(&mut delta.changes), delta.horizon, self.clock.now());
        }
        if delta.position.fence != self.position.fence {
            let around = self.log.surroundings().await?;
            self.table.set_epochs(around.epochs);
            self.out.publish_registry(around.registry);
        }
        for change in delta.changes {
            self.table.apply(change);
        }
        self.table.advance(delta.position.revision);
        self.table.set_horizon(delta.horizon);
        self.table.set_durable(self.table.revision());
        self.position = delta.position;
        self.out.publish(&self.table);
        Ok(())
    }

    /// Connects again and says what the epoch before had written. When that takes too long, the store is down.
    async fn recover(&mut self, cause: Cause) -> Result<Option<Revision>, Cause> {
        warn!(error = %cause, "the connection to the journal was lost; connecting again");
        let until = Instant::now() + RECOVER_WITHIN;
        let mut written = None;
        let tries = async {
            loop {
                match self.reopen_noting(&mut written).await {
                    Ok(()) => return,
                    Err(error) => debug!(error = %error, "the journal is not there yet"),
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout_at(until, tries).await.is_ok() {
            return Ok(written.flatten());
        }
        self.down = Some(cause.clone());
        self.out.set_available(false);
        // Even if connecting takes long, what the lost commit came to may be known already.
        match written {
            Some(written) => Ok(written),
            None => Err(cause),
        }
    }

    /// Opens an epoch and reads what is missing.
    async fn reopen(&mut self) -> Result<(), LogError> {
        self.reopen_noting(&mut None).await
    }

    /// As [`Committer::reopen`]; `written` gets what the epoch before had written, from the first try that came so far.
    async fn reopen_noting(&mut self, written: &mut Option<Option<Revision>>) -> Result<(), LogError> {
        let opened = self.log.open_epoch(Uuid::new_v4(), self.clock.now()).await?;
        written.get_or_insert(opened.written);
        self.catch_up().await?;
        self.contended = 0;
        Ok(())
    }

    /// Answers at once that the journal is away, until it is back; false when the store was closed meanwhile.
    async fn wait_until_up(&mut self, cause: Cause) -> bool {
        error!(error = %cause, "the journal cannot be used; writes are refused, reads go on");
        self.out.set_available(false);
        if !self.refuse_until_connected(&cause).await {
            return false;
        }
        if let Err(error) = self.catch_up().await {
            self.down = Some(Arc::new(error));
            return true;
        }
        self.out.set_available(true);
        info!(revision = %self.table.revision(), "the journal is back");
        true
    }

    async fn refuse_until_connected(&mut self, cause: &Cause) -> bool {
        let (log, clock) = (&mut self.log, &self.clock);
        let connecting = async {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
            while let Err(error) = log.open_epoch(Uuid::new_v4(), clock.now()).await {
                debug!(error = %error, "the journal is still away");
                let pause = backoff.next(&mut rand::rng());
                sleep(pause).await;
            }
        };
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                () = &mut connecting => return true,
                request = self.inbox.recv() => match request {
                    None => return false,
                    Some(Request::Close { reply }) => {
                        let _gone = reply.send(());
                        return false;
                    }
                    Some(request) => request.fail(StoreError::Unavailable(cause.clone())),
                },
            }
        }
    }
}
