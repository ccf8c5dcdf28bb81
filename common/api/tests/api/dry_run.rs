//! `?dry_run=true`: what a write would do, with the same refusals; and what is stored without effect.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Api, timeout};

const PATH: &str = "/meshes/default/meshtimeouts/all";

#[tokio::test]
async fn a_put_tells_what_it_would_create_and_change() {
    let api = Api::global().await;
    let dry = format!("{PATH}?dry_run=true");
    let document = timeout("all", "default");
    let before = api.store.snapshot().revision();
    let created = api.put(&dry, document.clone()).await.expect(200).json();
    assert_eq!((&created["result"], &created["dryRun"]), (&json!("created"), &json!(true)));
    assert_eq!(created["changes"], json!([{"field": "spec", "after": document["spec"]}]));
    api.put(PATH, document.clone()).await.expect(201);
    assert_eq!(api.put(&dry, document.clone()).await.expect(200).json()["result"], "unchanged");
    let mut changed = document;
    changed["labels"] = json!({"team": "x"});
    changed["spec"]["to"][0]["default"]["idleTimeout"] = json!("2h");
    changed["spec"]["surprise"] = json!(1);
    let answer = api.put(&dry, changed).await.expect(200).json();
    assert_eq!(answer["result"], "updated");
    assert_eq!(
        answer["changes"],
        json!([
            {"field": "labels", "after": {"team": "x"}},
            {"field": "spec.surprise", "after": 1},
            {"field": "spec.to[0].default.idleTimeout", "before": "1h", "after": "2h"},
        ])
    );
    assert!(answer["warnings"][0].as_str().unwrap().contains("spec.surprise"), "{answer}");
    assert_eq!(api.store.snapshot().revision().0, before.0 + 1, "nothing but the one write was written");
}

#[tokio::test]
async fn a_dry_run_is_refused_as_the_write_would_be() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    for (method, path, header, status) in [
        (Method::PUT, PATH, ("if-match", "\"7\""), 412),
        (Method::PUT, PATH, ("if-none-match", "*"), 412),
        (Method::PUT, "/meshes/default/meshtimeouts/other", ("if-match", "*"), 412),
        (Method::PUT, "/meshes/nope/meshtimeouts/all", ("x", "x"), 404),
        (Method::PUT, "/meshes/default/meshtimeouts/UPPER", ("x", "x"), 400),
        (Method::DELETE, PATH, ("if-match", "\"7\""), 412),
        (Method::DELETE, "/meshes/default/meshtimeouts/nope", ("x", "x"), 404),
    ] {
        let name = path.rsplit('/').next().unwrap();
        let mesh = path.split('/').nth(2).unwrap();
        let body = || if method == Method::PUT { timeout(name, mesh).to_string() } else { String::new() };
        let headers = [("content-type", "application/json"), header];
        let real = api.call(method.clone(), path, &headers, body()).await;
        let dry = api.call(method.clone(), &format!("{path}?dry_run=true"), &headers, body()).await;
        assert_eq!(dry.status.as_u16(), status, "{method} {path} {header:?}: {}", dry.text);
        let without_instance = |text: &str| {
            let mut document: Value = serde_json::from_str(text).unwrap();
            document["instance"] = json!(null);
            document
        };
        assert_eq!(without_instance(&real.text), without_instance(&dry.text));
    }
}

#[tokio::test]
async fn a_delete_names_what_would_go() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let answer = api.delete("/meshes/default?dry_run=true").await.expect(200).json();
    let going: Vec<_> = answer["results"].as_array().unwrap().iter().map(|one| (&one["type"], &one["name"])).collect();
    assert_eq!(going, [(&json!("Mesh"), &json!("default")), (&json!("MeshTimeout"), &json!("all"))]);
    assert_eq!((&answer["result"], &answer["total"], &answer["dryRun"]), (&json!("deleted"), &json!(2), &json!(true)));
    api.get(PATH).await.expect(200);
}

#[tokio::test]
async fn a_bulk_apply_tells_it_of_each_document() {
    let api = Api::global().await;
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let mut changed = timeout("all", "default");
    changed["spec"]["to"][0]["default"]["idleTimeout"] = json!("2h");
    let list = json!([changed, timeout("new", "default"), {"type": "Mesh", "name": "default"}]).to_string();
    let answer = api.post("/_apply?dry_run=true", "application/json", &list).await.expect(200).json();
    let results: Vec<_> = answer["results"].as_array().unwrap().iter().map(|one| one["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["updated", "created", "unchanged"]);
    assert_eq!(
        answer["results"][0]["changes"],
        json!([{"field": "spec.to[0].default.idleTimeout", "before": "1h", "after": "2h"}])
    );
    let headers = [("content-type", "application/json"), ("if-none-match", "*")];
    for path in ["/_apply?dry_run=true", "/_apply"] {
        api.call(Method::POST, path, &headers, list.clone()).await.expect(412);
    }
    api.get("/meshes/default/meshtimeouts/new").await.expect(404);
}

#[tokio::test]
async fn what_is_stored_without_effect_says_so_everywhere() {
    let api = Api::global().await;
    let path = "/meshes/default/meshexternalservices/db";
    let document = json!({
        "type": "MeshExternalService", "name": "db", "mesh": "default",
        "spec": {"match": {"type": "HostnameGenerator", "port": 5432, "protocol": "tcp"}, "endpoints": [{"address": "1.2.3.4", "port": 5432}]},
    });
    let words = "MeshExternalService is stored, not enforced by this version";
    let refused = api.put(&format!("{path}?strict=true"), document.clone()).await.expect(400);
    assert_eq!(refused.faults(), [("type".to_owned(), "not enforced by this version".to_owned())]);
    api.get(path).await.expect(404);
    let written = api.put(path, document).await.expect(201).json();
    assert_eq!(written["warnings"], json!([words]));
    let shown = api.get(path).await.expect(200).json();
    let condition = json!({"type": "Enforced", "status": "False", "reason": "NotEnforced", "message": words});
    assert_eq!(shown["status"], json!({"vip": {}, "conditions": [condition]}));
    assert_eq!(api.get("/meshexternalservices").await.json()["items"][0], shown, "a list shows the same");
}
