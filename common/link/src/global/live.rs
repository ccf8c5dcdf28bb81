//! Which zones have a stream here. A zone has one: a newer one ends the older before it begins.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use atoll_model::ZoneUid;
use atoll_sync::proto::drain::Code;
use tokio::sync::{mpsc, watch};

use crate::drive::Command;

/// How long a newer stream waits for the older one's end.
const PATIENCE: Duration = Duration::from_secs(12);
/// Orders that wait for a session.
const ORDERS: usize = 16;

#[derive(Default)]
pub(super) struct Live {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    streams: BTreeMap<ZoneUid, Entry>,
}

#[derive(Clone)]
struct Entry {
    id: u64,
    orders: mpsc::Sender<Command>,
    /// Closed when the session is over.
    over: watch::Receiver<()>,
}

/// A place in the list; dropping it frees it.
pub(super) struct Place<'a> {
    live: &'a Live,
    zone: ZoneUid,
    id: u64,
    _over: watch::Sender<()>,
}

impl Live {
    /// Takes the zone's place, and ends who had it before. Gives also whether there was somebody.
    pub(super) async fn enter(&self, zone: ZoneUid) -> (Place<'_>, mpsc::Receiver<Command>, bool) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (over_sender, over) = watch::channel(());
        let (id, older) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.last += 1;
            let id = state.last;
            (id, state.streams.insert(zone, Entry { id, orders, over }))
        };
        let place = Place { live: self, zone, id, _over: over_sender };
        let replaced = older.is_some();
        if let Some(mut older) = older {
            let reason = "the same zone opened a newer stream".to_owned();
            let _ = older.orders.try_send(Command::End { code: Code::Replaced, reason });
            // Its last changes are in the store before this one reads how far they led.
            let _ = tokio::time::timeout(PATIENCE, async { while older.over.changed().await.is_ok() {} }).await;
        }
        (place, inbox, replaced)
    }

    /// Gives an order to a zone's session; false when there is none.
    pub(super) async fn order(&self, zone: ZoneUid, command: Command) -> bool {
        let orders = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.streams.get(&zone).map(|entry| entry.orders.clone())
        };
        match orders {
            Some(orders) => orders.send(command).await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.live.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.streams.get(&self.zone).is_some_and(|entry| entry.id == self.id) {
            state.streams.remove(&self.zone);
        }
    }
}
