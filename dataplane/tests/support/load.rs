//! Requests that never cease.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::echo;

/// About 200 requests a second, each on a connection of its own, until told to end.
pub struct Load {
    end: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Instant>>>,
    task: JoinHandle<()>,
}

impl Load {
    pub fn start(to: SocketAddr) -> Self {
        let (end, last) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Option<Instant>>>::default());
        let (failed, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (until, bad, all, latest) = (end.clone(), failed.clone(), done.clone(), last.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            while !until.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (bad, all, latest) = (bad.clone(), all.clone(), latest.clone());
                tokio::spawn(async move {
                    if echo(to).await.is_none() {
                        bad.fetch_add(1, Ordering::Relaxed);
                        *latest.lock().unwrap() = Some(Instant::now());
                    }
                    all.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { end, failed, done, last, task }
    }

    /// When one failed last.
    pub fn last_failure(&self) -> Option<Instant> {
        *self.last.lock().unwrap()
    }

    /// How many there were, and how many failed.
    pub async fn end(self) -> (usize, usize) {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
