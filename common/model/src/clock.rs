//! Time as a value: pure code takes `now`, edges take a [`Clock`].

use std::fmt::Debug;

/// A point in time, UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Gives the time of day. `runtime::SystemClock` is the real one.
pub trait Clock: Debug + Send + Sync {
    /// The current time of day.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is moved; for tests and simulations.
#[derive(Debug)]
pub struct ManualClock(std::sync::Mutex<Timestamp>);

impl ManualClock {
    /// Makes a clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(std::sync::Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: chrono::TimeDelta) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
