//! What the store has of a peer beside its resources, and how a peer's changes get into the store.

use std::time::Duration;

use atoll_model::{ResourceKey, Revision, ZoneUid};
use atoll_store::{Actor, PeerCursor, RemoteBatch, RemoteItem, Store, StoreError};
use atoll_sync::{Apply, Cursor, Has, Item};
use uuid::Uuid;

/// Pause before a store that is away is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The other end, as this plane's store knows it.
#[derive(Clone)]
pub(crate) struct PeerStore {
    store: Store,
    peer: String,
    actor: Actor,
    /// Global's session with the zone; a zone has one process and needs none.
    session: Option<Uuid>,
}

/// Why changes were not applied, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unapplied {
    /// The store is closed.
    Closed,
    /// The zone has a newer stream, perhaps to another instance.
    Superseded,
}

/// What became of changes.
pub(crate) struct Outcome {
    pub(crate) local: Revision,
    pub(crate) refused: Vec<(Item, String)>,
}

impl PeerStore {
    /// Global, as a zone knows it.
    pub(crate) fn global(store: Store) -> Self {
        Self { store, peer: "global".to_owned(), actor: actor("global".to_owned()), session: None }
    }

    /// A zone, as global knows it.
    pub(crate) fn zone(store: Store, uid: ZoneUid, name: &str) -> Self {
        Self { store, peer: uid.to_string(), actor: actor(format!("zone:{name}")), session: None }
    }

    /// Begins a session: what older ones of the zone still hold, on whichever instance, is not applied any more.
    pub(crate) async fn begin(mut self) -> Result<Self, StoreError> {
        self.session = Some(self.store.begin_session(&self.peer).await?);
        Ok(self)
    }

    /// What the store has of the peer's history.
    pub(crate) async fn has(&self) -> Result<Has, StoreError> {
        let cursor = self.store.peer_cursor(&self.peer).await?.map(|held| Cursor { epoch: held.epoch, revision: held.revision });
        let reached = self.store.blob(&self.reached_name()).await?.as_deref().and_then(read_cursor);
        Ok(Has { cursor, reached })
    }

    /// The peer's epochs that were remembered.
    pub(crate) async fn known_epochs(&self) -> Result<Vec<Uuid>, StoreError> {
        let blob = self.store.blob(&self.epochs_name()).await?.unwrap_or_default();
        Ok(blob.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok()).collect())
    }

    /// Remembers the peer's epochs.
    pub(crate) async fn remember_epochs(&self, epochs: &[Uuid]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = epochs.iter().flat_map(|id| *id.as_bytes()).collect();
        let name = self.epochs_name();
        if self.store.blob(&name).await?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.store.put_blob(&name, &bytes).await
    }

    /// Applies changes, however long the store is away.
    pub(crate) async fn apply(self, apply: Apply) -> Result<Outcome, Unapplied> {
        loop {
            match self.try_apply(&apply).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => return Err(Unapplied::Superseded),
                Err(StoreError::Closed) => return Err(Unapplied::Closed),
                // Repeating it is safe: what is there already changes nothing.
                Err(error) => {
                    tracing::warn!(peer = %self.peer, error = &error as &dyn std::error::Error, "cannot store what the peer sent; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// `None` when a newer session was begun.
    async fn try_apply(&self, apply: &Apply) -> Result<Option<Outcome>, StoreError> {
        if self.session.is_some_and(|session| self.store.registry().borrow().is_superseded(&self.peer, session)) {
            return Ok(None);
        }
        if let Some(reached) = apply.reached {
            self.store.put_blob(&self.reached_name(), &write_cursor(reached)).await?;
        }
        let batch = RemoteBatch {
            peer: self.peer.clone(),
            items: apply.items.iter().map(remote).collect(),
            cursor: apply.cursor.map(|cursor| PeerCursor { epoch: cursor.epoch, revision: cursor.revision }),
            actor: self.actor.clone(),
        };
        let applied = match self.session {
            Some(session) => self.store.apply_remote_in(session, batch).await?,
            None => Some(self.store.apply_remote(batch).await?),
        };
        let Some(applied) = applied else { return Ok(None) };
        let item_of = |key: &ResourceKey| apply.items.iter().find(|item| item.key() == key).cloned();
        let refused = applied.rejected.into_iter().filter_map(|one| Some((item_of(&one.key)?, one.reason))).collect();
        Ok(Some(Outcome { local: applied.revision, refused }))
    }

    fn reached_name(&self) -> String {
        format!("link/reached/{}", self.peer)
    }

    fn epochs_name(&self) -> String {
        format!("link/epochs/{}", self.peer)
    }
}

fn actor(subject: String) -> Actor {
    Actor { subject, address: None, record: false, request: None }
}

fn remote(item: &Item) -> RemoteItem {
    match item.clone() {
        Item::Put { key, labels, spec } => RemoteItem::Put { key, labels, spec },
        Item::Delete { key } => RemoteItem::Delete { key },
    }
}

fn write_cursor(cursor: Cursor) -> Vec<u8> {
    [cursor.epoch.as_bytes().as_slice(), &cursor.revision.0.to_be_bytes()].concat()
}

fn read_cursor(bytes: &[u8]) -> Option<Cursor> {
    let (epoch, revision) = bytes.split_at_checked(16)?;
    Some(Cursor { epoch: Uuid::from_slice(epoch).ok()?, revision: Revision(u64::from_be_bytes(revision.try_into().ok()?)) })
}
