//! Refused requests on their way to the audit: bounded, at a bounded rate, and never in the way of the caller.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use atoll_runtime::{backoff::Backoff, tasks::Tasks};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    AuditRecord, Denied,
    committer::new_chain,
    journal::{SmallTables, links},
};

/// How many wait for the journal at most.
const WAITING: usize = 1024;
/// How many are written in one transaction at most.
const BATCH: usize = 256;
/// How many a second are taken over a long time, and how many at once after a quiet one: a flood of refused requests must not
/// fill the disk.
const PER_SECOND: f64 = 50.0;
const BURST: f64 = 500.0;
/// How long the last ones may take when the store is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct DeniedLog {
    sender: Mutex<Option<mpsc::Sender<AuditRecord>>>,
    bucket: Mutex<Bucket>,
    dropped: Arc<AtomicU64>,
}

impl DeniedLog {
    /// Starts the task that writes.
    pub(crate) fn start(tables: Arc<dyn SmallTables>, tasks: &Tasks) -> Self {
        let (sender, inbox) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        tasks.spawn("store.denied", write_all(tables, inbox, dropped.clone()));
        Self { sender: Mutex::new(Some(sender)), bucket: Mutex::new(Bucket::full(Instant::now())), dropped }
    }

    pub(crate) fn record(&self, denied: Denied) {
        let taken = lock(&self.bucket).take(Instant::now());
        let sent = taken && lock(&self.sender).as_ref().is_some_and(|sender| sender.try_send(denied.into()).is_ok());
        if !sent && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!("more requests are refused than the audit takes; atoll_store_audit_dropped counts them");
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes no more. What waits is still written, if the journal is there.
    pub(crate) fn close(&self) {
        lock(&self.sender).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_all(tables: Arc<dyn SmallTables>, mut inbox: mpsc::Receiver<AuditRecord>, dropped: Arc<AtomicU64>) {
    let mut chain = new_chain();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut rows = Vec::with_capacity(BATCH);
    while !rows.is_empty() || inbox.recv_many(&mut rows, BATCH).await > 0 {
        let (links, next) = links(chain, &rows);
        match timeout(CLOSE_WITHIN, tables.append_audit(&rows, &links)).await {
            Ok(Ok(())) => {
                chain = next;
                rows.clear();
                backoff.reset();
                continue;
            }
            Ok(Err(error)) => debug!(error = %error, "the audit of refused requests will be tried again"),
            Err(_) => debug!("the audit of refused requests took too long; it will be tried again"),
        }
        // Whether these rows are there now is not known: written again, they belong to another chain.
        chain = new_chain();
        if inbox.is_closed() {
            dropped.fetch_add(rows.len() as u64 + inbox.len() as u64, Ordering::Relaxed);
            return warn!("the store ends without the audit of its last refused requests");
        }
        let pause = backoff.next(&mut rand::rng());
        sleep(pause).await;
    }
}

/// Lets through [`BURST`] at once, and [`PER_SECOND`] in the long run.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(at: Instant) -> Self {
        Self { tokens: BURST, at }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * PER_SECOND).min(BURST);
        self.at = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let taken = |bucket: &mut Bucket, at| (0..2000).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 500);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(2)), 100);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600)), 500);
    }
}
