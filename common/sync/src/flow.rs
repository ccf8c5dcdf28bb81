//! Flow control: credit in bytes, and how large a batch may be at the rate that is seen.

use std::time::Duration;

/// A point in time: since any fixed moment, never going back.
pub type Moment = Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const BATCH_START: u64 = 64 * KIB;
const BATCH_MIN: u64 = 16 * KIB;
/// Largest batch. A single resource may be larger; it travels alone.
pub const BATCH_MAX: u64 = MIB;
const WINDOW_START: u64 = MIB;
const WINDOW_MIN: u64 = 256 * KIB;
const WINDOW_MAX: u64 = 16 * MIB;
/// Less says more about latency than about rate.
const SAMPLE_MIN: u64 = 16 * KIB;

/// The sender's half.
#[derive(Clone, Debug)]
pub(crate) struct Outflow {
    sent: u64,
    consumed: u64,
    credit: u64,
    batch: u64,
    busy_since: Moment,
}

impl Outflow {
    pub(crate) fn new(credit: u64) -> Self {
        Self { sent: 0, consumed: 0, credit, batch: BATCH_START, busy_since: Moment::ZERO }
    }

    /// Whether another batch may go. The last one may overdraw the credit, so that one large resource always fits.
    pub(crate) fn may_send(&self) -> bool {
        self.sent < self.credit
    }

    /// How many bytes the next batch should have at most.
    pub(crate) fn batch(&self) -> usize {
        usize::try_from(self.batch).unwrap_or(usize::MAX)
    }

    pub(crate) fn on_sent(&mut self, cost: u64, now: Moment) {
        if self.sent == self.consumed {
            self.busy_since = now;
        }
        self.sent += cost;
    }

    pub(crate) fn on_ack(&mut self, consumed: u64, credit: u64, now: Moment) {
        self.credit = self.credit.max(credit);
        let done = consumed.min(self.sent).saturating_sub(self.consumed);
        if done >= SAMPLE_MIN {
            let a_second = rate(done, now.saturating_sub(self.busy_since));
            self.batch = if a_second > self.batch { a_second.min(2 * self.batch) } else { a_second };
            self.batch = self.batch.clamp(BATCH_MIN, BATCH_MAX);
        }
        if done > 0 {
            self.consumed += done;
            self.busy_since = now;
        }
    }
}

/// The receiver's half.
#[derive(Clone, Debug)]
pub(crate) struct Inflow {
    received: u64,
    consumed: u64,
    window: u64,
    busy_since: Moment,
}

impl Inflow {
    pub(crate) fn new() -> Self {
        Self { received: 0, consumed: 0, window: WINDOW_START, busy_since: Moment::ZERO }
    }

    /// Sum of the costs of all batches that are done.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Sum of the costs that the peer may send.
    pub(crate) fn credit(&self) -> u64 {
        self.consumed + self.window
    }

    pub(crate) fn on_received(&mut self, cost: u64, now: Moment) {
        if self.received == self.consumed {
            self.busy_since = now;
        }
        self.received += cost;
    }

    pub(crate) fn on_consumed(&mut self, cost: u64, now: Moment) {
        self.consumed += cost;
        if cost >= SAMPLE_MIN {
            let two_seconds = 2 * rate(cost, now.saturating_sub(self.busy_since));
            self.window = two_seconds.clamp(self.window / 2, 2 * self.window).clamp(WINDOW_MIN, WINDOW_MAX);
        }
        self.busy_since = now;
    }
}

/// Bytes a second; at least a microsecond is taken to have passed.
fn rate(bytes: u64, passed: Duration) -> u64 {
    let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000_000) / micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_with_the_rate_and_shrink_to_a_second() {
        let mut flow = Outflow::new(u64::MAX);
        let mut now = Moment::ZERO;
        let mut send = |flow: &mut Outflow, takes: Duration| {
            flow.on_sent(flow.batch, now);
            now += takes;
            flow.on_ack(flow.sent, u64::MAX, now);
            flow.batch
        };
        let fast = Duration::from_millis(5);
        assert_eq!(send(&mut flow, fast), 128 * KIB);
        assert_eq!([(); 4].map(|()| send(&mut flow, fast)), [256 * KIB, 512 * KIB, MIB, MIB]);
        assert_eq!(send(&mut flow, Duration::from_secs(10)), MIB / 10);
        assert_eq!(send(&mut flow, Duration::from_secs(1000)), BATCH_MIN);
    }

    #[test]
    fn without_credit_nothing_goes_and_small_messages_say_nothing_of_the_rate() {
        let mut flow = Outflow::new(100);
        assert!(flow.may_send());
        flow.on_sent(1000, Moment::ZERO);
        assert!(!flow.may_send());
        flow.on_ack(1000, 2000, Duration::from_secs(60));
        assert!(flow.may_send());
        assert_eq!(flow.batch, BATCH_START);
    }

    #[test]
    fn the_window_is_two_seconds_of_traffic() {
        let mut flow = Inflow::new();
        let mut now = Moment::ZERO;
        for _ in 0..40 {
            flow.on_received(MIB, now);
            now += Duration::from_millis(500);
            flow.on_consumed(MIB, now);
        }
        assert_eq!(flow.window, 4 * MIB);
        flow.on_received(MIB, now);
        flow.on_consumed(MIB, now + Duration::from_secs(100));
        assert_eq!(flow.window, 2 * MIB);
    }
}
