//! How many certificates one proxy may cost: no proxy sends requests for certificates, but one that changes its labels again and
//! again would be somebody else each time.

use std::collections::BTreeMap;

use atoll_model::Timestamp;
use chrono::TimeDelta;

use crate::runners::ProxyId;

/// How many at once.
pub(super) const BURST: i32 = 10;
/// One more after this time. The shortest life of a leaf asks for one in thirty seconds.
pub(super) const EVERY: TimeDelta = TimeDelta::seconds(20);

/// For each proxy that was issued something: when all of its allowance is back.
#[derive(Debug, Default)]
pub(super) struct Allowance(BTreeMap<ProxyId, Timestamp>);

impl Allowance {
    /// Takes one certificate of a proxy's allowance.
    ///
    /// # Errors
    /// When there is none left: when the next one is.
    pub(super) fn take(&mut self, proxy: &ProxyId, now: Timestamp) -> Result<(), Timestamp> {
        // A clock that was set back takes no more than the whole allowance.
        let back = self.0.get(proxy).map_or(now, |back| (*back).clamp(now, now + EVERY * BURST));
        let next = back - EVERY * (BURST - 1);
        if next > now {
            return Err(next);
        }
        self.0.insert(proxy.clone(), back + EVERY);
        Ok(())
    }

    /// Gives back what was taken for a certificate that was not made after all.
    pub(super) fn give_back(&mut self, proxy: &ProxyId) {
        if let Some(back) = self.0.get_mut(proxy) {
            *back -= EVERY;
        }
    }

    /// Forgets who has all of it.
    pub(super) fn purge(&mut self, now: Timestamp) {
        self.0.retain(|_, back| *back > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2030-01-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_burst_then_one_at_a_time_and_each_proxy_for_itself() {
        let (mut allowance, web) = (Allowance::default(), ProxyId::new("default", "web-1"));
        for _ in 0..BURST {
            assert_eq!(allowance.take(&web, now()), Ok(()));
        }
        assert_eq!(allowance.take(&web, now()), Err(now() + EVERY));
        assert_eq!(allowance.take(&ProxyId::new("default", "web-2"), now()), Ok(()));
        assert_eq!(allowance.take(&web, now() + EVERY), Ok(()));
        assert!(allowance.take(&web, now() + EVERY).is_err());
        allowance.purge(now() + EVERY * BURST * 2);
        assert!(allowance.0.is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_lock_a_proxy_out() {
        let (mut allowance, web) = (Allowance::default(), ProxyId::new("default", "web-1"));
        (0..BURST).for_each(|_| allowance.take(&web, now()).unwrap());
        let back = now() - TimeDelta::days(1);
        assert_eq!(allowance.take(&web, back), Err(back + EVERY));
    }

    #[test]
    fn the_shortest_lives_are_renewed_without_end() {
        let (mut allowance, web) = (Allowance::default(), ProxyId::new("default", "web-1"));
        for renewal in 0..10_000 {
            assert_eq!(allowance.take(&web, now() + TimeDelta::seconds(30) * renewal), Ok(()));
        }
    }
}
