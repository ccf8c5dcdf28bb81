//! The port between the committer and what makes the table last, and between the store and its small tables.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use atoll_model::{Change, Name, Resource, ResourceKey, Revision, Timestamp, Tombstone, ZoneUid};
use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    AuditEntry, AuditFilter, AuditRecord, Bind, Epochs, HistoryEntry, HistoryFilter, JoinToken, Link, OutcomeKind, PeerCursor,
    Pruned, Redeem, Registry, SoftRow, StoreError, TokenRevocation, Verified, ZoneCertificate, error::Cause, seal::SealedSpec,
};

mod audit;
mod sealed;

pub(crate) use audit::links;
pub(crate) use sealed::SealedHistory;
pub(crate) mod postgres;
mod refusal;
pub(crate) mod sqlite;

/// What one transaction adds to the journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// The last state of each key that was touched.
    pub(crate) changes: BTreeMap<ResourceKey, RowChange>,
    pub(crate) history: Vec<HistoryEntry>,
    pub(crate) cursors: BTreeMap<String, PeerCursor>,
    pub(crate) once: Vec<DoneOnce>,
    pub(crate) audit: Vec<AuditRecord>,
}

/// A batch that is not done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoneOnce {
    pub(crate) subject: String,
    pub(crate) key: String,
    pub(crate) request: [u8; 32],
    pub(crate) revision: Revision,
    pub(crate) outcomes: Vec<OutcomeKind>,
    pub(crate) at: Timestamp,
}

impl DoneOnce {
    /// The outcomes as the journal keeps them.
    fn codes(&self) -> Vec<u8> {
        self.outcomes.iter().map(|outcome| outcome.code()).collect()
    }
}

/// A row of [`DoneOnce`], as the journal keeps it.
#[derive(sqlx::FromRow)]
struct DoneOnceRow {
    subject: String,
    key: String,
    request: Vec<u8>,
    revision: i64,
    outcomes: Vec<u8>,
    at: Timestamp,
}

impl From<DoneOnceRow> for DoneOnce {
    fn from(row: DoneOnceRow) -> Self {
        Self {
            subject: row.subject,
            key: row.key,
            // A row that was damaged is no request that anybody makes: it is answered as a key that was used.
            request: row.request.try_into().unwrap_or_default(),
            revision: Revision(row.revision.cast_unsigned()),
            outcomes: row.outcomes.into_iter().filter_map(OutcomeKind::from_code).collect(),
            at: row.at,
        }
    }
}

/// What was done before under some keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct DoneBefore(BTreeMap<(String, String), DoneOnce>);

impl DoneBefore {
    pub(crate) fn add(&mut self, done: DoneOnce) {
        self.0.insert((done.subject.clone(), done.key.clone()), done);
    }

    pub(crate) fn get(&self, subject: &str, key: &str) -> Option<&DoneOnce> {
        self.0.get(&(subject.to_owned(), key.to_owned()))
    }
}

/// The state of one key after a transaction.
#[derive(Clone, Debug)]
pub(crate) enum RowChange {
    /// `fresh`: there may be a tombstone of the key that must go. `sealed`: what is written in the place of an open spec.
    Put { resource: Arc<Resource>, fresh: bool, sealed: Option<Arc<SealedSpec>> },
    /// `recorded`: by a person or a token; kept longer.
    Delete { tombstone: Arc<Tombstone>, recorded: bool },
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.history.is_empty()
            && self.cursors.is_empty()
            && self.once.is_empty()
            && self.audit.is_empty()
    }

    /// Adds a later change.
    pub(crate) fn push(&mut self, key: ResourceKey, mut change: RowChange) {
        if let RowChange::Put { fresh, .. } = &mut change {
            *fresh |= match self.changes.get(&key) {
                None => false,
                Some(RowChange::Put { fresh, .. }) => *fresh,
                Some(RowChange::Delete { .. }) => true,
            };
        }
        self.changes.insert(key, change);
    }

    /// Adds what a later transaction would have added.
    pub(crate) fn extend(&mut self, later: Rows) {
        for (key, change) in later.changes {
            self.push(key, change);
        }
        self.history.extend(later.history);
        self.cursors.extend(later.cursors);
        self.once.extend(later.once);
        self.audit.extend(later.audit);
    }
}

