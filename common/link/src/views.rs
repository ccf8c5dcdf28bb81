//! The views of the table that all sessions of a process share.

use std::sync::Arc;

use atoll_store::{Epochs, Store, TableSnapshot};
use atoll_sync::{Epoch, Index, View};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows the store's table: one owner, many readers.
pub(crate) struct Views {
    index: Index,
    table: watch::Receiver<Arc<TableSnapshot>>,
    epochs: (Epochs, Arc<[Epoch]>),
    last: Arc<TableSnapshot>,
    views: watch::Sender<Arc<View>>,
}

impl Views {
    /// Makes the first view at once.
    pub(crate) fn new(store: &Store) -> (Self, watch::Receiver<Arc<View>>) {
        let mut table = store.subscribe();
        let snapshot = table.borrow_and_update().clone();
        let (mut index, epochs) = (Index::new(), epochs_of(&snapshot));
        let view = index.advance(snapshot.clone(), epochs.clone());
        let (views, reader) = watch::channel(view);
        (Self { index, table, epochs: (snapshot.epochs().clone(), epochs), last: snapshot, views }, reader)
    }

    /// Follows the table until `stop`, or until the store is closed.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                changed = self.table.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            let snapshot = self.table.borrow_and_update().clone();
            self.take(snapshot);
        }
    }

    fn take(&mut self, snapshot: Arc<TableSnapshot>) {
        let same_epochs = self.epochs.0 == *snapshot.epochs();
        if !same_epochs {
            self.epochs = (snapshot.epochs().clone(), epochs_of(&snapshot));
        }
        let continues = snapshot.continues(&self.last);
        self.last = snapshot.clone();
        if !continues {
            self.index.start_over();
        }
        let last = self.views.borrow().clone();
        let head = atoll_sync::Feed::head(&*snapshot);
        let horizon = atoll_sync::Feed::horizon(&*snapshot);
        // What is only in memory is not for peers.
        if continues && same_epochs && head == last.head() && horizon == last.feed().horizon() {
            return;
        }
        let view = self.index.advance(snapshot, self.epochs.1.clone());
        self.views.send_replace(view);
    }
}

fn epochs_of(snapshot: &TableSnapshot) -> Arc<[Epoch]> {
    snapshot.epochs().as_slice().iter().map(|epoch| Epoch { id: epoch.id, first: epoch.first }).collect()
}
