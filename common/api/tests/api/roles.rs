//! What roles give, hide and keep: over HTTP.

use atoll_model::{Kind, Owner, ResourceKey};
use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::{
    support::{Answer, Api, timeout, zone_uid},
    watch::Events,
};

/// Gives user `name` a role of these rules.
async fn give_role(api: &Api, name: &str, rules: Value) {
    api.put(&format!("/access-roles/{name}"), json!({"type": "AccessRole", "name": name, "rules": rules})).await.expect(201);
    api.put(&format!("/access-role-bindings/{name}"), binding(name, name, &[name])).await.expect(201);
}

fn binding(name: &str, user: &str, roles: &[&str]) -> Value {
    json!({"type": "AccessRoleBinding", "name": name, "subjects": [{"type": "User", "name": user}], "roles": roles})
}

async fn send(api: &Api, user: &str, method: Method, path: &str, body: Value) -> Answer {
    let token = format!("Bearer user:{user}");
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    api.call(method, path, &headers, body).await
}

async fn get(api: &Api, user: &str, path: &str) -> Answer {
    send(api, user, Method::GET, path, Value::Null).await
}

fn names(answer: &Answer) -> Vec<String> {
    let items = answer.json()["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// What a refusal says, without the name of the request.
fn told(answer: &Answer) -> Value {
    let mut told = answer.json();
    told["instance"] = Value::Null;
    told
}

async fn scene() -> Api {
    let api = Api::global().await;
    api.put("/meshes/other", json!({"type": "Mesh", "name": "other"})).await.expect(201);
    for (mesh, name) in [("default", "team-a"), ("default", "team-b"), ("other", "team-a")] {
        api.put(&format!("/meshes/{mesh}/meshtimeouts/{name}"), timeout(name, mesh)).await.expect(201);
    }
    api
}

#[tokio::test]
async fn lists_counts_and_pages_show_only_what_may_be_seen() {
    let api = scene().await;
    give_role(&api, "eve", json!([{"types": ["MeshTimeout"], "mesh": "default", "names": ["team-a*"], "access": ["READ"]}]))
        .await;
    let across = get(&api, "eve", "/meshtimeouts").await.expect(200);
    assert_eq!((names(&across), &across.json()["total"]), (vec!["team-a".to_owned()], &json!(1)));
    let inside = get(&api, "eve", "/meshes/default/meshtimeouts?size=1").await.expect(200);
    assert_eq!((names(&inside), &inside.json()["next"]), (vec!["team-a".to_owned()], &Value::Null));
    // A mesh that is hidden and one that is not there answer alike.
    let hidden = get(&api, "eve", "/meshes/other/meshtimeouts").await.expect(404);
    let absent = get(&api, "eve", "/meshes/nowhere/meshtimeouts").await.expect(404);
    assert_eq!(told(&hidden), told(&absent));
    let hidden = get(&api, "eve", "/meshes/default/meshtimeouts/team-b").await.expect(404);
    let absent = get(&api, "eve", "/meshes/default/meshtimeouts/team-c").await.expect(404);
    assert_eq!(told(&hidden), told(&absent));
    get(&api, "eve", "/meshes").await.expect(403);
}

#[tokio::test]
async fn watches_tell_nothing_of_what_is_hidden() {
    let api = scene().await;
    let rules = json!([{"types": ["MeshTimeout"], "mesh": "default", "names": ["team-a*"], "access": ["WATCH"]}]);
    give_role(&api, "eve", rules).await;
    get(&api, "eve", "/meshtimeouts").await.expect(403);
    let mut events = Events::of(&api, "/meshtimeouts?watch=true", "user:eve", "").await;
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["name"], &data["mesh"]), ("put", &json!("team-a"), &json!("default")));
    assert_eq!(events.next().await.0, "revision");
    // Written, changed and removed out of their sight; then within.
    for (mesh, name) in [("default", "team-b"), ("other", "team-a")] {
        let path = format!("/meshes/{mesh}/meshtimeouts/{name}");
        api.put(&path, serde_json::from_str(&timeout(name, mesh).to_string().replace("1h", "2h")).unwrap()).await.expect(200);
        api.delete(&path).await.expect(200);
    }
    api.delete("/meshes/default/meshtimeouts/team-a").await.expect(200);
    let told = loop {
        let (event, data) = events.next().await;
        if event != "revision" {
            break (event, data["name"].clone(), data["mesh"].clone());
        }
    };
    assert_eq!(told, ("delete".to_owned(), json!("team-a"), json!("default")));
}

