//! The handle that the rest of a plane holds.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use atoll_model::{Clock, Name, ResourceKey, Timestamp, ZoneUid};
use atoll_runtime::tasks::Tasks;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    Applied, AuditEntry, AuditFilter, AuditRecord, Bind, Committed, Denied, Early, Epoch, HistoryEntry, HistoryFilter, JoinToken,
    PeerCursor, Redeem, Registry, RemoteBatch, RemoteItem, StoreError, TableSnapshot, TokenRevocation, Verified, Write,
    WriteBatch, ZoneCertificate,
    audit::Chain,
    committer::{self, Published, Request, new_chain},
    denied::DeniedLog,
    journal::{SmallTables, links, postgres, sqlite},
    plan::Plan,
    seal::{DataKeys, Keys, OpeningLog, RewrapStep, Rewrapped, Vault, is_sealed},
};

/// Where the journal is.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A database that several processes may share.
    Postgres {
        /// `postgres://…`
        url: String,
    },
    /// A directory of this process alone.
    Sqlite {
        /// Made when it is not there. The database is `atoll.db` in it.
        dir: PathBuf,
    },
}

/// The committed resources of one plane. A clone is a handle to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Uuid,
    requests: mpsc::Sender<Request>,
    published: Published,
    tables: Arc<dyn SmallTables>,
    cursors: Cursors,
    denied: DeniedLog,
    /// The end of the chain of what was done beside resources; none after a failure.
    done: tokio::sync::Mutex<Option<Chain>>,
    vault: Option<Arc<Vault>>,
    clock: Arc<dyn Clock>,
}

/// Where the newest peer cursors are.
enum Cursors {
    /// In the journal, because other processes write them too.
    Journal,
    /// In memory, ahead of the journal.
    Memory(watch::Receiver<Arc<BTreeMap<String, PeerCursor>>>),
}

/// What one step of pruning took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Tombstones.
    pub tombstones: u64,
    /// Entries of history.
    pub history: u64,
    /// Batches that would not have been done again.
    pub once: u64,
    /// Revocations of tokens that have ended.
    pub revocations: u64,
}

/// A row of soft state: the newest value of something that is lost without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftRow {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// When it was written.
    pub at: Timestamp,
}

