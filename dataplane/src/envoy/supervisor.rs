//! Keeps one Envoy running: starts it, watches it, replaces it, starts it again.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use atoll_runtime::{backoff::Backoff, diagnostics::Readiness};
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::process::{Launch, Process, StartFault};
use crate::{
    bootstrap::Admin,
    folder::{self, Folder},
    readiness::{self, Heard},
};

/// How often Envoy is asked while it is not ready.
const LOOK_EAGER: Duration = Duration::from_millis(100);
/// How often it is asked while it is.
const LOOK_CALM: Duration = Duration::from_secs(1);
/// Pauses between starts, with full jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// An Envoy that lived so long is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// So many deaths before the first life, and it will not work.
const STILLBORN_MAX: u32 = 3;
/// How long a new Envoy may take until it is ready; after that it is watched as any other.
const HAND_OVER: Duration = Duration::from_secs(30);
/// Lines of Envoy's log that are shown.
const TAIL: usize = 5;

/// How Envoy fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyStatus {
    /// Its process, if there is one.
    pub pid: Option<u32>,
    /// Whether it takes traffic.
    pub readiness: Readiness,
}

impl Default for EnvoyStatus {
    fn default() -> Self {
        Self { pid: None, readiness: Readiness::NotReady("Envoy is not started yet".to_owned()) }
    }
}

/// Why there is no point in going on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorFault {
    /// It cannot be started.
    #[error(transparent)]
    Start(StartFault),
    /// It ends again and again.
    #[error("Envoy ended {STILLBORN_MAX} times before it was ready; its last words (all of them in {0}):\n{1}")]
    Stillborn(String, String),
}

/// What the supervisor works with.
pub struct Supervisor {
    /// Where everything is.
    pub folder: Arc<Folder>,
    /// Envoy's admin interface.
    pub admin: Admin,
    /// Where it must listen.
    pub expected: BTreeSet<SocketAddr>,
    /// What it is to be started with; none: not known yet.
    pub launches: watch::Receiver<Option<Arc<Launch>>>,
    /// How it fares.
    pub status: watch::Sender<EnvoyStatus>,
    /// Counts starts.
    pub starts: Counter,
}

/// Why watching ended.
enum End {
    Stopped,
    Died,
    Replace,
}

