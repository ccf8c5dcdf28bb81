//! `/meshes`: creation, deletion and what goes with it.

use atoll_model::{Kind, ResourceKey};
use atoll_store::{Actor, Write, WriteBatch};
use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::support::{Api, timeout};

#[tokio::test]
async fn a_mesh_is_created_updated_and_read_as_kuma_shows_it() {
    let api = Api::global().await;
    let mesh = json!({"type": "Mesh", "name": "new-mesh"});
    let created = api.put("/meshes/new-mesh", mesh.clone()).await.expect(201);
    assert_eq!(created.json(), json!({"warnings": []}));
    api.put("/meshes/new-mesh", mesh).await.expect(200);
    let shown = api.get("/meshes/new-mesh").await.expect(200);
    assert_eq!(
        shown.json(),
        json!({
            "type": "Mesh", "name": "new-mesh", "creationTime": "2026-01-02T03:04:05Z",
            "modificationTime": "2026-01-02T03:04:05Z", "kri": "kri_m____new-mesh_",
            "labels": {"kuma.io/display-name": "new-mesh", "kuma.io/origin": "global"},
        })
    );
    assert!(shown.text.starts_with("{\n \"type\": \"Mesh\",\n \"name\""), "indented, in Kuma's order: {}", shown.text);
}

#[tokio::test]
async fn unknown_fields_are_kept_and_named() {
    let api = Api::global().await;
    let body = json!({"type": "Mesh", "name": "old", "mtls": {"enabledBackend": "ca-1"}});
    let created = api.put("/meshes/old", body.clone()).await.expect(201).json();
    assert!(created["warnings"][0].as_str().unwrap().contains("mtls"), "{created}");
    assert_eq!(api.get("/meshes/old").await.json()["mtls"]["enabledBackend"], "ca-1");
    let refused = api.put("/meshes/old?strict=true", body).await.expect(400);
    assert_eq!(refused.faults(), [("mtls".to_owned(), "unknown field".to_owned())]);
}

#[tokio::test]
async fn a_bad_name_is_refused_under_kumas_title() {
    let api = Api::global().await;
    let answer = api.put("/meshes/aa.a", json!({"type": "Mesh", "name": "aa.a"})).await.expect(400);
    let document = answer.json();
    assert_eq!(
        (document["title"].as_str(), document["detail"].as_str()),
        (Some("Failed to create a resource"), Some("Resource is not valid"))
    );
    assert_eq!(answer.fields(), ["name"]);
    assert_eq!(document["details"], document["detail"]);
    assert_eq!(document["causes"][0]["field"], "name");
}

#[tokio::test]
async fn what_is_absent_is_404_with_kumas_titles() {
    let api = Api::global().await;
    let named = [("x-request-id", "r-1")];
    let get = |path: &'static str| api.call(Method::GET, path, &named, Body::empty());
    let expected = |title: &str| {
        json!({
            "type": "/std-errors", "status": 404, "title": title, "detail": "Not found", "details": "Not found", "instance": "r-1",
        })
    };
    assert_eq!(get("/meshes/nope").await.expect(404).json(), expected("Could not retrieve a resource"));
    let deleted = api.call(Method::DELETE, "/meshes/nope", &named, Body::empty()).await;
    assert_eq!(deleted.expect(404).json(), expected("Could not delete a resource"));
    assert_eq!(get("/meshes/nope/meshtimeouts").await.expect(404).json(), expected("Failed to retrieve Mesh"));
    let put = api.put("/meshes/nope/meshtimeouts/a", timeout("a", "nope")).await.expect(404).json();
    assert_eq!(put["title"], "Failed to retrieve Mesh");
}

