//! Connections to Postgres that are cut at the worst moment: a commit is done once or not at all, and the caller learns which.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use atoll_model::{Labels, Revision};
use atoll_runtime::tasks::Tasks;
use atoll_store::{
    Actor, AuditFilter, Expect, HistoryFilter, Once, PeerCursor, RemoteBatch, Store, StoreConfig, Write, WriteBatch, WriteResult,
    testing::{Postgres, clock},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::{by_plane, eventually, feed, key, put, reaches, write};

/// What the proxy does with the next message that speaks of `cut-me`; then it is honest again.
#[derive(Clone, Copy)]
enum Cut {
    /// The server gets it; the answer is lost.
    Answer = 1,
    /// The server never gets it.
    Message = 2,
    /// The connection is lost at once, and the server gets the message half a second later.
    Late = 3,
}

/// Added to a cut: after it the proxy carries nothing any more.
const AND_DIE: u8 = 0x40;
const DEAD: u8 = 0x80;

/// Stands between a store and its database.
struct Proxy {
    dir: tempfile::TempDir,
    next: Arc<AtomicU8>,
}

impl Proxy {
    fn before(server: String) -> Self {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let next = Arc::new(AtomicU8::new(0));
        let honest = next.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if honest.load(Ordering::SeqCst) != DEAD {
                    tokio::spawn(carry(client, server.clone(), honest.clone()));
                }
            }
        });
        Self { dir, next }
    }
}

/// The cut that comes now.
fn take(next: &AtomicU8) -> u8 {
    let after = |cut: u8| Some(if cut & AND_DIE != 0 { DEAD } else { 0 });
    next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, after).unwrap_or_default() & !AND_DIE
}

