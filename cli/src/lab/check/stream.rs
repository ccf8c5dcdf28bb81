//! An answer that goes on, on one connection through every hop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use crate::lab::probe::Outside;

/// Between two lines.
const EVERY: Duration = Duration::from_millis(50);

/// A running answer.
#[derive(Debug)]
pub struct Stream {
    lines: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Stream {
    /// Opens one that would go on for `length`, and waits until it runs.
    pub async fn open(client: &Outside, length: Duration) -> Result<Self> {
        let count = length.as_millis() / EVERY.as_millis();
        let mut response = client.open(&format!("/stream?every={}&count={count}", EVERY.as_millis())).await?;
        ensure!(response.status().as_u16() == 200, "{}", response.status());
        let first = response.chunk().await?;
        first.context("the stream is empty")?;
        let lines = Arc::new(AtomicU64::new(1));
        let counted = lines.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(_)) = response.chunk().await {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { lines, reader })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        !self.reader.is_finished()
    }

    /// Lines that came so far.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Waits until it has ended; `None` when it runs on.
    pub async fn end_within(mut self, limit: Duration) -> Option<u64> {
        let ended = tokio::time::timeout(limit, &mut self.reader).await;
        self.reader.abort();
        ended.ok().map(|_| self.lines.load(Ordering::Relaxed))
    }
}