#[tokio::test]
async fn a_deleted_mesh_takes_what_is_in_it_along_in_one_step() {
    let api = Api::global().await;
    api.put("/meshes/gone", json!({"type": "Mesh", "name": "gone"})).await.expect(201);
    for name in ["a", "b"] {
        api.put(&format!("/meshes/gone/meshtimeouts/{name}"), timeout(name, "gone")).await.expect(201);
    }
    api.put("/meshes/default/meshtimeouts/kept", timeout("kept", "default")).await.expect(201);
    let before = api.store.snapshot().revision();
    let deleted = api.delete("/meshes/gone").await.expect(200);
    assert_eq!(deleted.text.trim(), "{}");
    assert_eq!(deleted.header("atoll-revision"), (before.0 + 3).to_string());
    assert_eq!(api.get("/meshtimeouts").await.json()["total"], 1);
    api.get("/meshes/gone").await.expect(404);
}

#[tokio::test]
async fn a_mesh_with_dataplanes_stays_and_names_them() {
    let api = Api::global().await;
    let owner = api.give_zone("gcp").await;
    for i in 0..12 {
        let key = ResourceKey::new(Kind::Dataplane, "default", format!("api-{i:02}"), owner);
        api.give(key, json!({"networking": {"address": "10.0.0.1"}})).await;
    }
    let refused = api.delete("/meshes/default").await.expect(400);
    let listed: Vec<_> = (0..10).map(|i| format!("Dataplane api-{i:02} of zone gcp")).collect();
    let reason = "unable to delete mesh, there are still some dataplanes attached";
    assert_eq!(refused.faults(), [("mesh".to_owned(), format!("{reason} (12: {}, …)", listed.join(", ")))]);
    let foretold = api.delete("/meshes/default?dry_run=true").await.expect(400);
    assert_eq!(foretold.faults(), refused.faults(), "a dry run is refused alike");
    api.get("/meshes/default").await.expect(200);
}

#[tokio::test]
async fn a_mesh_that_others_use_stays_and_policies_alone_do_not_keep_it() {
    let api = Api::global().await;
    let owner = api.give_zone("gcp").await;
    api.put("/meshes/default/meshtimeouts/all", timeout("all", "default")).await.expect(201);
    let identity = json!({
        "type": "MeshIdentity", "name": "id", "mesh": "default",
        "spec": {"selector": {"dataplane": {"matchLabels": {}}}, "provider": {"type": "Bundled", "bundled": {
            "autogenerate": {"enabled": true}, "insecureAllowSelfSigned": true}}},
    });
    api.put("/meshes/default/meshidentities/id", identity).await.expect(201);
    api.give(ResourceKey::new(Kind::MeshTimeout, "default", "zones-own", owner), timeout("x", "default")["spec"].clone()).await;
    let refused = api.delete("/meshes/default").await.expect(400);
    let reason = "unable to delete mesh, others still use it: delete these first";
    assert_eq!(
        refused.faults(),
        [("mesh".to_owned(), format!("{reason} (2: MeshIdentity id, MeshTimeout zones-own of zone gcp)"))]
    );
    api.delete("/meshes/default/meshidentities/id").await.expect(200);
    let key = ResourceKey::new(Kind::MeshTimeout, "default", "zones-own", owner);
    api.store.commit(WriteBatch::one(Actor::plane(), Write::delete(key))).await.unwrap();
    api.delete("/meshes/default").await.expect(200);
}

#[tokio::test]
async fn nothing_outlives_a_mesh_that_is_deleted_while_others_write_into_it() {
    let api = Api::global().await;
    for round in 0..10 {
        let mesh = format!("round-{round}");
        api.put(&format!("/meshes/{mesh}"), json!({"type": "Mesh", "name": mesh})).await.expect(201);
        let writes = (0..8).map(|i| {
            let (api, name, mesh) = (&api, format!("t{i}"), mesh.clone());
            async move { api.put(&format!("/meshes/{mesh}/meshtimeouts/{name}"), timeout(&name, &mesh)).await.status.as_u16() }
        });
        let path = format!("/meshes/{mesh}");
        let (statuses, deleted) = futures::join!(futures::future::join_all(writes), api.delete(&path));
        deleted.expect(200);
        assert!(statuses.iter().all(|status| [201, 404].contains(status)), "{statuses:?}");
        assert_eq!(api.get("/meshtimeouts").await.json()["total"], 0, "{statuses:?}");
    }
}
