//! Lists: of a mesh, across meshes, in pages, by name and label.

use atoll_model::{Kind, Labels, ResourceKey, resource::canonical_json};
use atoll_store::{Actor, Write, WriteBatch};
use serde_json::{Value, json};

use crate::support::{Api, timeout};

async fn filled() -> Api {
    let api = Api::global().await;
    api.put("/meshes/other", json!({"type": "Mesh", "name": "other"})).await.expect(201);
    for (mesh, name, team) in [("default", "a", "x"), ("default", "b", "y"), ("default", "cab", "x"), ("other", "a", "x")] {
        let mut document = timeout(name, mesh);
        document["labels"] = json!({"team": team});
        api.put(&format!("/meshes/{mesh}/meshtimeouts/{name}"), document).await.expect(201);
    }
    api
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| format!("{}/{}", item["mesh"].as_str().unwrap_or("-"), item["name"].as_str().unwrap())).collect()
}

async fn check(api: &Api, path: &str, total: u64, expected: &[&str]) {
    let list = api.get(path).await.expect(200).json();
    assert_eq!(
        (list["total"].as_u64(), names(&list)),
        (Some(total), expected.iter().map(|n| (*n).to_owned()).collect()),
        "{path}"
    );
}

#[tokio::test]
async fn lists_are_of_a_mesh_or_of_all_in_order() {
    let api = filled().await;
    check(&api, "/meshes/default/meshtimeouts", 3, &["default/a", "default/b", "default/cab"]).await;
    check(&api, "/meshtimeouts", 4, &["default/a", "default/b", "default/cab", "other/a"]).await;
    check(&api, "/meshes", 2, &["-/default", "-/other"]).await;
    check(&api, "/meshes/other/meshtlses", 0, &[]).await;
}

#[tokio::test]
async fn lists_are_filtered_by_name_and_label() {
    let api = filled().await;
    check(&api, "/meshtimeouts?name=a", 3, &["default/a", "default/cab", "other/a"]).await;
    check(&api, "/meshtimeouts?filter[labels.team]=x&name=ca", 1, &["default/cab"]).await;
    check(&api, "/meshtimeouts?filter%5Blabels.kuma.io%2Fmesh%5D=other", 1, &["other/a"]).await;
    let answer = api.get("/meshes/default/meshtimeouts?filter[labels.team][eq]=x").await.expect(400);
    let field = "/meshes/{mesh}/meshtimeouts.filter[labels.team][eq]".to_owned();
    assert_eq!(answer.faults(), [(field, "advanced filters are not supported".to_owned())]);
    assert_eq!(answer.json()["title"], "Could not retrieve resources");
}

#[tokio::test]
async fn pages_hang_together_while_others_write() {
    let api = filled().await;
    let first = api.get("/meshtimeouts?size=2&name=a&filter[labels.team]=x").await.expect(200).json();
    assert_eq!((names(&first), first["total"].as_u64()), (vec!["default/a".to_owned(), "default/cab".to_owned()], Some(3)));
    let next = first["next"].as_str().unwrap();
    assert!(next.starts_with("http://cp.test:5681/meshtimeouts?size=2&name=a&"), "{next}");
    // The item where the page ended goes, one before it comes: the second page is still what follows.
    api.delete("/meshes/default/meshtimeouts/cab").await.expect(200);
    api.put("/meshes/default/meshtimeouts/aa", timeout("aa", "default")).await.expect(201);
    let second = api.get(next.strip_prefix("http://cp.test:5681").unwrap()).await.expect(200).json();
    assert_eq!((names(&second), &second["next"]), (vec!["other/a".to_owned()], &json!(null)));
}

#[tokio::test]
async fn sizes_are_limited() {
    let api = filled().await;
    for size in ["0", "-1", "x", "1001"] {
        let answer = api.get(&format!("/meshes?size={size}")).await.expect(400);
        assert_eq!((answer.fields(), answer.json()["detail"].as_str()), (vec!["size".to_owned()], Some("Invalid page size")));
    }
    check(&api, "/meshes?size=1000", 2, &["-/default", "-/other"]).await;
    check(&api, "/meshes?size=1&offset=1", 2, &["-/other"]).await;
    api.get("/meshes?offset=kzzz").await.expect(400);
}

