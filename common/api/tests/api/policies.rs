//! `/meshes/{mesh}/{policies}`: documents, names, versions.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::support::{Api, timeout};

const PATH: &str = "/meshes/default/meshtimeouts/all";

#[tokio::test]
async fn a_policy_comes_back_as_it_was_written() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let shown = api.get(PATH).await.expect(200).json();
    assert_eq!(shown["spec"], timeout("all", "default")["spec"]);
    assert_eq!(shown["kri"], "kri_mt_default___all_");
    assert_eq!(shown["labels"], json!({"kuma.io/display-name": "all", "kuma.io/mesh": "default", "kuma.io/origin": "global"}));
    assert_eq!(api.get("/_kri/kri_mt_default___all_").await.expect(200).json(), shown);
}

#[tokio::test]
async fn kris_are_judged() {
    let api = Api::global().await;
    api.get("/_kri/kri_mt_default___nope_").await.expect(404);
    let bad = api.get("/_kri/kri___default_default__mtp-3_").await.expect(400).json();
    assert_eq!(bad["detail"], "bad request: unknown short name of resource type: \"\"");
}

#[tokio::test]
async fn what_planes_compute_is_ignored_in_a_body() {
    let api = Api::global().await;
    let mut document = timeout("all", "default");
    document["creationTime"] = json!("0001-01-01T00:00:00Z");
    document["modificationTime"] = json!("0001-01-01T00:00:00Z");
    document["kri"] = json!("");
    document["status"] = json!({"x": 1});
    let created = api.put(PATH, document).await.expect(201);
    assert_eq!(created.json(), json!({"warnings": []}));
    let shown = api.get(PATH).await.json();
    assert_eq!((&shown["creationTime"], &shown["status"]), (&json!("2026-01-02T03:04:05Z"), &json!(null)));
    // What a client read it can write back: nothing changes.
    let before = api.store.snapshot().revision();
    api.put(PATH, shown).await.expect(200);
    assert_eq!(api.store.snapshot().revision(), before);
}

#[tokio::test]
async fn the_path_and_the_body_must_agree() {
    let api = Api::global().await;
    let mut document = timeout("other", "elsewhere");
    let answer = api.put(PATH, document.clone()).await.expect(400);
    assert_eq!(answer.faults()[0], ("name".to_owned(), "name from the URL has to be the same as in body".to_owned()));
    assert_eq!(answer.fields(), ["name", "mesh"]);
    document["type"] = json!("MeshTLS");
    let other = api.put(PATH, document).await.expect(400);
    assert_eq!(other.faults(), [(String::new(), "type in body should be one of [MeshTimeout]".to_owned())]);
}

#[tokio::test]
async fn versions_guard_against_lost_updates() {
    let api = Api::global().await;
    let put = |tag: &'static str, value: &'static str| {
        let api = &api;
        let mut document = timeout("all", "default");
        document["spec"]["to"][0]["default"]["idleTimeout"] = json!(value);
        async move {
            api.call(
                Method::PUT,
                PATH,
                &[("content-type", "application/json"), (tag.split_once(' ').unwrap().0, tag.split_once(' ').unwrap().1)],
                document.to_string(),
            )
            .await
        }
    };
    assert_eq!(put("if-none-match *", "1s").await.expect(201).header("etag"), "\"1\"");
    put("if-none-match *", "2s").await.expect(412);
    assert_eq!(put("if-match \"1\"", "2s").await.expect(200).header("etag"), "\"2\"");
    let lost = put("if-match \"1\"", "3s").await.expect(412).json();
    assert!(lost["detail"].as_str().unwrap().contains("version 2"), "{lost}");
    put("if-match tomorrow", "3s").await.expect(400);
    let shown = api.get(PATH).await;
    assert_eq!((shown.header("etag"), &shown.json()["spec"]["to"][0]["default"]["idleTimeout"]), ("\"2\"", &json!("2s")));
    let unmodified = api.call(Method::GET, PATH, &[("if-none-match", "\"2\"")], Body::empty()).await.expect(304);
    assert_eq!(unmodified.text, "");
    api.call(Method::DELETE, PATH, &[("if-match", "\"1\"")], Body::empty()).await.expect(412);
    api.call(Method::DELETE, PATH, &[("if-match", "\"2\"")], Body::empty()).await.expect(200);
    api.delete(PATH).await.expect(404);
}

#[tokio::test]
async fn of_many_writers_with_one_precondition_one_wins() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let tries = (0..32).map(|i| {
        let api = &api;
        let mut document = timeout("all", "default");
        document["spec"]["to"][0]["default"]["idleTimeout"] = json!(format!("{}s", i + 1));
        let headers = [("content-type", "application/json"), ("if-match", "\"1\"")];
        async move { api.call(Method::PUT, PATH, &headers, document.to_string()).await.status.as_u16() }
    });
    let mut statuses = futures::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1], statuses[31]), (200, 412, 412));
}

#[tokio::test]
async fn a_dry_run_judges_and_changes_nothing() {
    let api = Api::global().await;
    let mut document = timeout("all", "default");
    document["spec"]["surprise"] = json!(1);
    let answer = api.put(&format!("{PATH}?dry_run=true"), document).await.expect(200).json();
    assert!(answer["warnings"][0].as_str().unwrap().contains("spec.surprise"), "{answer}");
    api.get(PATH).await.expect(404);
    api.put(&format!("{PATH}?dry_run=maybe"), timeout("all", "default")).await.expect(400);
}

#[tokio::test]
async fn a_read_waits_for_the_revision_that_its_client_has_seen() {
    let api = Api::global().await;
    let now = api.store.snapshot().revision().0;
    api.get(&format!("/meshes?min-revision={now}")).await.expect(200);
    let late = api.get(&format!("/meshes?min-revision={}", now + 1)).await.expect(503);
    assert_eq!(late.header("retry-after"), "1");
    api.get("/meshes?min-revision=soon").await.expect(400);
}

#[tokio::test]
async fn history_names_who_wrote() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let history = api.store.history(&atoll_store::HistoryFilter::default()).await.unwrap();
    assert!(history.iter().all(|entry| entry.subject == "user:alice"), "{history:?}");
    assert_eq!(history.len(), 2);
}

#[tokio::test]
async fn the_tag_of_what_is_shown_with_its_status_is_good_for_writes() {
    let api = Api::zone("azure", true).await;
    let path = "/meshes/default/meshservices/api";
    let document = json!({
        "type": "MeshService", "name": "api", "mesh": "default", "labels": {"kuma.io/origin": "zone"},
        "spec": {"selector": {"dataplaneLabels": {"matchLabels": {"app": "api"}}}, "ports": [{"port": 80}]},
    });
    let written = api.put(path, document.clone()).await.expect(201);
    let shown = api.get(path).await.expect(200);
    let tag = shown.header("etag");
    assert_ne!(tag, written.header("etag"), "how it fares is shown, too, and is no part of its version");
    api.call(Method::GET, path, &[("if-none-match", tag)], Body::empty()).await.expect(304);
    let put = |tag: &str| {
        let mut document = document.clone();
        document["labels"]["team"] = json!("x");
        let headers = [("content-type", "application/json"), ("if-match", tag)].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let api = &api;
        async move {
            let headers: Vec<_> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            api.call(Method::PUT, path, &headers, document.to_string()).await
        }
    };
    put(tag).await.expect(200);
    put(tag).await.expect(412);
}
