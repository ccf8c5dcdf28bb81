//! Slows down who tries credentials that do not hold. A credential that holds is never slowed down.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use atoll_model::Timestamp;
use chrono::TimeDelta;

/// Failures that a source may have at once.
const BURST: u32 = 5;
/// After so long without a failure one is forgotten.
const FORGET: TimeDelta = TimeDelta::seconds(12);
/// The longest pause that is asked for; it doubles from 1 s with every failure above the burst.
const LONGEST: u32 = 60;
/// Sources that are remembered. When there are more, those that have been quiet for longest are forgotten.
const SOURCES: usize = 4096;

/// Failed authentications by source.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<BTreeMap<IpAddr, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Throttle {
    /// Notes a failure. Gives the seconds to wait, if there were too many.
    pub(super) fn failed(&self, source: IpAddr, now: Timestamp) -> Option<u32> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network(source);
        if sources.len() >= SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, failures| failures.left(now) > 0);
            if sources.len() >= SOURCES
                && let Some(quiet) = sources.iter().min_by_key(|(_, failures)| failures.last).map(|(source, _)| *source)
            {
                sources.remove(&quiet);
            }
        }
        let failures = sources.entry(source).or_insert(Failures { count: 0, last: now });
        *failures = Failures { count: failures.left(now).saturating_add(1).min(BURST + 7), last: now };
        let above = failures.count.checked_sub(BURST + 1)?;
        Some((1 << above).min(LONGEST))
    }
}

impl Failures {
    /// The failures that are not forgotten yet.
    fn left(self, now: Timestamp) -> u32 {
        let forgotten = (now - self.last).num_seconds().max(0) / FORGET.num_seconds();
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// IPv6 hosts choose among 2^64 addresses: they count as one.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let throttle = Throttle::default();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |seconds| now + TimeDelta::seconds(seconds);
        let [own, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1"].map(|text| text.parse::<IpAddr>().unwrap());
        for _ in 0..5 {
            assert_eq!(throttle.failed(own, now), None);
        }
        assert_eq!(throttle.failed(same, now), Some(1), "neighbours count as one");
        assert_eq!(throttle.failed(own, now), Some(2));
        assert_eq!(throttle.failed(other, now), None);
        for _ in 0..20 {
            assert!(throttle.failed(own, now).is_some_and(|pause| pause <= LONGEST));
        }
        assert_eq!(throttle.failed(own, at(300)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for i in 0..(SOURCES as u32 + 100) {
            throttle.failed(std::net::Ipv4Addr::from(i).into(), now);
        }
        assert!(throttle.0.lock().unwrap().len() <= SOURCES);
    }
}
