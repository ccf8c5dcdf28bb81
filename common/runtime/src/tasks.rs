//! Tracked tasks: named, counted, waited for at the end. A panic ends one task and is logged.

use std::{future::Future, time::Duration};

use futures::FutureExt;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, warn};

/// The tasks of one program; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Tracks nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` in a task of its own.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::debug_span!("task", task.name = name);
        self.0.spawn(
            async move {
                if std::panic::AssertUnwindSafe(future).catch_unwind().await.is_err() {
                    error!(task.name = name, "task {name} panicked; the program goes on without it");
                }
            }
            .instrument(span),
        );
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until every task has ended, or `deadline` has passed.
    pub async fn join_all(&self, deadline: Duration) {
        self.0.close();
        if tokio::time::timeout(deadline, self.0.wait()).await.is_err() {
            warn!(tasks.left = self.0.len(), "some tasks did not end in {deadline:?}; leaving them");
        }
    }
}