#[tokio::test]
async fn kris_tell_nothing_of_what_is_hidden() {
    let api = scene().await;
    give_role(&api, "eve", json!([{"types": ["MeshTimeout"], "mesh": "default", "access": ["READ"]}])).await;
    let kri = |answer: Answer| answer.json()["kri"].as_str().unwrap().to_owned();
    let own = kri(api.get("/meshes/default/meshtimeouts/team-a").await);
    let other = kri(api.get("/meshes/other/meshtimeouts/team-a").await);
    get(&api, "eve", &format!("/_kri/{own}")).await.expect(200);
    let mesh = kri(api.get("/meshes/other").await);
    let absent = get(&api, "eve", "/_kri/kri_mt_default___nothing_").await.expect(404);
    for hidden in [other, mesh] {
        assert_eq!(told(&get(&api, "eve", &format!("/_kri/{hidden}")).await.expect(404)), told(&absent));
    }
}

#[tokio::test]
async fn writes_need_the_right_verb_on_the_right_object() {
    let api = scene().await;
    give_role(
        &api,
        "eve",
        json!([
            {"types": ["MeshTimeout"], "mesh": "default", "access": ["READ", "CREATE"]},
            {"types": ["MeshTimeout"], "names": ["team-a"], "mesh": "default", "access": ["UPDATE"]},
        ]),
    )
    .await;
    let put = |mesh: &'static str, name: &'static str| {
        let path = format!("/meshes/{mesh}/meshtimeouts/{name}");
        let api = &api;
        async move { send(api, "eve", Method::PUT, &path, timeout(name, mesh)).await.status.as_u16() }
    };
    assert_eq!(put("default", "new").await, 201);
    assert_eq!(put("default", "new").await, 403, "to create is not to change");
    assert_eq!(put("default", "team-a").await, 200);
    assert_eq!(put("other", "new").await, 404, "a mesh that is hidden");
    assert_eq!(send(&api, "eve", Method::DELETE, "/meshes/default/meshtimeouts/team-a", Value::Null).await.status.as_u16(), 403);
    let denied = send(&api, "eve", Method::DELETE, "/meshes/default/meshtimeouts/team-a", Value::Null).await;
    assert!(denied.text.contains("DELETE"), "{}", denied.text);
}

#[tokio::test]
async fn an_apply_does_nothing_when_one_document_may_not_be_written() {
    let api = scene().await;
    give_role(&api, "eve", json!([{"types": ["MeshTimeout"], "mesh": "default", "access": ["READ", "CREATE", "UPDATE"]}])).await;
    let documents = json!([timeout("one", "default"), timeout("two", "other")]);
    let refused = send(&api, "eve", Method::POST, "/_apply", documents.clone()).await;
    assert_eq!(refused.status.as_u16(), 400.max(refused.status.as_u16()), "{}", refused.text);
    assert!(!refused.status.is_success());
    get(&api, "eve", "/meshes/default/meshtimeouts/one").await.expect(404);
    let apart = send(&api, "eve", Method::POST, "/_apply?atomic=false", documents).await.expect(200);
    let results: Vec<_> = apart.json()["results"].as_array().unwrap().iter().map(|one| one["result"].clone()).collect();
    assert_eq!(results, ["created", "refused"]);
    api.get("/meshes/other/meshtimeouts/two").await.expect(404);
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_hold() {
    let api = scene().await;
    let own = json!([
        {"types": ["MeshTimeout"], "mesh": "default", "access": ["READ", "UPDATE"]},
        {"types": ["AccessRole", "AccessRoleBinding"], "access": ["READ", "CREATE", "UPDATE", "DELETE"]},
        {"access": ["GENERATE_USER_TOKEN"]},
    ]);
    give_role(&api, "eve", own).await;
    let role = |name: &str, rules: Value| json!({"type": "AccessRole", "name": name, "rules": rules});
    let put = |path: &'static str, document: Value| {
        let api = &api;
        async move { send(api, "eve", Method::PUT, path, document).await }
    };
    let within = json!([{"types": ["MeshTimeout"], "names": ["a"], "mesh": "default", "access": ["GET"]}]);
    put("/access-roles/small", role("small", within.clone())).await.expect(201);
    put("/access-role-bindings/small", binding("small", "bob", &["small"])).await.expect(201);
    for wider in [
        json!([{"types": ["MeshTimeout"], "access": ["GET"]}]),
        json!([{"types": ["MeshTimeout"], "mesh": "default", "access": ["DELETE"]}]),
        json!([{"types": ["*"], "mesh": "default", "access": ["GET"]}]),
        json!([{"types": ["Secret"], "access": ["READ", "READ_SECRET"]}]),
    ] {
        let refused = put("/access-roles/wide", role("wide", wider.clone())).await.expect(403);
        assert!(refused.text.contains("more than you hold"), "{wider}: {}", refused.text);
    }
    // Neither by widening a role that is bound, nor by binding another's, nor by one that is made later.
    put("/access-roles/small", role("small", json!([{"types": ["*"], "access": ["READ"]}]))).await.expect(403);
    api.put("/access-roles/big", role("big", json!([{"types": ["*"], "accessAll": true}]))).await.expect(201);
    put("/access-role-bindings/mine", binding("mine", "eve", &["big"])).await.expect(403);
    assert_eq!(put("/access-role-bindings/mine", binding("mine", "eve", &["later"])).await.expect(400).fields(), ["roles[0]"]);
    // Nor by many documents at once.
    let both = json!([role("wide", json!([{"types": ["*"], "access": ["READ"]}])), binding("mine", "eve", &["wide"])]);
    send(&api, "eve", Method::POST, "/_apply", both).await.expect(403);
    // Nor by a binding whose role is refused, and made by somebody else later.
    let apart = json!([role("later", json!([])), binding("mine", "eve", &["later"])]);
    let results = send(&api, "eve", Method::POST, "/_apply?atomic=false", apart).await.expect(200).json();
    assert_eq!((&results["results"][0]["result"], &results["results"][1]["result"]), (&json!("refused"), &json!("refused")));
    // What they hold they may give, in any order.
    let both = json!([binding("mine", "bob", &["fine"]), role("fine", within)]);
    send(&api, "eve", Method::POST, "/_apply", both).await.expect(200);
    // Nor by a token of somebody who holds more.
    let token = |name: &str, groups: Value| json!({"name": name, "groups": groups, "validFor": "1h"});
    let issue = |body: Value| {
        let api = &api;
        async move { send(api, "eve", Method::POST, "/tokens/user", body).await.status.as_u16() }
    };
    assert_eq!(issue(token("bob", json!([]))).await, 200);
    assert_eq!(issue(token("zed", json!(["mesh-system:admin"]))).await, 403);
    api.put("/access-role-bindings/boss", binding("boss", "boss", &["big"])).await.expect(201);
    assert_eq!(issue(token("boss", json!([]))).await, 403);
}

