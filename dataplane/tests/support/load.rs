//! Requests that never cease.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use super::echo;

/// About 200 requests a second, each on a connection of its own, until told to end.
pub struct Load {
    end: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    pub fn start(to: SocketAddr) -> Self {
        let (end, failed, done) =
            (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (until, bad, all) = (end.clone(), failed.clone(), done.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            while !until.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (bad, all) = (bad.clone(), all.clone());
                tokio::spawn(async move {
                    let failed = echo(to).await.is_none();
                    bad.fetch_add(failed.into(), Ordering::Relaxed);
                    all.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { end, failed, done, task }
    }

    /// How many there were, and how many failed.
    pub async fn end(self) -> (usize, usize) {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
