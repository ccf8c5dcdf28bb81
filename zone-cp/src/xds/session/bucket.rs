//! How many requests a proxy may send.

use std::time::{Duration, Instant};

/// A bucket that fills at a rate, and holds two seconds' worth.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let rate = f64::from(per_second.max(1));
        Self { rate, level: rate * 2.0, at: now }
    }

    /// Takes one; how long it takes until the bucket is not overdrawn any more.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.level = (self.level + gained).min(self.rate * 2.0) - 1.0;
        self.at = now;
        if self.level >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.level / self.rate) }
    }
}
