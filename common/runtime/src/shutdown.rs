//! Ending in two steps: soft (finish what runs, take nothing new), then hard (drop everything).

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two tokens of one program; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// Makes tokens that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the program should finish.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when the program must end now.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Begins the end; after `grace` it becomes hard.
    pub async fn begin(&self, grace: Duration) {
        self.soft.cancel();
        tokio::time::sleep(grace).await;
        self.hard.cancel();
    }

    /// Waits for SIGTERM or SIGINT and cancels the soft token; a second signal cancels the hard one.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub async fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        self.soft.cancel();
        let hard = self.hard.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            hard.cancel();
        });
        Ok(())
    }
}
