//! Every call that `kumactl` makes, with its headers and bodies, and what it reads in the answers.

use std::collections::BTreeSet;

use atoll_model::Kind;
use http::Method;
use serde_json::{Value, json};

use crate::scene::Scene;

/// A Kuma user's client.
struct Kumactl {
    http: reqwest::Client,
    url: String,
    token: String,
}

struct Answer {
    status: u16,
    content_type: String,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Kumactl {
    fn of(scene: &Scene) -> Self {
        let ca = reqwest::Certificate::from_pem(scene.operator("ca").as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).http1_only().no_proxy().build().unwrap();
        Self { http, url: scene.operator("url"), token: scene.operator("token") }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>, token: Option<&str>) -> Answer {
        let url =
            if path.starts_with("https://") { path.to_owned() } else { format!("{}{path}", self.url.trim_end_matches('/')) };
        let mut request = self.http.request(method, url);
        request = request.header("user-agent", "kumactl/3.0.0 (linux; amd64; Kuma/348b6528)").header("accept-encoding", "gzip");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            text: response.text().await.unwrap(),
        }
    }

    /// Each command asks first who answers.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.send(Method::GET, "/", None, Some(&self.token)).await.json(200);
        self.send(method, path, body, Some(&self.token)).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await.json(200)
    }

    /// `apply` of one document: a GET that tells create from update, then a PUT with fields that the client leaves at zero.
    async fn apply(&self, path: &str, document: Value) -> Answer {
        let there = self.call(Method::GET, path, None).await;
        let zero = "0001-01-01T00:00:00Z";
        let mut body = json!({"creationTime": zero, "modificationTime": zero, "kri": ""});
        body.as_object_mut().unwrap().extend(document.as_object().unwrap().clone());
        let answer = self.call(Method::PUT, path, Some(&body)).await;
        if answer.status < 300 {
            assert_eq!(answer.status, if there.status == 404 { 201 } else { 200 }, "{}", answer.text);
            let warnings = &answer.json(answer.status)["warnings"];
            assert!(warnings.is_null() || warnings.as_array().is_some_and(|all| all.iter().all(Value::is_string)), "{warnings}");
        }
        answer
    }
}

/// What `kumactl` decodes of every list.
#[track_caller]
fn check_list(list: &Value) -> Vec<Value> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}")).clone();
    assert!(list["total"].as_u64().is_some() && (list["next"].is_null() || list["next"].is_string()), "{list}");
    for item in &items {
        for field in ["type", "name", "creationTime", "modificationTime"] {
            assert!(item[field].is_string(), "{field}: {item}");
        }
        chrono::DateTime::parse_from_rfc3339(item["creationTime"].as_str().unwrap()).unwrap();
    }
    items
}

