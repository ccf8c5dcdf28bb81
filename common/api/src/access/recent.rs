//! How often requests were turned away; for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that were turned away since the start.
#[derive(Debug, Default)]
pub struct DeniedCounts {
    pub(super) unauthenticated: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) hidden: AtomicU64,
    pub(super) throttled: AtomicU64,
}

impl DeniedCounts {
    /// The counts, each with its name.
    pub fn shown(&self) -> [(&'static str, u64); 4] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("unauthenticated", read(&self.unauthenticated)),
            ("denied", read(&self.denied)),
            ("hidden", read(&self.hidden)),
            ("throttled", read(&self.throttled)),
        ]
    }
}
