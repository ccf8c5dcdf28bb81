//! The contract of secrets at rest: nothing in the journal shows them, only the right keys open them, and keys can be changed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use atoll_model::{Kind, Labels, Owner, ResourceKey, Revision};
use atoll_runtime::tasks::Tasks;
use atoll_store::{
    AuditFilter, HistoryFilter, KeyFault, KeyProvider, Keys, LocalKeys, Once, RewrapStep, Store, StoreConfig, StoreError, Write,
    WriteBatch, testing::TestStore,
};
use atoll_trust::seal::{Label, SealKey};
use rand::{SeedableRng, rngs::StdRng};

use crate::{ada, by_ada, by_plane, eventually, on_both, put, write};

on_both!(sealed:
    no_secret_is_in_the_journal,
    secrets_come_back_after_a_restart,
    secrets_do_not_open_in_another_place,
    without_a_key_no_secret_is_written,
    another_key_is_refused_with_what_to_do,
    keys_can_be_changed,
    a_change_of_keys_can_be_cut_off_and_begun_again,
    blobs_are_sealed_as_well,
    a_key_service_that_is_away_stops_only_secrets,
    a_rehearsal_seals_nothing,
);

const CANARY: &str = "c4n4ry-in-the-m1ne";

fn secret(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Secret, "default", name, Owner::Global)
}

fn put_secret(name: &str, text: &str) -> Write {
    Write::put(secret(name), Labels::new(), format!("{{\"data\":\"{text}\"}}"))
}

fn held(store: &Store, name: &str) -> Option<String> {
    store.snapshot().get(&secret(name)).map(|resource| String::from_utf8(resource.spec.to_vec()).unwrap())
}

fn key_of(seed: u64) -> SealKey {
    SealKey::generate(&mut StdRng::seed_from_u64(seed))
}

fn keys(current: u64, older: &[u64]) -> Keys {
    Keys::Provider(Arc::new(LocalKeys::new(key_of(current), older.iter().copied().map(key_of).collect())))
}

/// The store of `test`, which is closed, with other keys.
async fn open(config: &StoreConfig, keys: Keys) -> Result<(Store, Tasks), StoreError> {
    let tasks = Tasks::new();
    Ok((Store::open_sealed(config.clone(), keys, atoll_store::testing::clock(), &tasks).await?, tasks))
}

async fn close(store: Store, tasks: Tasks) {
    store.close().await;
    drop(store);
    tasks.join_all(std::time::Duration::from_secs(10)).await;
}

/// Ends a store; its place stays as long as what this gives.
async fn ended(test: TestStore) -> (StoreConfig, Option<tempfile::TempDir>) {
    let config = test.config.clone();
    (config, test.end().await)
}

/// Everything that is on disk or in the database, as bytes.
async fn dump(test: &TestStore) -> Vec<u8> {
    match &test.config {
        StoreConfig::Sqlite { dir } => {
            let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            files.flat_map(|path| std::fs::read(path).unwrap()).collect()
        }
        StoreConfig::Postgres { .. } => test.store.dump().await.unwrap().into_bytes(),
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

async fn no_secret_is_in_the_journal(test: TestStore) {
    let store = &test.store;
    let once = Once { subject: "user:ada".to_owned(), key: "k".to_owned(), request: [1; 32] };
    store.commit(by_ada(vec![put_secret("a", CANARY), put_secret("a", &format!("{CANARY}2"))]).once(once)).await.unwrap();
    store.commit(by_plane(vec![put_secret("b", CANARY)])).await.unwrap();
    let global = ResourceKey::new(Kind::GlobalSecret, "", "g", Owner::Global);
    store.commit(by_ada(vec![Write::put(global, Labels::new(), format!("{{\"data\":\"{CANARY}\"}}"))])).await.unwrap();
    store.commit(by_ada(vec![put("seen", "\"m4rk3r\""), Write::delete(secret("b"))])).await.unwrap();
    store.put_sealed_blob_if_absent("keys/test", CANARY.as_bytes()).await.unwrap();
    let hash = store.snapshot().get(&secret("a")).unwrap().hash.to_bytes();

    let bytes = dump(&test).await;
    assert!(holds(&bytes, b"m4rk3r") && holds(&bytes, b"keyId"), "the dump shows what is open");
    assert!(!holds(&bytes, CANARY.as_bytes()), "and no secret");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CANARY);
    assert!(!holds(&bytes, base64.trim_end_matches('=').as_bytes()));
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!holds(&bytes, &hash) && !holds(&bytes, hex.as_bytes()), "nor a hash by which a guess could be tried");

    let told = format!(
        "{:?} {:?} {:?}",
        store.history(&HistoryFilter::default()).await.unwrap(),
        store.audit(&AuditFilter::default()).await.unwrap(),
        put_secret("a", CANARY)
    );
    assert!(!told.contains(CANARY), "{told}");
    let update = store.audit(&AuditFilter { verb: Some("update".to_owned()), ..AuditFilter::default() }).await.unwrap();
    let create =
        store.audit(&AuditFilter { object: Some("Secret/default/a".to_owned()), ..AuditFilter::default() }).await.unwrap();
    assert_eq!(update[0].record.before, create[1].record.after, "digests still say that it is the same content");
    assert_ne!(update[0].record.before, update[0].record.after);
    assert_eq!(store.verify_audit().await.unwrap().broken, None);
}