/// Where a journal stands. Equal positions mean equal rows and equal small tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) revision: Revision,
    /// Counts what changes without taking a revision: epochs, the registry of zones, prunings.
    pub(crate) fence: u64,
}

/// An epoch was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) position: Position,
    /// The last revision that was written in the epoch that the caller had before: says what became of a commit whose
    /// answer was lost.
    pub(crate) written: Option<Revision>,
}

/// What changed since a revision, all seen at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) position: Position,
    pub(crate) horizon: Revision,
    pub(crate) changes: Vec<Change>,
}

/// The small tables that every process holds in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) epochs: Epochs,
    pub(crate) registry: Registry,
}

/// What may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PruneLimits {
    /// Tombstones of people and tokens from before this go.
    pub(crate) recorded_before: Timestamp,
    /// Tombstones of planes from before this go.
    pub(crate) generated_before: Timestamp,
    /// History from before this goes.
    pub(crate) history_before: Timestamp,
    /// At most so many rows of each.
    pub(crate) step: i64,
    /// Batches that are not done again go when they were done before this, in larger steps.
    pub(crate) once_before: Timestamp,
    pub(crate) once_step: i64,
    /// Revocations of tokens that ended before this go.
    pub(crate) revoked_until: Timestamp,
}

/// What became of talking to the journal.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The journal is there and does not take these rows, now or later.
    #[error("the journal refuses the rows")]
    Refused(#[source] Cause),
    /// The journal is there and is too busy, or its disk is full. Nothing happened.
    #[error("the journal does not take writes")]
    Busy(#[source] Cause),
    /// The journal is gone; nothing happened.
    #[error("the journal cannot be reached")]
    Lost(#[source] Cause),
    /// The journal is gone and may have committed before.
    #[error("the journal was lost while committing")]
    Unknown(#[source] Cause),
    /// The journal holds what cannot be read.
    #[error("the journal is damaged: {0}")]
    Corrupt(String),
}

impl From<LogError> for StoreError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Refused(cause) | LogError::Busy(cause) | LogError::Lost(cause) => StoreError::Unavailable(cause),
            LogError::Unknown(cause) => StoreError::Uncertain(cause),
            LogError::Corrupt(text) => StoreError::Corrupt(text),
        }
    }
}

/// Tells the committer that another process wrote.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    again: Notify,
    /// Marks this process's own notifications.
    own: AtomicU64,
}

impl Wake {
    /// Waits until there is a reason to look at the journal.
    pub(crate) async fn notified(&self) {
        self.again.notified().await;
    }

    /// Gives a reason to look.
    fn look(&self) {
        self.again.notify_one();
    }

    /// A notification came: what this process wrote itself is no reason to look.
    fn heard(&self, payload: &str) {
        if payload != self.own.load(Ordering::Relaxed).to_string() {
            self.look();
        }
    }

    /// The mark of the notifications of an epoch, which is this process's from now on.
    fn mark(&self, epoch: Uuid) -> String {
        let (mark, _) = epoch.as_u64_pair();
        self.own.store(mark, Ordering::Relaxed);
        mark.to_string()
    }
}

/// The committer's side of a journal: one connection, one owner.
#[async_trait]
pub(crate) trait Log: Send {
    /// Connects if need be and appends an epoch with this id, which also shuts out late statements of the epoch before.
    async fn open_epoch(&mut self, id: Uuid, now: Timestamp) -> Result<Opened, LogError>;

    /// Where the journal stands.
    async fn position(&mut self) -> Result<Position, LogError>;

    /// Begins a transaction that nobody else can write beside; the next [`Log::append`] ends it.
    async fn lock(&mut self) -> Result<Position, LogError>;

    /// Ends the transaction of [`Log::lock`] without writing.
    async fn unlock(&mut self) -> Result<(), LogError>;

    /// What changed after a revision.
    async fn read(&mut self, after: Revision) -> Result<Delta, LogError>;

    /// The small tables.
    async fn surroundings(&mut self) -> Result<Surroundings, LogError>;

    /// What was done under these subjects and keys. Exact as long as the journal stands where it did before.
    async fn done_before(&mut self, keys: &[(&str, &str)]) -> Result<DoneBefore, LogError>;