impl Store {
    /// Opens the journal, brings its tables up to date, opens an epoch and loads all resources. `tasks` gets the committer,
    /// which ends when the last handle is dropped or after [`Store::close`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] and [`StoreError::Corrupt`] need a person; [`StoreError::Unavailable`] may be tried again.
    pub async fn open(config: StoreConfig, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Self, StoreError> {
        Self::open_sealed(config, Keys::None, clock, tasks).await
    }

    /// As [`Store::open`], with the keys that seal secrets.
    ///
    /// # Errors
    /// As well [`StoreError::Sealed`], when the keys do not open what the store holds.
    pub async fn open_sealed(config: StoreConfig, keys: Keys, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Self, StoreError> {
        let (requests, inbox) = mpsc::channel(1024);
        let now = clock.now();
        let (cluster, published, tables, cursors, vault): (_, _, Arc<dyn SmallTables>, _, _) = match config {
            StoreConfig::Postgres { url } => {
                let journal = postgres::open(&url, tasks).await?;
                let vault = Vault::open(journal.cluster, &journal.tables, false, keys, now).await?;
                let log = Box::new(OpeningLog::new(journal.log, vault.clone()));
                let published = committer::shared::start(log, journal.wake, inbox, clock.clone(), tasks).await?;
                (journal.cluster, published, Arc::new(journal.tables), Cursors::Journal, vault)
            }
            StoreConfig::Sqlite { dir } => {
                let journal = sqlite::open(&dir).await?;
                let vault = Vault::open(journal.cluster, &journal.tables, true, keys, now).await?;
                let log = Box::new(OpeningLog::new(journal.log, vault.clone()));
                let held = journal.tables.peer_cursors().await?;
                let (published, cursors) = committer::local::start(log, held, inbox, clock.clone(), tasks).await?;
                (journal.cluster, published, Arc::new(journal.tables), Cursors::Memory(cursors), vault)
            }
        };
        let denied = DeniedLog::start(tables.clone(), tasks);
        Ok(Self {
            inner: Arc::new(Inner {
                cluster,
                requests,
                published,
                tables,
                cursors,
                denied,
                done: Default::default(),
                vault,
                clock,
            }),
        })
    }

    /// The newest table.
    pub fn snapshot(&self) -> Arc<TableSnapshot> {
        self.inner.published.table.borrow().clone()
    }

    /// Follows the table: look again after each change; steps in between may be missed.
    pub fn subscribe(&self) -> watch::Receiver<Arc<TableSnapshot>> {
        self.inner.published.table.clone()
    }

    /// Does all of a batch, or nothing, and answers when it lasts.
    ///
    /// # Errors
    /// The first write that cannot be done, or why the journal did not take the batch.
    pub async fn commit(&self, batch: WriteBatch) -> Result<Committed, StoreError> {
        let keys = self.data_keys(batch.writes.iter().map(Write::key)).await?;
        self.request(|reply| Request::Commit { batch, keys, reply }).await
    }

    /// What [`Store::commit`] of this batch would do to the present table: the same results and the same refusals, nothing
    /// written. Whether the batch was done before under its key is not looked up.
    ///
    /// # Errors
    /// The first write that cannot be done.
    pub async fn rehearse(&self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        let keys = self.data_keys(batch.writes.iter().map(crate::Write::key)).await?;
        Plan::over(&self.snapshot(), self.now()).write(batch, &keys)
    }

    /// As [`Store::commit`], for what a plane writes itself: on SQLite it answers when the batch is in memory, and the
    /// journal follows, however long its disk is away.
    ///
    /// # Errors
    /// The first write that cannot be done; on Postgres also why the journal did not take the batch.
    pub async fn commit_early(&self, batch: WriteBatch) -> Result<Early, StoreError> {
        let keys = self.data_keys(batch.writes.iter().map(Write::key)).await?;
        self.request(|reply| Request::Early { batch, keys, reply }).await
    }

    /// Applies what a peer sent, and moves the peer's cursor in the same transaction. On SQLite it answers when the batch is
    /// in memory; [`Applied::durable`] tells when it lasts.
    ///
    /// # Errors
    /// On Postgres: why the journal did not take the batch.
    pub async fn apply_remote(&self, batch: RemoteBatch) -> Result<Applied, StoreError> {
        let keys = self.data_keys(batch.items.iter().map(RemoteItem::key)).await?;
        self.request(|reply| Request::Remote { batch, session: None, keys, reply }).await?.ok_or(StoreError::Closed)
    }

    /// As [`Store::apply_remote`], for a session of [`Store::begin_session`]. `None`, and nothing done, when a newer session with
    /// the peer was begun: what this one still sends is older than what that one has.
    ///
    /// # Errors
    /// As [`Store::apply_remote`].
    pub async fn apply_remote_in(&self, session: Uuid, batch: RemoteBatch) -> Result<Option<Applied>, StoreError> {
        let keys = self.data_keys(batch.items.iter().map(RemoteItem::key)).await?;
        self.request(|reply| Request::Remote { batch, session: Some(session), keys, reply }).await
    }

    /// Begins a session with a peer: from now on no instance applies what an older session with it sent.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn begin_session(&self, peer: &str) -> Result<Uuid, StoreError> {
        let session = Uuid::new_v4();
        self.inner.tables.begin_session(peer, session).await?;
        self.look().await?;
        Ok(session)
    }

    /// The identity of the deployment: of this journal, made with it.
    pub fn cluster_id(&self) -> Uuid {
        self.inner.cluster
    }

    /// The stretches of this history, oldest first. [`TableSnapshot::epochs`] has them beside the table.
    pub fn epochs(&self) -> Vec<Epoch> {
        self.snapshot().epochs().as_slice().to_vec()
    }

    /// Whether the journal takes writes, as far as the last try says.
    pub fn is_available(&self) -> bool {
        *self.inner.published.available.borrow()
    }

    /// Follows [`Store::is_available`].
    pub fn availability(&self) -> watch::Receiver<bool> {
        self.inner.published.available.clone()
    }

    /// Who changed what; newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryEntry>, StoreError> {
        self.inner.tables.history(filter).await
    }