#[tokio::test]
async fn a_role_that_is_held_stays() {
    let api = scene().await;
    give_role(&api, "eve", json!([{"types": ["Mesh"], "access": ["READ"]}])).await;
    let refused = api.delete("/access-roles/eve").await.expect(400);
    assert!(refused.text.contains("eve"), "{}", refused.text);
    api.delete("/access-role-bindings/eve").await.expect(200);
    api.delete("/access-roles/eve").await.expect(200);
    get(&api, "eve", "/meshes").await.expect(403);
}

#[tokio::test]
async fn secrets_are_in_no_wildcard() {
    let api = scene().await;
    let secret = json!({"type": "Secret", "mesh": "default", "name": "key", "data": "c2VjcmV0"});
    api.put("/meshes/default/secrets/key", secret).await.expect(201);
    give_role(&api, "all", json!([{"types": ["*"], "accessAll": true}])).await;
    give_role(&api, "named", json!([{"types": ["Secret"], "access": ["READ"]}])).await;
    give_role(&api, "reader", json!([{"types": ["Secret"], "mesh": "default", "access": ["READ", "READ_SECRET"]}])).await;
    let path = "/meshes/default/secrets/key";
    get(&api, "all", path).await.expect(403);
    get(&api, "named", path).await.expect(404);
    assert!(names(&get(&api, "named", "/meshes/default/secrets").await.expect(200)).is_empty());
    assert!(get(&api, "reader", path).await.expect(200).text.contains("c2VjcmV0"));
    // What they may not delete does not go with its mesh either.
    let mesh = "/meshes/default";
    for name in ["team-a", "team-b"] {
        api.delete(&format!("/meshes/default/meshtimeouts/{name}")).await.expect(200);
    }
    let refused = send(&api, "all", Method::DELETE, mesh, Value::Null).await;
    assert!([403, 404].contains(&refused.status.as_u16()), "{}", refused.text);
    api.get(path).await.expect(200);
}