async fn secrets_come_back_after_a_restart(test: TestStore) {
    write(&test.store, put_secret("a", "one")).await.unwrap();
    let version = test.store.snapshot().get(&secret("a")).unwrap().version;
    let expect = atoll_store::Expect::Version(version);
    let update = Write::Put { key: secret("a"), labels: Labels::new(), spec: "{\"data\":\"two\"}".into(), expect };
    write(&test.store, update).await.unwrap();
    let before = test.store.snapshot().get(&secret("a")).unwrap().clone();
    let test = test.restart().await.unwrap();
    assert_eq!(test.store.snapshot().get(&secret("a")), Some(&before), "its content hash too");
    assert_eq!(held(&test.store, "a").as_deref(), Some("{\"data\":\"two\"}"));
    assert!(matches!(write(&test.store, put_secret("a", "two")).await, Ok(atoll_store::WriteResult::Unchanged(_))));
    let computed = Write::PutComputed { key: secret("a"), computed: Some("{}".into()), expect: atoll_store::Expect::Any };
    assert!(matches!(write(&test.store, computed).await, Err(StoreError::Invalid { .. })));
}

async fn secrets_do_not_open_in_another_place(test: TestStore) {
    for name in ["a", "b", "c", "d"] {
        write(&test.store, put_secret(name, name)).await.unwrap();
    }
    let moved = "UPDATE resources SET spec = (SELECT spec FROM resources WHERE name = 'a') WHERE name = 'b'";
    test.store.execute(moved).await.unwrap();
    test.store.execute("UPDATE resources SET version = version + 1 WHERE name = 'c'").await.unwrap();
    test.store.execute("UPDATE resources SET spec = '{\"data\":\"forged\"}' WHERE name = 'd'").await.unwrap();
    let test = test.restart().await.unwrap();
    let names = ["a", "b", "c", "d"].map(|name| held(&test.store, name).is_some());
    assert_eq!(names, [true, false, false, false], "neither swapped, nor under another version, nor open");
}

async fn without_a_key_no_secret_is_written(test: TestStore) {
    assert!(test.store.seals());
    let (config, test) = ended(test).await;
    let (bare, tasks) = open(&config, Keys::None).await.unwrap();
    assert!(!bare.seals());
    let refused = write(&bare, put_secret("a", CANARY)).await;
    assert!(matches!(&refused, Err(StoreError::Invalid { reason, .. }) if reason.contains("no key")), "{refused:?}");
    write(&bare, put("open", "{}")).await.unwrap();
    assert!(bare.put_sealed_blob_if_absent("keys/test", b"x").await.is_err());
    close(bare, tasks).await;
    drop(test);
}

async fn another_key_is_refused_with_what_to_do(test: TestStore) {
    write(&test.store, put_secret("a", "one")).await.unwrap();
    let (config, test) = ended(test).await;
    let text = open(&config, keys(9, &[])).await.unwrap_err();
    assert!(matches!(&text, StoreError::Sealed(_)), "{text:?}");
    let (text, right, wrong) = (text.to_string(), key_of(1).id().to_string(), key_of(9).id().to_string());
    assert!(text.contains(&right) && text.contains(&wrong) && text.contains("seal.key"), "{text}");
    let text = open(&config, Keys::None).await.unwrap_err().to_string();
    assert!(text.contains(&right), "{text}");
    let (store, tasks) = open(&config, keys(9, &[1])).await.unwrap();
    assert_eq!(held(&store, "a").as_deref(), Some("{\"data\":\"one\"}"), "an older key opens it");
    close(store, tasks).await;
    drop(test);
}

