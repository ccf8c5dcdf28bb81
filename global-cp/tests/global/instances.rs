use std::time::Duration;

use atoll_store::testing::{Postgres, postgres_url};
use http::Method;
use serde_json::json;

use crate::support::{Global, call, config, operator, plain, try_start};

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_database_and_its_keys() {
    let url = postgres_url().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let first = Global::start(&one, Some(&url)).await;
    let keyless = try_start(config(&two, Some(&url), &[])).await.err().unwrap().to_string();
    assert!(keyless.contains("seal.key") && keyless.contains("copy it from the first instance"), "{keyless}");
    std::fs::create_dir_all(&two).unwrap();
    std::fs::copy(one.join("seal.key"), two.join("seal.key")).unwrap();
    let second = Global::start(&two, Some(&url)).await;
    assert!(!two.join("operator.yaml").exists(), "the credential was handed out already");
    let operator = operator(&one);
    for i in 0..20 {
        let (name, writer, reader) =
            if i % 2 == 0 { (format!("a{i}"), &first, &second) } else { (format!("b{i}"), &second, &first) };
        let body = json!({"type": "Mesh", "name": name});
        let path = format!("/meshes/{name}");
        assert_eq!(call(&operator, &writer.url(), Method::PUT, &path, Some(body)).await.0, 201);
        let revision = writer.running.store.snapshot().revision();
        let read = call(&operator, &reader.url(), Method::GET, &format!("{path}?min-revision={revision}"), None).await;
        assert_eq!((read.0, &read.1["name"]), (200, &json!(name)));
    }
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnostics_tell_the_truth_while_the_database_dies_and_returns() {
    let server = Postgres::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, Some(&server.database().await.unwrap())).await;
    let operator = operator(&data);
    let at = global.running.addresses.diagnostics;
    assert_eq!(plain(at, "/healthy").await.0, 200);
    wait_for_ready(&global, 200).await;
    let (status, metrics) = plain(at, "/metrics").await;
    let revision = global.running.store.snapshot().revision();
    assert_eq!(status, 200);
    for line in ["atoll_store_available 1", &format!("atoll_store_revision {revision}"), "atoll_resources{kind=\"Mesh\"} 1"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }

    server.kill();
    wait_for_ready(&global, 503).await;
    assert!(plain(at, "/ready").await.1.contains("store"), "it says what it lacks");
    assert_eq!(plain(at, "/healthy").await.0, 200);
    let mesh = json!({"type": "Mesh", "name": "late"});
    let (status, refused) = call(&operator, &global.url(), Method::PUT, "/meshes/late", Some(mesh.clone())).await;
    assert_eq!((status, &refused["title"]), (503, &json!("Service unavailable")), "{refused}");
    assert_eq!(call(&operator, &global.url(), Method::GET, "/meshes", None).await.0, 200, "reads go on");

    server.restart().await.unwrap();
    wait_for_ready(&global, 200).await;
    let (status, answer) = call(&operator, &global.url(), Method::PUT, "/meshes/late", Some(mesh)).await;
    assert_eq!(status, 201, "{answer}");
    global.stop().await;
}

async fn wait_for_ready(global: &Global, status: u16) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while plain(global.running.addresses.diagnostics, "/ready").await.0 != status {
        assert!(tokio::time::Instant::now() < deadline, "/ready is not {status} after 15 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
