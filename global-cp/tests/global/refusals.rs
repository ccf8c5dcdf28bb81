//! Each reason not to start has one clear message that says what to do.

use atoll_runtime::telemetry::with_causes;
use tokio::net::TcpListener;

use crate::support::{Global, config, try_start};

async fn fault(data: &std::path::Path, store: Option<&str>, more: &[&str]) -> String {
    let error = try_start(config(data, store, more)).await.err().expect("it started");
    with_causes(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["rest-listen", "rest-tls-listen", "diagnostics-listen", "link-listen", "join-listen"] {
        let text = fault(&folder.path().join(flag), None, &[&format!("--{flag}"), &address]).await;
        assert!(text.contains(&address) && text.contains(&format!("--{flag}")), "{text}");
        assert!(!folder.path().join(flag).join("operator.yaml").exists(), "a start that failed hands out nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let free = atoll_runtime::testing::free_address().unwrap();
    let begun = std::time::Instant::now();
    let text = fault(folder.path(), Some(&format!("postgres://atoll:s3cret@{free}/atoll")), &[]).await;
    assert!(text.contains("cannot be reached") && text.contains("--store") && text.contains(&free.to_string()), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!((5..20).contains(&begun.elapsed().as_secs()), "patient for 10 s, not longer: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_another_process_has() {
    let folder = tempfile::tempdir().unwrap();
    let global = Global::start(folder.path(), None).await;
    let text = fault(folder.path(), None, &[]).await;
    assert!(text.contains("Postgres"), "several need Postgres: {text}");
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    Global::start(folder.path(), None).await.stop().await;
    let other = tempfile::tempdir().unwrap();
    Global::start(other.path(), None).await.stop().await;
    std::fs::copy(other.path().join("seal.key"), folder.path().join("seal.key")).unwrap();
    let text = fault(folder.path(), None, &[]).await;
    assert!(text.contains("seal.key"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    Global::start(folder.path(), None).await.stop().await;
    let database = folder.path().join("store/atoll.db");
    // SQLite folds its log into the database when the last connection closes, a moment after the store's end.
    let log = folder.path().join("store/atoll.db-wal");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while log.exists() {
        assert!(tokio::time::Instant::now() < deadline, "the database is still open after 10 s");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::write(&database, b"this is no database, it is a text that stands where one was").unwrap();
    let text = fault(folder.path(), None, &[]).await;
    assert!(text.contains("store"), "{text}");
}