async fn keys_can_be_changed(test: TestStore) {
    for n in 0..5 {
        write(&test.store, put_secret(&format!("s{n}"), CANARY)).await.unwrap();
    }
    write(&test.store, put_secret("s0", "newer")).await.unwrap();
    test.store.put_sealed_blob_if_absent("keys/ca", b"private").await.unwrap();
    let before = test.store.snapshot();
    let (config, test) = ended(test).await;

    let (store, tasks) = open(&config, keys(2, &[1])).await.unwrap();
    let mut last = None;
    let done = store.rewrap(|step: RewrapStep| last = Some(step)).await.unwrap();
    assert_eq!((done.resources, done.history, done.blobs), (5, 6, 2), "the canary is one of the blobs");
    assert_eq!(last, Some(RewrapStep { done, left: 0 }));
    assert_eq!(store.rewrap(|_| ()).await.unwrap(), atoll_store::Rewrapped::default(), "again does nothing");
    assert_eq!(store.snapshot().revision(), before.revision(), "no revision is taken");
    close(store, tasks).await;

    assert!(matches!(open(&config, keys(1, &[])).await, Err(StoreError::Sealed(_))), "the old key opens nothing any more");
    let (store, tasks) = open(&config, keys(2, &[])).await.unwrap();
    assert_eq!(crate::contents(&store.snapshot()), crate::contents(&before));
    assert_eq!(store.sealed_blob("keys/ca").await.unwrap().as_deref(), Some(&b"private"[..]));
    write(&store, put_secret("s0", "newest")).await.unwrap();
    close(store, tasks).await;
    drop(test);
}

/// Wraps so many rows, then says that it is away: as a program that is killed.
#[derive(Debug)]
struct Mortal {
    inner: LocalKeys,
    left: AtomicU32,
}

#[async_trait::async_trait]
impl KeyProvider for Mortal {
    fn current(&self) -> String {
        self.inner.current()
    }

    fn has(&self, key_id: &str) -> bool {
        self.inner.has(key_id)
    }

    async fn wrap(&self, label: Label<'_>, secret: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let gone = || KeyFault::Unavailable(Arc::new(std::io::Error::other("killed")));
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).map_err(|_| gone())?;
        self.inner.wrap(label, secret).await
    }

    async fn unwrap(&self, key_id: &str, label: Label<'_>, wrapped: &[u8]) -> Result<Vec<u8>, KeyFault> {
        self.inner.unwrap(key_id, label, wrapped).await
    }
}

async fn a_change_of_keys_can_be_cut_off_and_begun_again(test: TestStore) {
    for n in 0..4 {
        write(&test.store, put_secret(&format!("s{n}"), CANARY)).await.unwrap();
    }
    let before = test.store.snapshot();
    let (config, test) = ended(test).await;
    let mut cuts = 0;
    for left in 0.. {
        let inner = LocalKeys::new(key_of(2), vec![key_of(1)]);
        let mortal = Arc::new(Mortal { inner, left: AtomicU32::new(left) });
        let (store, tasks) = open(&config, Keys::Provider(mortal)).await.expect("both keys open it, however far it is");
        assert_eq!(crate::contents(&store.snapshot()), crate::contents(&before));
        let done = store.rewrap(|_| ()).await;
        close(store, tasks).await;
        if done.is_ok() {
            break;
        }
        cuts += 1;
        if cuts > 1 {
            // Rows of both keys: one of them alone is not enough, and the text says so.
            let alone = [open(&config, keys(1, &[])).await.err(), open(&config, keys(2, &[])).await.err()];
            let text = alone.map(|error| error.map(|error| error.to_string()).unwrap_or_default()).join(" ");
            assert!(text.contains("rewrap-keys") || text.contains("seal.key"), "{text}");
        }
    }
    assert!(cuts >= 2, "{cuts}");
    let (store, tasks) = open(&config, keys(2, &[])).await.unwrap();
    assert_eq!(crate::contents(&store.snapshot()), crate::contents(&before));
    close(store, tasks).await;
    drop(test);
}

