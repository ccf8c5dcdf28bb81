//! Soft values: replaced often, lost without harm, never a revision.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use atoll_model::ZoneUid;
use bytes::Bytes;
use tokio::sync::watch;

/// Takes soft values that the other plane sends.
pub trait SoftSink: Send + Sync + 'static {
    /// The newest value of a key, or that it is withdrawn. `zone` is whose link it came over.
    fn put(&self, zone: ZoneUid, key: &str, value: Option<Bytes>);
}

/// Soft values that this plane sends: the newest of each key, again after each reconnect. Clones share it.
#[derive(Clone, Debug)]
pub struct SoftBoard {
    values: Arc<Mutex<Values>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Values {
    turn: u64,
    /// With the turn of the last change; a withdrawn value stays as `None`.
    entries: BTreeMap<String, (u64, Option<Bytes>)>,
}

impl Default for SoftBoard {
    fn default() -> Self {
        Self { values: Arc::default(), changed: Arc::new(watch::channel(0).0) }
    }
}

impl SoftBoard {
    /// Sets a value.
    pub fn put(&self, key: &str, value: Bytes) {
        self.set(key, Some(value));
    }

    /// Withdraws a value.
    pub fn withdraw(&self, key: &str) {
        self.set(key, None);
    }

    fn set(&self, key: &str, value: Option<Bytes>) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if values.entries.get(key).is_some_and(|(_, held)| *held == value) {
            return;
        }
        values.turn += 1;
        let turn = values.turn;
        values.entries.insert(key.to_owned(), (turn, value));
        drop(values);
        self.changed.send_replace(turn);
    }

    /// What changed after `turn`, and the turn to ask from next time.
    pub(crate) fn since(&self, turn: u64) -> (Vec<(String, Option<Bytes>)>, u64) {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = values.entries.iter().filter(|(_, (changed, _))| *changed > turn);
        (newer.map(|(key, (_, value))| (key.clone(), value.clone())).collect(), values.turn)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_newest_of_what_changed() {
        let board = SoftBoard::default();
        board.put("a", "1".into());
        board.put("a", "2".into());
        let (first, turn) = board.since(0);
        assert_eq!(first, [("a".to_owned(), Some("2".into()))]);
        board.put("a", "2".into());
        assert_eq!(board.since(turn).0, []);
        board.withdraw("a");
        assert_eq!(board.since(turn).0, [("a".to_owned(), None)]);
    }
}