    /// How many rows a chain of the audit has.
    async fn audited(&mut self, chain: Uuid) -> Result<u64, LogError>;

    /// Writes `rows` and moves the counter from `at` to `revision`, if the journal stands at `at`; says whether it did. `links`
    /// are those of the rows of the audit.
    async fn append(&mut self, at: Position, revision: Revision, rows: &Rows, links: &[Link]) -> Result<bool, LogError>;

    /// Deletes one step of what is too old; says what went and what the horizon is now.
    async fn prune(&mut self, limits: PruneLimits) -> Result<(Pruned, Revision), LogError>;
}

/// The small tables that are read and written directly.
#[async_trait]
pub(crate) trait SmallTables: Send + Sync {
    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError>;

    async fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;
    async fn put_blob(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<(), StoreError>;
    async fn put_blob_if_absent(&self, name: &str, bytes: &[u8], now: Timestamp) -> Result<Vec<u8>, StoreError>;
    async fn delete_blob(&self, name: &str) -> Result<(), StoreError>;
    async fn blob_names(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// The key-encryption keys that the resources need.
    async fn sealing_keys(&self) -> Result<Vec<String>, StoreError>;
    /// How many rows need another key-encryption key than this.
    async fn sealed_by_others(&self, key_id: &str) -> Result<u64, StoreError>;
    /// Some of the resources that need another key-encryption key than this, and what stands in the place of their specs.
    async fn sealed_resources(&self, not: &str, limit: i64) -> Result<Vec<(ResourceKey, String)>, StoreError>;
    /// Replaces what stands in the place of a spec, if it is still there; says whether it was.
    async fn rewrap_resource(&self, key: &ResourceKey, was: &str, spec: &str, key_id: &str) -> Result<bool, StoreError>;
    async fn sealed_history(&self, not: &str, limit: i64) -> Result<Vec<SealedHistory>, StoreError>;
    async fn rewrap_history(
        &self,
        revision: i64,
        before: Option<&str>,
        after: Option<&str>,
        key_id: &str,
    ) -> Result<(), StoreError>;

    async fn peer_cursors(&self) -> Result<BTreeMap<String, PeerCursor>, StoreError>;

    /// Notes the newest session with a peer, where other processes may have older ones.
    async fn begin_session(&self, _peer: &str, _session: Uuid) -> Result<(), StoreError> {
        Ok(())
    }

    async fn put_join_token(&self, token: &JoinToken, now: Timestamp) -> Result<(), StoreError>;
    async fn redeem_join_token(
        &self,
        id: &str,
        hash: &[u8; 32],
        zone: &Name,
        spki: &[u8; 32],
        now: Timestamp,
    ) -> Result<Redeem, StoreError>;

    async fn bind_zone(&self, name: &Name, uid: ZoneUid, now: Timestamp) -> Result<Bind, StoreError>;
    async fn release_zone(&self, name: &Name) -> Result<(), StoreError>;
    async fn revoke_zone(&self, uid: ZoneUid, now: Timestamp) -> Result<bool, StoreError>;
    async fn put_certificate(&self, certificate: &ZoneCertificate) -> Result<(), StoreError>;
    async fn certificates(&self, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, StoreError>;
    async fn revoke_certificate(&self, serial: &str, now: Timestamp) -> Result<bool, StoreError>;

    async fn revoke_token(&self, revocation: &TokenRevocation) -> Result<(), StoreError>;

    async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError>;
    async fn verify_audit(&self) -> Result<Verified, StoreError>;
    /// Adds rows to a chain in a transaction of their own.
    async fn append_audit(&self, rows: &[AuditRecord], links: &[Link]) -> Result<(), StoreError>;

    async fn put_soft(&self, rows: &[(String, Bytes)], now: Timestamp) -> Result<(), StoreError>;
    async fn delete_soft(&self, keys: &[String]) -> Result<(), StoreError>;
    async fn soft(&self, prefix: &str) -> Result<Vec<SoftRow>, StoreError>;

    /// Runs any SQL; for tests that break things.
    #[cfg(feature = "testing")]
    async fn execute(&self, sql: &str) -> Result<(), StoreError>;

    /// All rows of all tables as text; for tests that look for what must not be there.
    #[cfg(feature = "testing")]
    async fn dump(&self) -> Result<String, StoreError>;
}
