//! Proxies that want a certificate and got none, and when each is tried again.
//!
//! A change that lets one be issued is acted on at once; trying again is for what no change tells: a full disk that was cleared, a
//! clock that was set right.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atoll_model::Timestamp;
use tokio::{sync::watch, time::Instant};

use crate::runners::ProxyId;

/// The first pause; doubled after each try.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why a proxy has no new certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What was refused, in words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when its old one holds; absent when it has none: it keeps the configuration that it has.
    pub holds_until: Option<Timestamp>,
}

/// All that wait, for status and metrics.
pub type AllWaiting = Arc<BTreeMap<ProxyId, Waiting>>;

struct Entry {
    waiting: Waiting,
    pause: Duration,
    at: Instant,
}

/// The list, with its one owner.
pub(super) struct WaitingList {
    entries: BTreeMap<ProxyId, Entry>,
    publish: watch::Sender<AllWaiting>,
    changed: bool,
}

impl WaitingList {
    pub(super) fn new() -> (Self, watch::Receiver<AllWaiting>) {
        let (publish, shown) = watch::channel(Arc::default());
        (Self { entries: BTreeMap::new(), publish, changed: false }, shown)
    }

    /// Notes that a proxy got nothing. The time of its next try stays, if it has one: changes do not put it off.
    pub(super) fn failed(&mut self, id: &ProxyId, reason: String, holds_until: Option<Timestamp>, now: Timestamp) {
        let since = self.entries.get(id).map_or(now, |entry| entry.waiting.since);
        let waiting = Waiting { reason, since, holds_until };
        let held = self.entries.get_mut(id);
        if held.as_ref().is_some_and(|entry| entry.waiting == waiting) {
            return;
        }
        self.changed = true;
        if held.is_none() {
            tracing::warn!(mesh = %id.mesh, dataplane = %id.name, reason = waiting.reason, "no new certificate for {id}; it keeps what it has");
        }
        match held {
            Some(entry) => entry.waiting = waiting,
            None => drop(self.entries.insert(id.clone(), Entry { waiting, pause: PAUSE, at: Instant::now() + PAUSE })),
        }
    }

    /// Notes that a proxy wants nothing any more.
    pub(super) fn done(&mut self, id: &ProxyId) {
        self.changed |= self.entries.remove(id).is_some();
    }

    /// Forgets who is gone.
    pub(super) fn retain(&mut self, is_here: impl Fn(&ProxyId) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|id, _| is_here(id));
        self.changed |= self.entries.len() != before;
    }

    /// Those whose time has come; each one's next time is later.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ProxyId> {
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.at <= now);
        due.map(|(id, entry)| {
            entry.pause = (entry.pause * 2).min(PAUSE_MAX);
            entry.at = now + entry.pause;
            id.clone()
        })
        .collect()
    }

    /// When the first is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.at).min()
    }

    /// Shows the list, if it changed.
    pub(super) fn show(&mut self) {
        if std::mem::take(&mut self.changed) {
            let all = self.entries.iter().map(|(id, entry)| (id.clone(), entry.waiting.clone())).collect();
            self.publish.send_replace(Arc::new(all));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn tries_come_at_growing_distances_and_changes_do_not_put_them_off() {
        let (mut list, _) = WaitingList::new();
        let (id, begin) = (ProxyId::new("default", "web-1"), Instant::now());
        let mut tried = Vec::new();
        list.failed(&id, "full".into(), None, at("2030-01-01T12:00:00Z"));
        while tried.len() < 8 {
            let next = list.wake().unwrap();
            tried.extend(list.due(next).iter().map(|_| (next - begin).as_secs()));
            list.failed(&id, format!("still full after {tried:?}"), None, at("2030-01-01T12:00:01Z"));
        }
        assert_eq!(tried, [1, 3, 7, 15, 31, 63, 123, 183]);
        list.done(&id);
        assert_eq!(list.wake(), None);
    }

    #[test]
    fn what_is_shown_says_since_when() {
        let (mut list, shown) = WaitingList::new();
        let (one, other) = (ProxyId::new("default", "web-1"), ProxyId::new("default", "web-2"));
        list.failed(&one, "first".into(), None, at("2030-01-01T12:00:00Z"));
        list.failed(&one, "second".into(), None, at("2030-01-01T12:00:09Z"));
        list.failed(&other, "third".into(), None, at("2030-01-01T12:00:09Z"));
        list.retain(|id| *id == one);
        list.show();
        let waiting = Waiting { reason: "second".into(), since: at("2030-01-01T12:00:00Z"), holds_until: None };
        assert_eq!(**shown.borrow(), BTreeMap::from([(one, waiting)]));
    }
}