impl Supervisor {
    /// Runs until `stop` is cancelled and gives the Envoy back, still running. `current` is an adopted one.
    ///
    /// # Errors
    /// When Envoy cannot be started, or never comes to life.
    pub async fn run(
        mut self,
        mut current: Option<Process>,
        stop: CancellationToken,
    ) -> Result<Option<Process>, SupervisorFault> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        let (mut born, mut stillborn) = (false, 0);
        loop {
            let mut process = match current.take() {
                Some(process) => process,
                None => match self.start(&stop).await? {
                    Some(process) => process,
                    None => return Ok(None),
                },
            };
            let started = Instant::now();
            let (end, lived) = self.watch(&mut process, &stop).await;
            born |= lived;
            match end {
                End::Stopped => return Ok(Some(process)),
                End::Replace => {
                    current = self.hand_over(process, &stop).await?;
                }
                End::Died => {
                    let tail = self.tail();
                    error!(pid = process.pid(), "Envoy ended; it is started again. Its last words:\n{tail}");
                    process.stop(&self.folder).await;
                    self.say(None, Readiness::NotReady("Envoy ended".to_owned()));
                    stillborn = if lived { 0 } else { stillborn + 1 };
                    if !born && stillborn >= STILLBORN_MAX {
                        return Err(SupervisorFault::Stillborn(self.folder.path(folder::ENVOY_LOG).display().to_string(), tail));
                    }
                    if started.elapsed() >= LONG_LIFE {
                        backoff.reset();
                    } else {
                        let pause = backoff.next(&mut rand::rng());
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    }

    /// Starts Envoy as soon as it is known with what; none when stopped before.
    async fn start(&mut self, stop: &CancellationToken) -> Result<Option<Process>, SupervisorFault> {
        let launch = tokio::select! {
            launch = self.launches.wait_for(Option::is_some) => match launch {
                Ok(launch) => launch.clone(),
                Err(_) => None,
            },
            () = stop.cancelled() => None,
        };
        let Some(launch) = launch else { return Ok(None) };
        let process = Process::start(&self.folder, &launch).map_err(SupervisorFault::Start)?;
        self.starts.inc();
        info!(pid = process.pid(), "Envoy is started");
        Ok(Some(process))
    }

    /// Replaces an Envoy by the one that is wanted now; what it was said to be stays said until the new one is ready. None: it
    /// is stopped, because it cannot hand over, or the new one would not live.
    async fn hand_over(&mut self, process: Process, stop: &CancellationToken) -> Result<Option<Process>, SupervisorFault> {
        let Some(launch) = self.launches.borrow().clone() else { return Ok(Some(process)) };
        let Some(mut next) = process.start_next(&self.folder, &launch).map_err(SupervisorFault::Start)? else {
            info!("Envoy is replaced by one with the new bootstrap");
            process.stop(&self.folder).await;
            return Ok(None);
        };
        self.starts.inc();
        info!(pid = next.pid(), before = process.pid(), version = launch.version, "Envoy hands over to a new one");
        let deadline = Instant::now() + HAND_OVER;
        let mut heard = Heard::default();
        while next.is_alive() && Instant::now() < deadline && !stop.is_cancelled() {
            if readiness::look(&self.admin, &self.expected, &mut heard).await == Readiness::Ready {
                break;
            }
            tokio::time::sleep(LOOK_EAGER).await;
        }
        if next.is_alive() {
            tokio::spawn(process.retire(launch));
            return Ok(Some(next));
        }
        error!(
            "the new Envoy ended before it took over; the old one, which cannot be asked any more, is replaced. Its last words:\n{}",
            self.tail()
        );
        next.stop(&self.folder).await;
        process.stop(&self.folder).await;
        Ok(None)
    }

    /// Watches an Envoy until something must be done; also says whether it was ready at some time.
    async fn watch(&mut self, process: &mut Process, stop: &CancellationToken) -> (End, bool) {
        let (pid, mut heard, mut lived) = (process.pid(), Heard::default(), false);
        loop {
            let readiness = readiness::look(&self.admin, &self.expected, &mut heard).await;
            self.folder.bound_logs();
            let pause = if readiness == Readiness::Ready { LOOK_CALM } else { LOOK_EAGER };
            lived |= readiness == Readiness::Ready;
            if process.is_alive() {
                self.say(Some(pid), readiness);
            }
            // Not before it was said how it fares: a runner that comes back to an Envoy that serves must not withdraw it.
            if self.is_outdated(process) {
                return (End::Replace, lived);
            }
            tokio::select! {
                () = stop.cancelled() => return (End::Stopped, lived),
                () = process.gone() => return (End::Died, lived),
                Ok(()) = self.launches.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether another Envoy is wanted.
    fn is_outdated(&mut self, process: &Process) -> bool {
        let launch = self.launches.borrow_and_update().clone();
        launch.is_some_and(|launch| !process.runs(&self.folder, &launch))
    }

    fn say(&self, pid: Option<u32>, readiness: Readiness) {
        let status = EnvoyStatus { pid, readiness };
        self.status.send_if_modified(|shown| {
            if *shown == status {
                return false;
            }
            match (&shown.readiness, &status.readiness) {
                (Readiness::NotReady(_), Readiness::Ready) => info!(pid, "Envoy is ready"),
                (Readiness::Ready, Readiness::NotReady(why)) => warn!(pid, "Envoy is not ready any more: {why}"),
                (Readiness::NotReady(_), Readiness::NotReady(_)) | (Readiness::Ready, Readiness::Ready) => {}
            }
            *shown = status;
            true
        });
    }

    /// The last lines of Envoy's log.
    fn tail(&self) -> String {
        let text = std::fs::read(self.folder.path(folder::ENVOY_LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}