/// What it shows of an error.
#[track_caller]
fn check_error(answer: &Answer, status: u16) -> Value {
    let error = answer.json(status);
    assert_eq!((error["type"].as_str(), error["status"].as_u64()), (Some("/std-errors"), Some(u64::from(status))), "{error}");
    assert!(!error["title"].as_str().unwrap().is_empty() && !error["detail"].as_str().unwrap().is_empty(), "{error}");
    assert_eq!(error["details"], error["detail"]);
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_is_added_without_a_token() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    let index = kumactl.send(Method::GET, "/", None, None).await.json(200);
    assert_eq!(index["product"], "Kuma");
    for field in ["version", "hostname", "instanceId", "clusterId"] {
        assert!(!index[field].as_str().unwrap().is_empty(), "{field}: {index}");
    }
    let refused = kumactl.send(Method::GET, "/meshes", None, None).await;
    check_error(&refused, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_listed_read_applied_and_deleted() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    let mesh = json!({"type": "Mesh", "name": "shop", "labels": {}});
    assert_eq!(kumactl.apply("/meshes/shop", mesh.clone()).await.status, 201);
    assert_eq!(kumactl.apply("/meshes/shop", mesh).await.status, 200);
    let timeout = json!({
        "type": "MeshTimeout", "mesh": "shop", "name": "all", "labels": {"team": "a"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "1h0m0s"}}]},
    });
    assert_eq!(kumactl.apply("/meshes/shop/meshtimeouts/all", timeout.clone()).await.status, 201);
    let read = kumactl.get("/meshes/shop/meshtimeouts/all").await;
    for (field, wanted) in
        [("type", json!("MeshTimeout")), ("mesh", json!("shop")), ("name", json!("all")), ("spec", timeout["spec"].clone())]
    {
        assert_eq!(read[field], wanted, "{read}");
    }
    assert!(read["kri"].is_string() && read["labels"]["team"] == "a", "{read}");
    // What was read is applied again as it is.
    assert_eq!(kumactl.apply("/meshes/shop/meshtimeouts/all", read.clone()).await.status, 200);
    assert_eq!(kumactl.get("/meshes/shop/meshtimeouts/all").await, read);

    let kinds = kumactl.get("/_resources").await["resources"].as_array().unwrap().clone();
    assert!(kinds.len() >= Kind::ALL.len() - 1);
    for kind in &kinds {
        for field in ["name", "path", "scope", "singularDisplayName", "pluralDisplayName"] {
            assert!(kind[field].is_string(), "{field}: {kind}");
        }
        assert!(kind["includeInFederation"].is_boolean() && kind["readOnly"].is_boolean(), "{kind}");
        let path = kind["path"].as_str().unwrap();
        let list = if kind["scope"] == "Mesh" { format!("/meshes/shop/{path}") } else { format!("/{path}") };
        check_list(&kumactl.get(&list).await);
    }
    for path in ["/meshes/shop/meshtimeouts/nope", "/meshes/nope", "/zones/nope"] {
        check_error(&kumactl.call(Method::GET, path, None).await, 404);
        check_error(&kumactl.call(Method::DELETE, path, None).await, 404);
    }
    assert_eq!(kumactl.call(Method::DELETE, "/meshes/shop/meshtimeouts/all", None).await.json(200), json!({}));
    assert_eq!(kumactl.call(Method::DELETE, "/meshes/shop", None).await.json(200), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_lead_to_the_next_one() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    for name in ["a", "b", "c", "d"] {
        kumactl.apply(&format!("/meshes/{name}"), json!({"type": "Mesh", "name": name})).await;
    }
    let mut names = Vec::new();
    let mut path = "/meshes?size=2".to_owned();
    loop {
        let list = kumactl.get(&path).await;
        assert_eq!(list["total"], 5);
        names.extend(check_list(&list).iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        // The client takes `offset` from the URL and sends it with its own size.
        let Some(next) = list["next"].as_str() else { break };
        let next: reqwest::Url = next.parse().unwrap();
        let offset = next.query_pairs().find(|(key, _)| key == "offset").unwrap().1.into_owned();
        path = format!("/meshes?offset={offset}&size=2");
    }
    assert_eq!(names, ["a", "b", "c", "d", "default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_read_with_their_faults() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    let bad = json!({"type": "MeshTimeout", "mesh": "default", "name": "a", "spec": {"to": [{"targetRef": {"kind": "Mesh"}, "default": {}}]}});
    let error = check_error(&kumactl.apply("/meshes/default/meshtimeouts/a", bad).await, 400);
    let fault = &error["invalid_parameters"][0];
    assert!(fault["field"].as_str().unwrap().starts_with("spec.to[0]") && fault["reason"].is_string(), "{error}");
    assert_eq!((&error["causes"][0]["field"], &error["causes"][0]["message"]), (&fault["field"], &fault["reason"]));
    let dataplane = json!({"type": "Dataplane", "mesh": "default", "name": "a", "networking": {"address": "10.0.0.1"}});
    let error = check_error(&kumactl.apply("/meshes/default/dataplanes/a", dataplane).await, 405);
    assert!(error["detail"].as_str().unwrap().contains("zone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_and_meshes_are_inspected() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    kumactl.apply("/zones/gcp", json!({"type": "Zone", "name": "gcp", "enabled": true})).await;
    let zones = check_list(&kumactl.get("/zones/_overview").await);
    assert_eq!((zones[0]["name"].as_str(), zones[0]["zone"]["enabled"].as_bool()), (Some("gcp"), Some(true)), "{zones:?}");
    assert!(zones[0]["zoneInsight"].is_object(), "{zones:?}");
    let meshes = check_list(&kumactl.get("/mesh-insights").await);
    assert_eq!(meshes[0]["name"], "default");
    assert_eq!((&meshes[0]["dataplanes"]["total"], &meshes[0]["dataplanes"]["online"]), (&json!(0), &json!(0)));
    assert_eq!(kumactl.get("/mesh-insights/default").await["type"], "MeshInsight");
    check_error(&kumactl.call(Method::GET, "/mesh-insights/nope", None).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn dataplanes_are_listed_and_inspected() {
    let scene = Scene::zone().await;
    let kumactl = Kumactl::of(&scene);
    let dataplane = json!({
        "type": "Dataplane", "mesh": "default", "name": "web-1", "labels": {"app": "web"},
        "networking": {"address": "10.0.0.1", "inbound": [{"port": 8080, "name": "http"}]},
    });
    assert_eq!(kumactl.apply("/meshes/default/dataplanes/web-1", dataplane).await.status, 201);
    let listed = check_list(&kumactl.get("/meshes/default/dataplanes").await);
    assert_eq!((&listed[0]["networking"]["address"], &listed[0]["labels"]["app"]), (&json!("10.0.0.1"), &json!("web")));
    assert!(listed[0]["spec"].is_null(), "its fields stand beside the metadata");
    for (query, found) in [("", 1), ("?tag=app%3Aweb", 1), ("?tag=app%3Adb", 0)] {
        let overviews = check_list(&kumactl.get(&format!("/meshes/default/dataplanes/_overview{query}")).await);
        assert_eq!(overviews.len(), found, "{query}");
        for overview in overviews {
            assert_eq!(overview["dataplane"]["networking"]["inbound"][0]["port"], 8080);
            assert!(overview["dataplaneInsight"].is_object(), "{overview}");
        }
    }
    let mesh = kumactl.get("/mesh-insights/default").await;
    assert_eq!(mesh["dataplanes"], json!({"total": 1, "online": 0, "offline": 1}), "no proxy is connected");
}

/// A refusal with its reason is better than an empty answer that reads like "nothing applies".
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_said_with_the_reason() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    for path in [
        "/meshes/default/dataplanes/a/_policies",
        "/meshes/default/dataplanes/a/policies",
        "/meshes/default/dataplanes/a/xds?include_eds=false",
        "/meshes/default/dataplanes/a/stats",
        "/meshes/default/dataplanes/a/clusters",
        "/meshes/default/dataplanes/a/_config?shadow=false&include=",
        "/meshes/default/meshtimeouts/all/dataplanes",
        "/meshes/default/meshtlses/all/_resources/dataplanes",
    ] {
        let answer = kumactl.call(Method::GET, path, None).await;
        let error = check_error(&answer, 501);
        assert!(error["detail"].as_str().unwrap().contains("this plane does not"), "{path}: {error}");
        check_error(&kumactl.send(Method::GET, path, None, None).await, 401);
    }
    for file in ["global.json", "zone.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi").join(file);
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        assert!(!text.contains("/_policies\"") && !text.contains("/xds\""), "what is not served is not promised");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_generated_as_plain_text() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    let dataplane = json!({"name": "web-1", "mesh": "default", "tags": {"app": ["web"]}, "type": "dataplane", "workload": "", "validFor": "1h0m0s"});
    let untagged = json!({"name": "", "mesh": "default", "tags": null, "type": "", "workload": "web", "validFor": "24h0m0s"});
    let user = json!({"name": "eve", "groups": ["team-a"], "validFor": "1h0m0s"});
    let zone = json!({"zone": "gcp", "scope": ["cp"], "validFor": "30m0s"});
    for (what, body, begin) in
        [("dataplane", &dataplane, "ey"), ("dataplane", &untagged, "ey"), ("user", &user, "ey"), ("zone", &zone, "zj1.")]
    {
        let answer = kumactl.call(Method::POST, &format!("/tokens/{what}"), Some(body)).await;
        assert!(answer.status == 200 && answer.content_type.starts_with("text/plain"), "{what}: {}", answer.text);
        assert!(answer.text.starts_with(begin) && answer.text.trim() == answer.text, "{what}: {}", answer.text);
    }
    let error = kumactl.call(Method::POST, "/tokens/user", Some(&json!({"name": "", "groups": null, "validFor": ""}))).await;
    let error = check_error(&error, 400);
    assert_eq!(error["invalid_parameters"].as_array().unwrap().len(), 2, "{error}");
    let eve = kumactl.call(Method::POST, "/tokens/user", Some(&user)).await.text;
    let denied = kumactl.send(Method::GET, "/config", None, Some(&eve)).await;
    check_error(&denied, 403);
}

/// `export`: what of the federation another global would be given.
#[tokio::test(flavor = "multi_thread")]
async fn a_federation_is_exported() {
    let scene = Scene::global().await;
    let kumactl = Kumactl::of(&scene);
    let resources = kumactl.get("/_resources").await["resources"].as_array().unwrap().clone();
    let wanted: BTreeSet<&str> =
        resources.iter().filter(|kind| kind["includeInFederation"] == true).map(|kind| kind["name"].as_str().unwrap()).collect();
    assert!(wanted.contains("Mesh") && !wanted.contains("Dataplane") && !wanted.contains("Zone"), "{wanted:?}");
    for mesh in check_list(&kumactl.get("/meshes").await) {
        check_list(&kumactl.get(&format!("/meshes/{}/secrets", mesh["name"].as_str().unwrap())).await);
    }
    check_list(&kumactl.get("/globalsecrets").await);
}