#[tokio::test]
async fn refusals_name_only_what_may_be_seen() {
    let api = scene().await;
    let owner = Owner::Zone(zone_uid("azure"));
    api.give_zone("azure").await;
    for name in ["dp-1", "dp-2"] {
        api.give(ResourceKey::new(Kind::Dataplane, "other", name, owner), json!({})).await;
    }
    give_role(
        &api,
        "eve",
        json!([
            {"types": ["Mesh"], "access": ["READ", "DELETE"]},
            {"types": ["Dataplane"], "names": ["dp-1"], "access": ["READ"]},
        ]),
    )
    .await;
    let refused = send(&api, "eve", Method::DELETE, "/meshes/other", Value::Null).await.expect(400);
    assert!(refused.text.contains("dp-1") && !refused.text.contains("dp-2"), "{}", refused.text);
}

#[tokio::test]
async fn roles_of_other_planes_give_nothing() {
    let api = scene().await;
    let owner = Owner::Zone(zone_uid("azure"));
    api.give(ResourceKey::new(Kind::AccessRole, "", "r", owner), json!({"rules": [{"types": ["*"], "accessAll": true}]})).await;
    let bound = json!({"subjects": [{"type": "User", "name": "eve"}], "roles": ["r"]});
    api.give(ResourceKey::new(Kind::AccessRoleBinding, "", "b", owner), bound).await;
    get(&api, "eve", "/meshes").await.expect(403);
}

#[tokio::test]
async fn denials_and_writes_are_in_the_audit_with_their_request() {
    let api = scene().await;
    let path = "/meshes/default/meshtimeouts/team-a";
    let headers = [("authorization", "Bearer user:eve"), ("x-request-id", "req-1")];
    let denied = api.call(Method::DELETE, path, &headers, Body::empty()).await.expect(403);
    assert_eq!(denied.header("x-request-id"), "req-1");
    let headers = [("x-request-id", "req-2"), ("content-type", "application/json")];
    api.call(Method::PUT, path, &headers, timeout("team-a", "default").to_string().replace("1h", "2h")).await.expect(200);
    let written = api.get("/_audit?request=req-2").await.expect(200).json();
    assert_eq!(written["items"][0]["verb"], "update", "{written}");
    assert_eq!(written["items"][0]["subject"], "user:alice");
    assert_eq!(written["items"][0]["method"], "token");
    let recorded = async {
        loop {
            let rows = api.get("/_audit?request=req-1").await.expect(200).json();
            if rows["items"].as_array().is_some_and(|rows| !rows.is_empty()) {
                return rows["items"][0].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let row = tokio::time::timeout(std::time::Duration::from_secs(10), recorded).await.unwrap();
    assert_eq!((&row["decision"], &row["verb"], &row["subject"]), (&json!("denied"), &json!("delete"), &json!("user:eve")));
    assert_eq!(row["object"], path);
    get(&api, "eve", "/_audit").await.expect(403);
    give_role(&api, "eve", json!([{"access": ["AUDIT"]}])).await;
    get(&api, "eve", "/_audit?decision=denied&size=1").await.expect(200);
}

#[tokio::test]
async fn failed_tokens_are_slowed_down_and_good_ones_are_not() {
    let api = Api::global().await;
    let from = |address: &str, token: &str| {
        let mut request = http::Request::builder()
            .uri("/meshes")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let peer = atoll_api::serve::Peer { address: address.parse().unwrap(), tls: true };
        request.extensions_mut().insert(peer);
        request
    };
    for _ in 0..5 {
        assert_eq!(api.send(from("192.0.2.1:9", "guess")).await.status.as_u16(), 401);
    }
    let slowed = api.send(from("192.0.2.1:10", "guess")).await.expect(429);
    assert_eq!(slowed.header("retry-after"), "1");
    api.send(from("192.0.2.1:11", "admin-token")).await.expect(200);
    api.send(from("192.0.2.2:9", "guess")).await.expect(401);
}

#[tokio::test]
async fn tokens_are_revoked_by_themselves_or_by_name() {
    let api = Api::global().await;
    let revoke = |body: Value| {
        let api = &api;
        async move { api.post("/tokens/revocations", "application/json", &body.to_string()).await }
    };
    let done = revoke(json!({"token": "abc", "reason": "lost"})).await.expect(200).json();
    assert_eq!(done["jti"], "jti-of-abc");
    revoke(json!({"jti": "of-somebody", "until": "2026-02-01T00:00:00Z"})).await.expect(200);
    for bad in [json!({}), json!({"jti": "a", "token": "b"}), json!({"jti": "a", "until": "soon"})] {
        revoke(bad).await.expect(400);
    }
    let listed = api.get("/tokens/revocations").await.expect(200).json();
    assert_eq!(listed["items"][0], json!({"jti": "jti-of-abc", "until": "2026-01-03T00:00:00Z"}));
    assert_eq!((&listed["items"][1]["jti"], &listed["total"]), (&json!("of-somebody"), &json!(2)));
}