#[tokio::test]
async fn every_label_that_is_shown_can_be_filtered_by() {
    let api = filled().await;
    let zone = Api::zone("azure", true).await;
    let owner = zone.give_zone("gcp").await;
    let spec = json!({"selector": {"dataplaneLabels": {"matchLabels": {"app": "api"}}}, "ports": [{"port": 80}]});
    zone.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), spec).await;
    for (api, list, item) in [
        (&api, "/meshes/default/meshtimeouts", "/meshes/default/meshtimeouts/cab"),
        (&zone, "/meshservices", "/meshes/default/meshservices/api"),
    ] {
        let labels = api.get(item).await.expect(200).json()["labels"].as_object().unwrap().clone();
        assert!(labels.len() >= 3, "{labels:?}");
        for (label, value) in labels {
            let value = value.as_str().unwrap();
            let with = |value: &str| format!("{list}?filter[labels.{label}]={value}");
            let found = api.get(&with(value)).await.expect(200).json();
            assert!(found["items"].as_array().unwrap().iter().any(|one| one["labels"][&label] == value), "{label}: {found}");
            let nothing = api.get(&with(&format!("{value}x"))).await.expect(200).json();
            assert_eq!(nothing["total"], 0, "{label}");
        }
    }
    check(&api, "/meshtimeouts?filter[labels.kuma.io/zone]=", 0, &[]).await;
}

#[tokio::test]
async fn dataplanes_are_filtered_by_tag_and_as_gateways() {
    let api = Api::global().await;
    let owner = api.give_zone("gcp").await;
    for (name, app, gateway) in [("a", "orders-v1", false), ("b", "orders-v2", false), ("g", "edge", true)] {
        let mut networking = json!({"address": "10.0.0.1"});
        if gateway {
            networking["gateway"] = json!({"type": "DELEGATED"});
        }
        let key = ResourceKey::new(Kind::Dataplane, "default", name, owner);
        let labels = Labels::from([("app".to_owned(), app.to_owned())]);
        let write = Write::put(key, labels, canonical_json(&json!({"networking": networking})));
        api.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    }
    for (query, expected) in [
        ("gateway=true", 1),
        ("gateway=delegated", 1),
        ("gateway=false", 2),
        ("tag=app:orders", 2),
        ("tag=app:v2", 1),
        ("tag=app:*", 3),
        ("tag=app:orders&tag=kuma.io/zone:gcp", 2),
        ("tag=other:x", 0),
        ("tag=app:orders&gateway=true", 0),
    ] {
        for path in ["/meshes/default/dataplanes", "/meshes/default/dataplanes/_overview", "/dataplanes"] {
            let total = api.get(&format!("{path}?{query}")).await.expect(200).json()["total"].as_u64();
            assert_eq!(total, Some(expected), "{path}?{query}");
        }
    }
    let refused = api.get("/meshes/default/dataplanes?gateway=builtin").await.expect(400);
    let reason = "should use `true`, `false` or `delegated` instead of builtin".to_owned();
    assert_eq!(refused.faults(), [("/meshes/{mesh}/dataplanes.gateway".to_owned(), reason)]);
}

#[tokio::test]
async fn a_list_shows_each_resource_as_get_does() {
    let api = filled().await;
    let list = api.get("/meshes/default/meshtimeouts").await.expect(200).text;
    for name in ["a", "b", "cab"] {
        let item = api.get(&format!("/meshes/default/meshtimeouts/{name}")).await.expect(200).text;
        let indented: Vec<_> = item.trim_end().lines().map(|line| format!("  {line}")).collect();
        assert!(list.contains(&indented.join("\n")), "{list}");
    }
    assert!(
        list.starts_with("{\n \"total\": 3,\n \"items\": [\n  {\n   \"type\"") && list.ends_with("\n ],\n \"next\": null\n}\n")
    );
    let empty = api.get("/meshes/default/meshtlses").await.expect(200).text;
    assert_eq!(empty, "{\n \"total\": 0,\n \"items\": [],\n \"next\": null\n}\n");
    // What changed is shown at once, whatever was rendered before.
    let mut changed = timeout("b", "default");
    changed["labels"] = json!({"team": "z"});
    api.put("/meshes/default/meshtimeouts/b", changed).await.expect(200);
    let list = api.get("/meshes/default/meshtimeouts").await.json();
    assert_eq!(list["items"][1]["labels"]["team"], "z");
}