async fn blobs_are_sealed_as_well(test: TestStore) {
    let store = &test.store;
    assert_eq!(store.put_sealed_blob_if_absent("keys/a", b"one").await.unwrap(), b"one");
    assert_eq!(store.put_sealed_blob_if_absent("keys/a", b"two").await.unwrap(), b"one", "the first one stands");
    assert_eq!(store.sealed_blob("keys/nobody").await.unwrap(), None);
    // Sealed by the key itself, as the first version did.
    let older = key_of(1).seal(Label { cluster: store.cluster_id(), name: "keys/old" }, b"ca", &mut StdRng::seed_from_u64(5));
    store.put_blob("keys/old", &older).await.unwrap();
    assert_eq!(store.sealed_blob("keys/old").await.unwrap().as_deref(), Some(&b"ca"[..]));
    let swapped = store.blob("keys/a").await.unwrap().unwrap();
    store.put_blob("keys/b", &swapped).await.unwrap();
    assert!(matches!(store.sealed_blob("keys/b").await, Err(StoreError::Corrupt(_))));
}

/// A key service that can be away.
#[derive(Debug)]
struct Service {
    inner: LocalKeys,
    away: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl KeyProvider for Service {
    fn current(&self) -> String {
        self.inner.current()
    }

    fn has(&self, key_id: &str) -> bool {
        self.inner.has(key_id)
    }

    async fn wrap(&self, label: Label<'_>, secret: &[u8]) -> Result<Vec<u8>, KeyFault> {
        if self.away.load(Ordering::SeqCst) {
            return Err(KeyFault::Unavailable(Arc::new(std::io::Error::other("away"))));
        }
        self.inner.wrap(label, secret).await
    }

    async fn unwrap(&self, key_id: &str, label: Label<'_>, wrapped: &[u8]) -> Result<Vec<u8>, KeyFault> {
        self.inner.unwrap(key_id, label, wrapped).await
    }
}

async fn a_key_service_that_is_away_stops_only_secrets(test: TestStore) {
    let (config, test) = ended(test).await;
    let away = Arc::new(AtomicBool::new(false));
    let service = Arc::new(Service { inner: LocalKeys::new(key_of(1), Vec::new()), away: away.clone() });
    let (store, tasks) = open(&config, Keys::Provider(service)).await.unwrap();
    away.store(true, Ordering::SeqCst);
    assert!(matches!(write(&store, put_secret("a", "one")).await, Err(StoreError::Unavailable(_))));
    write(&store, put("open", "{}")).await.unwrap();
    away.store(false, Ordering::SeqCst);
    write(&store, put_secret("a", "one")).await.unwrap();
    close(store, tasks).await;
    drop(test);
}

async fn a_rehearsal_seals_nothing(test: TestStore) {
    let batch = WriteBatch::one(ada(), put_secret("a", "one"));
    let done = test.store.rehearse(&batch).await.unwrap();
    assert_eq!((done.revision, done.results.len()), (Revision(1), 1));
    assert_eq!(held(&test.store, "a"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instance_sees_secrets() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    write(&first.store, put_secret("a", "one")).await.unwrap();
    eventually("the other instance has it", async || held(&second.store, "a").is_some()).await;
    let tables = [first.store.snapshot(), second.store.snapshot()];
    assert_eq!(tables[0].get(&secret("a")), tables[1].get(&secret("a")));
}

#[tokio::test]
async fn key_files_are_made_once_and_must_be_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::Sqlite { dir: folder.path().join("store") };
    let path = folder.path().join("data/seal.key");
    let file = || Keys::File { path: path.clone(), older: Vec::new() };
    let again = async || {
        let (store, tasks) = open(&config, file()).await?;
        close(store, tasks).await;
        Ok::<_, StoreError>(())
    };
    again().await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    again().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    again().await.expect("nothing was sealed with the key that is lost");
    let (store, tasks) = open(&config, file()).await.unwrap();
    write(&store, put_secret("a", "one")).await.unwrap();
    close(store, tasks).await;
    let text = std::fs::read_to_string(&path).unwrap();

    let refused = async |part: &str| {
        let error = again().await.unwrap_err();
        assert!(matches!(&error, StoreError::Sealed(text) if text.contains(part)), "{error}");
    };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    refused("0600").await;
    std::fs::remove_file(&path).unwrap();
    refused("copy it").await;
    assert!(!path.exists(), "no second key is made for a store that has one");
    atoll_runtime::files::write_secret(&path, b"something else").unwrap();
    refused("not a seal key").await;
    atoll_runtime::files::write_secret(&path, key_of(9).to_file().expose().as_bytes()).unwrap();
    refused(&key_of(9).id().to_string()).await;

    let key = text.split_once(' ').unwrap().1.trim().to_owned();
    let (store, tasks) = open(&config, Keys::Text { key: key.into(), older: Vec::new() }).await.unwrap();
    close(store, tasks).await;
}