    /// Deletes one step (a few hundred rows) of the tombstones and the history that are too old. Runs by itself as well.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn prune(&self) -> Result<Pruned, StoreError> {
        self.request(|reply| Request::Prune { reply }).await
    }

    /// Writes what is not in the journal yet, if it can, and ends the committer. Later writes give [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.denied.close();
        let (reply, done) = oneshot::channel();
        if self.inner.requests.send(Request::Close { reply }).await.is_ok() {
            // An error means that the committer ended before it could answer, which is what was asked for.
            let _ended = done.await;
        }
    }

    async fn request<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.inner.requests.send(make(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Waits until this process has in memory what it, or another, wrote without a revision.
    async fn look(&self) -> Result<(), StoreError> {
        self.request(|reply| Request::Look { reply }).await
    }
}

/// The audit: what people and tokens asked for. What they changed is written with the change itself.
impl Store {
    /// The rows of the audit that match, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read, or a row of it.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.tables.audit(filter).await
    }

    /// Walks all chains of the audit and names the first row that is not as it was written.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn verify_audit(&self) -> Result<Verified, StoreError> {
        self.inner.tables.verify_audit().await
    }

    /// Notes a request that was refused. Never waits: beyond some rate, and while the journal is away, what comes is counted
    /// and not written; see [`Store::denied_dropped`].
    pub fn record_denied(&self, denied: Denied) {
        self.inner.denied.record(denied);
    }

    /// Adds a row for what was asked for beside resources, such as a token. It lasts when this returns.
    ///
    /// # Errors
    /// When the journal does not take writes: then it must not be done.
    pub async fn record(&self, record: AuditRecord) -> Result<(), StoreError> {
        let rows = [record.settled()];
        let mut chain = self.inner.done.lock().await;
        let (links, next) = links(chain.take().unwrap_or_else(new_chain), &rows);
        self.inner.tables.append_audit(&rows, &links).await?;
        *chain = Some(next);
        Ok(())
    }

    /// How many refused requests were not written to the audit.
    pub fn denied_dropped(&self) -> u64 {
        self.inner.denied.dropped()
    }
}

/// Secrets at rest.
impl Store {
    /// The keys for what is sealed of these resources. Asked before the committer's turn: a key management service may be slow.
    async fn data_keys<'a>(&self, keys: impl Iterator<Item = &'a ResourceKey>) -> Result<DataKeys, StoreError> {
        let mut made = DataKeys::new();
        let Some(vault) = &self.inner.vault else { return Ok(made) };
        for key in keys.filter(|key| is_sealed(key.kind)) {
            if !made.contains_key(key) {
                made.insert(key.clone(), vault.sealing_key(key).await?);
            }
        }
        Ok(made)
    }

    /// Whether this plane has a key to seal secrets with.
    pub fn seals(&self) -> bool {
        self.inner.vault.is_some()
    }

    /// Wraps every secret with the key that the store's [`crate::KeyProvider`] calls its current one, which was opened with
    /// the older ones as well. May be cut off at any moment and begun again.
    ///
    /// # Errors
    /// When a row does not open, or when the journal does not take writes.
    pub async fn rewrap(&self, told: impl FnMut(RewrapStep) + Send) -> Result<Rewrapped, StoreError> {
        self.vault()?.rewrap(self.inner.tables.as_ref(), self.now(), told).await
    }

    /// Reads a sealed blob.
    ///
    /// # Errors
    /// When the journal cannot be read, or the blob does not open.
    pub async fn sealed_blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.blob(name).await? {
            Some(sealed) => Ok(Some(self.vault()?.open_blob(name, &sealed).await?)),
            None => Ok(None),
        }
    }

    /// Seals and writes a blob unless there is one, and gives back what stands there now. Its name begins with `keys/`, by
    /// which a change of keys finds it.
    ///
    /// # Errors
    /// When the journal does not take writes, or the blob that stands there does not open.
    pub async fn put_sealed_blob_if_absent(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let vault = self.vault()?;
        let sealed = vault.seal_blob(name, secret).await?;
        let stands = self.put_blob_if_absent(name, &sealed).await?;
        Ok(vault.open_blob(name, &stands).await?)
    }

    fn vault(&self) -> Result<&Vault, StoreError> {
        self.inner.vault.as_deref().ok_or_else(|| StoreError::Sealed("this plane has no key to seal secrets with".to_owned()))
    }
}

/// Blobs: sealed keys and the like, by name.
impl Store {
    /// Reads a blob.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.tables.blob(name).await
    }

    /// Writes a blob, whatever there is.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.tables.put_blob(name, bytes, self.now()).await
    }

    /// Writes a blob unless there is one, and gives back the one that stands there now: of processes that start together
    /// all get the same.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn put_blob_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.inner.tables.put_blob_if_absent(name, bytes, self.now()).await
    }

    /// Deletes a blob, if it is there.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn delete_blob(&self, name: &str) -> Result<(), StoreError> {
        self.inner.tables.delete_blob(name).await
    }
}

