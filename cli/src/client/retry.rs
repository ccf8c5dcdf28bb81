//! When a write is sent again: on 503 and when its connection is lost; a few times, later and later, and never silently.

use std::time::Duration;

use http::HeaderMap;
use reqwest::Url;

/// How often, and how long to wait.
#[derive(Clone)]
pub(super) struct Retries {
    pub(super) tries: u32,
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) tell: fn(&str),
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            tries: 6,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(5),
            tell: |text| eprintln!("{text}"),
        }
    }
}

impl Retries {
    pub(super) fn begin(&self) -> Tries<'_> {
        Tries { retries: self, done: 0 }
    }
}

/// The tries of one request.
pub(super) struct Tries<'a> {
    retries: &'a Retries,
    done: u32,
}

impl Tries<'_> {
    pub(super) fn is_first(&self) -> bool {
        self.done == 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.done + 1 >= self.retries.tries
    }

    /// Waits before the next try: twice as long as before, or as long as the plane asked for; up to half less, so that many
    /// clients do not come back in one moment.
    pub(super) async fn wait(&mut self, url: &Url, why: &str, after: Option<Duration>) {
        let grown = self.retries.first_wait.saturating_mul(1 << self.done.min(16));
        let wait = after.unwrap_or(grown).min(self.retries.longest_wait);
        let wait = wait.mul_f64(1.0 - 0.5 * rand::random::<f64>());
        self.done += 1;
        (self.retries.tell)(&format!(
            "{url}: {why}; trying again in {:.1} s ({} of {})",
            wait.as_secs_f64(),
            self.done,
            self.retries.tries - 1
        ));
        tokio::time::sleep(wait).await;
    }
}

/// `Retry-After` in seconds.
pub(super) fn after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
