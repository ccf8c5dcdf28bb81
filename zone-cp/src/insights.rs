//! What global is told of this zone's dataplanes at work: soft values on the link, the newest of each.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use atoll_api::StatusSource;
use atoll_link::SoftBoard;
use atoll_model::{Kind, Owner};
use atoll_store::Store;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// How often they are looked at; what did not change is not sent.
const TURN: Duration = Duration::from_secs(2);

/// Tells global of the dataplanes of one zone.
pub(crate) struct Insights {
    pub(crate) store: Store,
    pub(crate) owner: Owner,
    pub(crate) status: Arc<dyn StatusSource>,
    pub(crate) board: SoftBoard,
}

impl Insights {
    /// Tells until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut told = BTreeSet::new();
        loop {
            told = self.tell(&told);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// Puts every dataplane's insight on the board and withdraws those that are gone; gives the keys that are there.
    fn tell(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        let table = self.store.snapshot();
        let own = table.list(Kind::Dataplane, None).filter(|resource| resource.key.owner == self.owner);
        let mut now = BTreeSet::new();
        for resource in own {
            let Some(insight) = self.status.insight(&resource.key) else { continue };
            let key = format!("dataplane/{}/{}", resource.key.mesh, resource.key.name);
            self.board.put(&key, Bytes::from(insight.to_string()));
            now.insert(key);
        }
        before.difference(&now).for_each(|gone| self.board.withdraw(gone));
        now
    }
}
