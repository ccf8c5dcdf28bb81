//! `Idempotency-Key`: a repeat does nothing and is answered as the first time.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::support::{Answer, Api, timeout};

const PATH: &str = "/meshes/default/meshtimeouts/all";

async fn put(api: &Api, key: &str, document: serde_json::Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    api.call(Method::PUT, PATH, &headers, document.to_string()).await
}

fn same(first: &Answer, again: &Answer) {
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_eq!(first.header("atoll-revision"), again.header("atoll-revision"));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
}

#[tokio::test]
async fn a_repeated_put_is_answered_alike_and_writes_once() {
    let api = Api::global().await;
    let mut document = timeout("all", "default");
    document["spec"]["surprise"] = json!(1);
    let first = put(&api, "k1", document.clone()).await.expect(201);
    let again = put(&api, "k1", document.clone()).await.expect(201);
    same(&first, &again);
    assert_eq!((first.header("etag"), again.header("etag")), ("\"1\"", "\"1\""));
    assert!(again.text.contains("spec.surprise"), "the warnings, too: {}", again.text);
    let other = put(&api, "k1", timeout("all", "default")).await.expect(422).json();
    assert!(other["detail"].as_str().unwrap().contains("Idempotency-Key"), "{other}");
    let history = api.get(&format!("{PATH}/_history")).await.expect(200).json();
    assert_eq!(history["items"].as_array().unwrap().len(), 1);
    // Written since by somebody else: the answer is that of then, and it does not take the other's write back.
    api.put(PATH, timeout("all", "default")).await.expect(200);
    let late = put(&api, "k1", document).await.expect(201);
    same(&first, &late);
    assert_eq!(late.header("etag"), "", "the version of then would match nothing any more");
    assert_eq!(api.get(PATH).await.json()["spec"]["surprise"], json!(null));
}

#[tokio::test]
async fn a_repeat_of_what_would_be_refused_today_is_still_a_repeat() {
    let api = Api::global().await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k"), ("if-none-match", "*")];
    let document = timeout("all", "default").to_string();
    let create = || api.call(Method::PUT, PATH, &headers, document.clone());
    let first = create().await.expect(201);
    same(&first, &create().await.expect(201));
    let delete = || api.call(Method::DELETE, PATH, &[("idempotency-key", "d")], Body::empty());
    let deleted = delete().await.expect(200);
    same(&deleted, &delete().await.expect(200));
    api.delete("/meshes/default").await.expect(200);
    same(&first, &create().await.expect(201));
    api.get(PATH).await.expect(404);
    let moved = api.call(Method::DELETE, PATH, &[("idempotency-key", "k")], Body::empty()).await;
    moved.expect(422);
}

#[tokio::test]
async fn a_repeated_apply_tells_the_same_of_each_document() {
    let api = Api::global().await;
    let list = json!([
        timeout("all", "default"), {"type": "Mesh", "name": "BAD"}, timeout("x", "nope"), {"type": "Mesh", "name": "default"},
    ]);
    let headers = [("content-type", "application/json"), ("idempotency-key", "bulk")];
    let apply = || api.call(Method::POST, "/_apply?atomic=false", &headers, list.to_string());
    let first = apply().await.expect(200);
    let results = |answer: &Answer| -> Vec<String> {
        let results = answer.json()["results"].as_array().unwrap().clone();
        results.iter().map(|one| one["result"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(results(&first), ["created", "refused", "refused", "unchanged"]);
    // What was refused then could be written now: the repeat must not do it.
    api.put("/meshes/nope", json!({"type": "Mesh", "name": "nope"})).await.expect(201);
    let again = apply().await.expect(200);
    assert_eq!(results(&again), results(&first));
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("atoll-revision"), first.header("atoll-revision"));
    api.get("/meshes/nope/meshtimeouts/x").await.expect(404);
}

#[tokio::test]
async fn a_refused_request_keeps_no_key_and_keys_are_of_one_subject() {
    let api = Api::global().await;
    let mut bad = timeout("all", "default");
    bad["spec"]["to"][0]["default"] = json!({});
    put(&api, "k", bad).await.expect(400);
    put(&api, "k", timeout("all", "default")).await.expect(201);
    let as_other = [("content-type", "application/json"), ("idempotency-key", "k"), ("authorization", "Bearer carol-token")];
    let answer = api.call(Method::PUT, PATH, &as_other, timeout("all", "default").to_string()).await.expect(200);
    assert_eq!(answer.header("idempotent-replayed"), "", "another person's key is another key");
}

#[tokio::test]
async fn keys_at_their_edges() {
    let api = Api::global().await;
    for bad in ["", "a b", &"k".repeat(256)] {
        let refused = put(&api, bad, timeout("all", "default")).await.expect(400);
        assert_eq!(refused.fields(), ["Idempotency-Key"], "{bad:?}");
    }
    put(&api, &"k".repeat(255), timeout("all", "default")).await.expect(201);
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    api.call(Method::DELETE, PATH, &twice, Body::empty()).await.expect(400);
    // A dry run is no request to remember.
    let path = format!("{PATH}?dry_run=true");
    let headers = [("content-type", "application/json"), ("idempotency-key", "dry")];
    for _ in 0..2 {
        let answer = api.call(Method::PUT, &path, &headers, timeout("all", "default").to_string()).await.expect(200);
        assert_eq!(answer.header("idempotent-replayed"), "");
    }
}