/// Carries bytes both ways until one side ends or the cut comes.
async fn carry(mut client: UnixStream, server: String, next: Arc<AtomicU8>) {
    let mut server = UnixStream::connect(server).await.unwrap();
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let message = &up[..length];
                let cut = if message.windows(6).any(|part| part == b"cut-me") { take(&next) } else { 0 };
                if cut == Cut::Message as u8 {
                    return;
                }
                if cut == Cut::Late as u8 {
                    drop(client);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    // The server reads the message, and only then that nobody is there.
                    let _ended = server.write_all(message).await;
                    return;
                }
                server.write_all(message).await.unwrap();
                if cut == Cut::Answer as u8 {
                    // The message may come in parts; the answer begins when it is whole.
                    loop {
                        tokio::select! {
                            _answer = server.read(&mut down) => return,
                            read = client.read(&mut up) => match read {
                                Ok(length @ 1..) => server.write_all(&up[..length]).await.unwrap(),
                                _ => break,
                            },
                        }
                    }
                    let _answer = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A store behind a proxy, and one that goes straight to the database.
async fn behind_proxy() -> (Proxy, Store, Store, Tasks) {
    let straight = Postgres::shared().await.unwrap().database().await.unwrap();
    let (base, socket) = straight.split_once("?host=").unwrap();
    let proxy = Proxy::before(format!("{socket}/.s.PGSQL.5432"));
    let tasks = Tasks::new();
    let url = format!("{base}?host={}", proxy.dir.path().display());
    let store = Store::open(StoreConfig::Postgres { url }, clock(), &tasks).await.unwrap();
    let other = Store::open(StoreConfig::Postgres { url: straight.clone() }, clock(), &tasks).await.unwrap();
    write(&store, put("first", "{}")).await.unwrap();
    (proxy, store, other, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_connection_is_cut_is_done_once() {
    for cut in [Cut::Answer, Cut::Message, Cut::Late] {
        let (proxy, store, other, _tasks) = behind_proxy().await;
        proxy.next.store(cut as u8, Ordering::SeqCst);
        let created = write(&store, Write::create(key("cut-me"), Labels::new(), "{}")).await;
        let Ok(WriteResult::Created(created)) = created else { panic!("{created:?}") };
        assert_eq!(proxy.next.load(Ordering::SeqCst), 0, "the cut came");
        assert_eq!((created.version, created.revision), (1, Revision(2)));
        assert_eq!(store.snapshot().get(&key("cut-me")), Some(&created), "what was acknowledged is read at once");
        tokio::time::sleep(Duration::from_millis(600)).await;
        write(&other, put("last", "{}")).await.unwrap();
        let table = reaches(&store, Revision(3)).await;
        assert_eq!(feed(&table, Revision(0)), feed(&other.snapshot(), Revision(0)));
        assert_eq!(table.get(&key("cut-me")).map(|resource| resource.version), Some(1), "a late message did nothing");
        assert_eq!(store.history(&HistoryFilter::default()).await.unwrap().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_connection_is_cut_is_done_once_and_audited_once() {
    for (cut, changes) in [Cut::Answer, Cut::Message, Cut::Late].into_iter().flat_map(|cut| [(cut, true), (cut, false)]) {
        let (proxy, store, other, _tasks) = behind_proxy().await;
        proxy.next.store(cut as u8, Ordering::SeqCst);
        let once = Once { subject: "user:ada".to_owned(), key: "k".to_owned(), request: [1; 32] };
        // Only what is written speaks of the actor, not the question whether the request was done before.
        let actor = Actor::recorded("user:cut-me", None);
        let batch = WriteBatch::one(actor, put(if changes { "new" } else { "first" }, "{}")).once(once);
        let done = store.commit(batch.clone()).await.unwrap();
        assert_eq!(proxy.next.load(Ordering::SeqCst), 0, "the cut came");
        tokio::time::sleep(Duration::from_millis(600)).await;
        let again = other.commit(batch).await.unwrap();
        let revision = Revision(if changes { 2 } else { 1 });
        assert_eq!((done.revision, again.revision, again.repeated.is_some()), (revision, revision, true));
        proxy.next.store(cut as u8, Ordering::SeqCst);
        store.commit(WriteBatch::one(Actor::recorded("user:cut-me", None), put("first", "{}"))).await.unwrap();
        assert_eq!(store.audit(&AuditFilter::default()).await.unwrap().len(), 3, "one row for each of three requests");
        assert_eq!(store.verify_audit().await.unwrap().broken, None);
        write(&store, put("last", "{}")).await.unwrap();
        assert_eq!(store.verify_audit().await.unwrap().broken, None, "a chain goes on after the cut");
    }
}

/// P2: the instance dies between the commit and its answer, or just before the commit; the client repeats on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_an_instance_that_died_is_done_once() {
    for (cut, done) in [(Cut::Answer, true), (Cut::Message, false)] {
        let straight = Postgres::shared().await.unwrap().database().await.unwrap();
        let (base, socket) = straight.split_once("?host=").unwrap();
        let proxy = Proxy::before(format!("{socket}/.s.PGSQL.5432"));
        let url = format!("{base}?host={}", proxy.dir.path().display());
        let once = Once { subject: "user:ada".to_owned(), key: "k".to_owned(), request: [1; 32] };
        let batch = WriteBatch::one(Actor::recorded("user:cut-me", None), put("new", "{}")).once(once);

        // Opened first: what opens while the other one commits makes it try again.
        let tasks = Tasks::new();
        let other = Store::open(StoreConfig::Postgres { url: straight }, clock(), &tasks).await.unwrap();
        let dying = tokio::runtime::Runtime::new().unwrap();
        let asked = batch.clone();
        proxy.next.store(cut as u8 | AND_DIE, Ordering::SeqCst);
        dying.spawn(async move {
            let store = Store::open(StoreConfig::Postgres { url }, clock(), &Tasks::new()).await.unwrap();
            let _never_answered = store.commit(asked).await;
        });
        eventually("the cut comes", async || proxy.next.load(Ordering::SeqCst) == DEAD).await;
        let rows = async || other.audit(&AuditFilter::default()).await.unwrap().len();
        eventually("the server has done what it got", async || rows().await == usize::from(done)).await;
        dying.shutdown_background();
        let again = other.commit(batch.clone()).await.unwrap();
        assert_eq!((again.revision, again.repeated.is_some()), (Revision(1), done));
        assert_eq!(other.commit(batch).await.unwrap().revision, Revision(1));
        assert_eq!(other.audit(&AuditFilter::default()).await.unwrap().len(), 1);
        assert_eq!(other.verify_audit().await.unwrap().broken, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_message_of_a_lost_connection_does_not_undo_what_came_after() {
    let (proxy, store, other, _tasks) = behind_proxy().await;
    proxy.next.store(Cut::Late as u8, Ordering::SeqCst);
    write(&store, put("a", "\"cut-me\"")).await.unwrap();
    let version = other_version(&other).await;
    let update = Write::Put { key: key("a"), labels: Labels::new(), spec: "2".into(), expect: Expect::Version(version) };
    write(&other, update).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let table = reaches(&store, Revision(3)).await;
    assert_eq!(table.get(&key("a")).unwrap().spec, "2");
    assert_eq!(table.revision(), Revision(3));
}

async fn other_version(other: &Store) -> u64 {
    reaches(other, Revision(2)).await.get(&key("a")).unwrap().version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_moves_alone_is_not_taken_for_written() {
    let (proxy, store, other, _tasks) = behind_proxy().await;
    proxy.next.store(Cut::Message as u8, Ordering::SeqCst);
    let cursor = Some(PeerCursor { epoch: uuid::Uuid::from_u128(1), revision: Revision(9) });
    let batch = RemoteBatch { peer: "cut-me".to_owned(), items: Vec::new(), cursor, actor: Actor::plane() };
    store.apply_remote(batch).await.unwrap();
    assert_eq!(proxy.next.load(Ordering::SeqCst), 0, "the cut came");
    assert_eq!(other.peer_cursor("cut-me").await.unwrap(), cursor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_that_is_lost_hurts_nobody() {
    let (_proxy, store, other, _tasks) = behind_proxy().await;
    let epochs = store.epochs().len();
    other
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await
        .unwrap();
    for n in 0..20 {
        store.commit(by_plane(vec![put(&n.to_string(), "{}")])).await.expect("connected again on the way");
    }
    eventually("an epoch for each reconnection", async || store.epochs().len() > epochs).await;
}