/// Peers and zones.
impl Store {
    /// How far a peer's stream has been applied.
    ///
    /// # Errors
    /// When the journal cannot be read; never on SQLite.
    pub async fn peer_cursor(&self, peer: &str) -> Result<Option<PeerCursor>, StoreError> {
        Ok(self.peer_cursors().await?.get(peer).copied())
    }

    /// How far every peer's stream has been applied.
    ///
    /// # Errors
    /// When the journal cannot be read; never on SQLite.
    pub async fn peer_cursors(&self) -> Result<BTreeMap<String, PeerCursor>, StoreError> {
        match &self.inner.cursors {
            Cursors::Journal => self.inner.tables.peer_cursors().await,
            Cursors::Memory(cursors) => Ok(cursors.borrow().as_ref().clone()),
        }
    }

    /// Stores a one-time token.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn put_join_token(&self, token: &JoinToken) -> Result<(), StoreError> {
        self.inner.tables.put_join_token(token, self.now()).await
    }

    /// Uses a token for a zone that has shown the key `spki` (SHA-256 of it): once, or again within 15 minutes with the same key.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn redeem_join_token(&self, id: &str, hash: &[u8; 32], zone: &Name, spki: &[u8; 32]) -> Result<Redeem, StoreError> {
        self.inner.tables.redeem_join_token(id, hash, zone, spki, self.now()).await
    }

    /// The registry of zones, in memory; at most a second old when another process changed it.
    pub fn registry(&self) -> watch::Receiver<Arc<Registry>> {
        self.inner.published.registry.clone()
    }

    /// Binds a zone name to an identity, unless one of the two is bound otherwise.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn bind_zone(&self, name: &Name, uid: ZoneUid) -> Result<Bind, StoreError> {
        let bind = self.inner.tables.bind_zone(name, uid, self.now()).await?;
        self.look().await?;
        Ok(bind)
    }

    /// Frees a zone name and forgets the certificates of its holder.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn release_zone(&self, name: &Name) -> Result<(), StoreError> {
        self.inner.tables.release_zone(name).await?;
        self.look().await
    }

    /// Withdraws a zone's right to connect; says whether there is such a zone.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn revoke_zone(&self, uid: ZoneUid) -> Result<bool, StoreError> {
        let known = self.inner.tables.revoke_zone(uid, self.now()).await?;
        self.look().await?;
        Ok(known)
    }

    /// Ends a token before its time: every instance knows within a second, until the token has ended by itself.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn revoke_token(&self, revocation: &TokenRevocation) -> Result<(), StoreError> {
        self.inner.tables.revoke_token(revocation).await?;
        self.look().await
    }

    /// Notes that a certificate was issued.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn put_certificate(&self, certificate: &ZoneCertificate) -> Result<(), StoreError> {
        self.inner.tables.put_certificate(certificate).await
    }

    /// The certificates that were issued to a zone, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn certificates(&self, zone: ZoneUid) -> Result<Vec<ZoneCertificate>, StoreError> {
        self.inner.tables.certificates(zone).await
    }

    /// Withdraws a certificate; says whether it is known.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn revoke_certificate(&self, serial: &str) -> Result<bool, StoreError> {
        let known = self.inner.tables.revoke_certificate(serial, self.now()).await?;
        self.look().await?;
        Ok(known)
    }
}

/// Soft state: takes no revision, may be lost.
impl Store {
    /// Writes the newest values.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn put_soft(&self, rows: Vec<(String, Bytes)>) -> Result<(), StoreError> {
        self.inner.tables.put_soft(&rows, self.now()).await
    }

    /// Deletes values.
    ///
    /// # Errors
    /// When the journal does not take writes.
    pub async fn delete_soft(&self, keys: &[String]) -> Result<(), StoreError> {
        self.inner.tables.delete_soft(keys).await
    }

    /// The values whose key begins with `prefix`, by key.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn soft(&self, prefix: &str) -> Result<Vec<SoftRow>, StoreError> {
        self.inner.tables.soft(prefix).await
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// All rows of all tables as text, on Postgres; for tests that look for what must not be there.
    ///
    /// # Errors
    /// When the journal cannot be read.
    #[cfg(feature = "testing")]
    pub async fn dump(&self) -> Result<String, StoreError> {
        self.inner.tables.dump().await
    }

    /// Runs any SQL on the journal; for tests that break things.
    ///
    /// # Errors
    /// When the journal refuses it.
    #[cfg(feature = "testing")]
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.inner.tables.execute(sql).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("cluster", &self.inner.cluster).field("revision", &self.snapshot().revision()).finish()
    }
}
