//! Whether the zone can do its job: the one answer behind `/ready`, on every port.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use atoll_link::LinkStatus;
use atoll_model::Revision;
use atoll_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::ZoneView;

/// What keeps the zone from doing its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Condition {
    /// The program has begun.
    #[error("starting: the store is being opened")]
    Starting,
    /// The token was not exchanged for a certificate yet.
    #[error("joining: waiting for global to take the join token")]
    Joining,
    /// Nothing new lasts.
    #[error("store: it cannot be written; proxies are served from memory")]
    Store,
    /// There is no snapshot of what the store holds.
    #[error("view: the first view of the meshes is being made")]
    View,
    /// The zone never had a copy.
    #[error("copy: waiting for the first copy from global")]
    Copy,
    /// The program ends.
    #[error("stopping: the program ends")]
    Stopping,
}

/// How far the program is. Clones share it.
#[derive(Clone)]
pub struct Health {
    step: watch::Sender<Step>,
    stop: CancellationToken,
}

#[derive(Clone)]
enum Step {
    Starting,
    Joining,
    Running(Arc<Stages>),
}

/// What runs, to be asked.
pub struct Stages {
    /// The zone's store.
    pub store: Store,
    /// The snapshots that are published.
    pub view: watch::Receiver<Arc<ZoneView>>,
    /// The link; absent in a stand-alone zone.
    pub link: Option<watch::Receiver<Arc<LinkStatus>>>,
    /// A copy from global is here, however old.
    pub copied: AtomicBool,
}

impl Health {
    /// Of a program that begins, and ends when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { step: watch::Sender::new(Step::Starting), stop }
    }

    /// Says that the zone has asked to join.
    pub fn joining(&self) {
        self.step.send_replace(Step::Joining);
    }

    /// Says that everything runs.
    pub fn running(&self, stages: Stages) {
        self.step.send_replace(Step::Running(Arc::new(stages)));
    }

    /// What keeps the zone from doing its job now; nothing, when it is ready.
    pub fn condition(&self) -> Option<Condition> {
        if self.stop.is_cancelled() {
            return Some(Condition::Stopping);
        }
        let step = self.step.borrow().clone();
        match step {
            Step::Starting => Some(Condition::Starting),
            Step::Joining => Some(Condition::Joining),
            Step::Running(stages) => judge(&stages.facts()),
        }
    }

    /// As the ports ask.
    pub fn ready(&self) -> Result<(), String> {
        self.condition().map_or(Ok(()), |condition| Err(condition.to_string()))
    }
}

impl Stages {
    fn facts(&self) -> Facts {
        let received = self.link.as_ref().is_none_or(|link| link.borrow().received_applied > Revision(0));
        if received {
            self.copied.store(true, Ordering::Relaxed);
        }
        Facts {
            writable: self.store.is_available(),
            stored: self.store.snapshot().revision(),
            viewed: self.view.borrow().revision,
            copied: self.copied.load(Ordering::Relaxed),
        }
    }
}

/// What is known of a running zone.
struct Facts {
    writable: bool,
    stored: Revision,
    viewed: Revision,
    copied: bool,
}

/// A zone that is cut off is ready: it has its copy, and serves it.
fn judge(facts: &Facts) -> Option<Condition> {
    match facts {
        Facts { writable: false, .. } => Some(Condition::Store),
        Facts { copied: false, .. } => Some(Condition::Copy),
        Facts { stored, viewed, .. } if *viewed == Revision(0) && *stored > Revision(0) => Some(Condition::View),
        Facts { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(writable: bool, stored: u64, viewed: u64, copied: bool, expected: Option<Condition>) {
        let facts = Facts { writable, stored: Revision(stored), viewed: Revision(viewed), copied };
        assert_eq!(judge(&facts), expected);
    }

    #[test]
    fn a_running_zone_is_ready_when_it_has_something_to_serve_and_can_write() {
        check(true, 5, 5, true, None);
        check(true, 5, 4, true, None);
        check(true, 0, 0, true, None);
        check(true, 5, 0, true, Some(Condition::View));
        check(true, 5, 5, false, Some(Condition::Copy));
        check(false, 5, 5, true, Some(Condition::Store));
        check(false, 5, 5, false, Some(Condition::Store));
    }

    #[test]
    fn each_step_has_its_words() {
        let stop = CancellationToken::new();
        let health = Health::new(stop.clone());
        assert_eq!(health.ready(), Err("starting: the store is being opened".to_owned()));
        health.joining();
        assert_eq!(health.ready(), Err("joining: waiting for global to take the join token".to_owned()));
        stop.cancel();
        assert_eq!(health.condition(), Some(Condition::Stopping));
    }
}
