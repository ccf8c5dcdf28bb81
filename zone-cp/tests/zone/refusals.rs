//! Each reason not to start has one clear message that says what to do, and by which flag.

use std::path::Path;

use atoll_runtime::telemetry::with_causes;
use tokio::net::TcpListener;

use crate::plane::{Zone, config, try_start};

async fn fault(data: &Path, more: &[&str]) -> String {
    let error = try_start(config(data, more)).await.err().expect("it started");
    with_causes(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["rest-listen", "rest-tls-listen", "diagnostics-listen", "dp-listen"] {
        let data = folder.path().join(flag);
        let text = fault(&data, &[&format!("--{flag}"), &address]).await;
        assert!(text.contains(&address) && text.contains(&format!("--{flag}")), "{text}");
        assert!(!data.join("operator.yaml").exists(), "a start that failed hands out nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_another_process_has() {
    let folder = tempfile::tempdir().unwrap();
    let zone = Zone::start(folder.path()).await;
    let text = fault(folder.path(), &[]).await;
    assert!(text.contains("another process uses the data directory") && text.contains("--data-dir"), "{text}");
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    assert!(!text.contains("Postgres"), "a zone has no other store: {text}");
    zone.stop(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    Zone::start(folder.path()).await.stop(folder.path()).await;
    let file = folder.path().join("store/atoll.db");
    std::fs::write(&file, b"a text that stands where a database was; ".repeat(100)).unwrap();
    let text = fault(folder.path(), &[]).await;
    for part in ["is damaged", "put back a good copy", "--data-dir", &file.display().to_string()] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(std::fs::read(&file).unwrap().starts_with(b"a text"), "what is there stays for a person to look at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_that_is_damaged_or_open() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    Zone::start(folder.path()).await.stop(folder.path()).await;
    let file = folder.path().join("tokens.pem");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = fault(folder.path(), &[]).await;
    assert!(text.contains("0600") && text.contains("tokens.pem") && text.contains("--data-dir"), "{text}");
    std::fs::remove_file(&file).unwrap();
    atoll_runtime::files::write_secret(&file, b"s3cret").unwrap();
    let text = fault(folder.path(), &[]).await;
    assert!(text.contains("tokens.pem") && text.contains("damaged") && !text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    // Below a file nobody can make a folder, in /proc not even root.
    for data in [file.join("data"), "/proc/atoll".into()] {
        let text = fault(&data, &[]).await;
        assert!(text.contains(&data.display().to_string()) && text.contains("--data-dir"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_never_joined_and_has_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let text = fault(folder.path(), &["--global", "127.0.0.1:1"]).await;
    assert!(text.contains("atoll token zone azure") && text.contains("--join-token-file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_token_for_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "\n").unwrap();
    let text = fault(&folder.path().join("data"), &["--metrics-token-file", token.to_str().unwrap()]).await;
    assert!(text.contains("--metrics-token-file") && text.contains("is empty"), "{text}");
}
