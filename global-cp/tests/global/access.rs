//! Tokens that end before their time, and tokens of an identity provider, against a running global.

use std::time::Duration;

use axum::{Json, Router, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::StreamExt;
use http::Method;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{Global, Operator, call, config, https, operator, plain, try_start};

/// A user token that the operator issues.
async fn issue(admin: &Operator, url: &str, name: &str, groups: Value) -> Operator {
    let body = json!({"name": name, "groups": groups, "validFor": "1h"}).to_string();
    let request = https(&admin.ca).post(format!("{url}/tokens/user")).bearer_auth(&admin.token);
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    Operator { token: answer.text().await.unwrap(), ..admin.clone() }
}

async fn give_role(admin: &Operator, url: &str, subject: Value, rules: Value) {
    let role = json!({"type": "AccessRole", "name": "r", "rules": rules});
    let (status, answer) = call(admin, url, Method::PUT, "/access-roles/r", Some(role)).await;
    assert!(status < 300, "{answer}");
    let binding = json!({"type": "AccessRoleBinding", "name": "r", "subjects": [subject], "roles": ["r"]});
    let (status, answer) = call(admin, url, Method::PUT, "/access-role-bindings/r", Some(binding)).await;
    assert!(status < 300, "{answer}");
}

/// An open watch; ends when the plane ends it.
async fn follow(who: &Operator, url: &str) -> tokio::task::JoinHandle<Duration> {
    let response =
        https(&who.ca).get(format!("{url}/meshes?watch=true")).bearer_auth(&who.token).timeout(Duration::from_secs(60));
    let response = response.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut events = response.bytes_stream();
    events.next().await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();
    tokio::spawn(async move {
        while let Some(Ok(_)) = events.next().await {}
        begun.elapsed()
    })
}

async fn ended(watch: tokio::task::JoinHandle<Duration>) {
    tokio::time::timeout(Duration::from_secs(15), watch).await.expect("it ends within 15 s").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_opens_nothing_and_its_open_watches_end() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let (admin, url) = (operator(&data), global.url());
    let eve = issue(&admin, &url, "eve", json!(["mesh-system:admin"])).await;
    let (watch, other) = (follow(&eve, &url).await, follow(&admin, &url).await);
    let body = json!({"token": eve.token, "reason": "lost"});
    let (status, done) = call(&admin, &url, Method::POST, "/tokens/revocations", Some(body)).await;
    assert_eq!(status, 200, "{done}");
    let (status, problem) = call(&eve, &url, Method::GET, "/meshes", None).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().contains("revoked")), (401, true), "{problem}");
    ended(watch).await;
    assert!(!other.is_finished(), "others go on");
    let rows = call(&admin, &url, Method::GET, "/_audit?verb=revoke", None).await.1;
    assert_eq!((&rows["items"][0]["reason"], &rows["items"][0]["decision"]), (&json!("lost"), &json!("allowed")), "{rows}");
    let metrics = plain(global.running.addresses.diagnostics, "/metrics").await.1;
    assert!(metrics.contains("atoll_api_denied_total{decision=\"unauthenticated\"} 1"), "{metrics}");
    other.abort();
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_role_ends_the_watches_that_it_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let (admin, url) = (operator(&data), global.url());
    let read = json!([{"types": ["Mesh"], "access": ["READ"]}]);
    give_role(&admin, &url, json!({"type": "User", "name": "eve"}), read).await;
    let eve = issue(&admin, &url, "eve", json!([])).await;
    let watch = follow(&eve, &url).await;
    assert_eq!(call(&admin, &url, Method::DELETE, "/access-role-bindings/r", None).await.0, 200);
    ended(watch).await;
    assert_eq!(call(&eve, &url, Method::GET, "/meshes", None).await.0, 403);
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_ends_the_operators_old_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let old = operator(&data);
    global.stop().await;
    // The file is lost; what it held is revoked all the same.
    std::fs::remove_file(data.join("operator.yaml")).unwrap();
    atoll_global_cp::reset_operator(&config(&data, None, &[])).await.unwrap();
    let global = Global::start(&data, None).await;
    assert_eq!(call(&old, &global.url(), Method::GET, "/meshes", None).await.0, 401);
    assert_eq!(call(&operator(&data), &global.url(), Method::GET, "/meshes", None).await.0, 200);
    global.stop().await;
}

/// A local identity provider over TLS, whose keys can be replaced.
struct Provider {
    issuer: String,
    ca: String,
    keys: watch::Sender<Value>,
    server: tokio::task::JoinHandle<()>,
}

/// A key of a provider.
struct Key {
    kid: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { kid: kid.to_owned(), pair }
    }

    fn published(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": part(&point[1..33]), "y": part(&point[33..])})
    }

    fn token(&self, claims: Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.kid}).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Provider {
    async fn start(keys: Value) -> Self {
        use atoll_runtime::tls::{self, ClientAuth, ServerIdentity, TlsListener};
        let now = atoll_model::Clock::now(&atoll_runtime::clock::SystemClock);
        let ca = atoll_trust::ca::ZoneCa::generate("idp", now, &mut rand::rng()).unwrap();
        let names = atoll_trust::ca::ServerNames::of(["127.0.0.1"]);
        let made = ca.issue_server(&names, chrono::TimeDelta::days(1), now, &mut rand::rng()).unwrap();
        let identity = ServerIdentity::new(&made.chain_pem, made.key_pem.expose()).unwrap();
        let tls = tls::server_config(identity, ClientAuth::None, &[b"http/1.1"]).unwrap();
        let listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
        let issuer = format!("https://{}", listener.local_addr());
        let (sender, shown) = watch::channel(keys);
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { Json(discovery) }))
            .route("/keys", get(move || async move { Json(shown.borrow().clone()) }));
        let server = tokio::spawn(atoll_api::serve::serve(
            listener,
            router,
            atoll_api::serve::Scheme::Https,
            atoll_api::serve::Gate::new(atoll_api::Limits::default(), atoll_api::serve::Hosts::any()),
            tokio_util::sync::CancellationToken::new(),
        ));
        Self { issuer, ca: ca.cert_pem().to_owned(), keys: sender, server }
    }

    fn claims(&self, groups: Value) -> Value {
        let now = atoll_model::Clock::now(&atoll_runtime::clock::SystemClock).timestamp();
        json!({"iss": self.issuer, "aud": "atoll", "sub": "ann", "groups": groups, "exp": now + 600})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_with_tokens_of_their_identity_provider() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (first, second) = (Key::new("1"), Key::new("2"));
    let provider = Provider::start(json!({"keys": [first.published()]})).await;
    let ca = folder.path().join("idp.pem");
    std::fs::write(&ca, &provider.ca).unwrap();
    let ca = ca.to_str().unwrap();
    let flags = [
        "--oidc-issuer",
        &provider.issuer,
        "--oidc-audience",
        "atoll",
        "--oidc-ca-file",
        ca,
        "--oidc-group-map",
        "platform=mesh-system:admin",
    ];
    let global = try_start(config(&data, None, &flags)).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let (admin, url) = (operator(&data), global.url());
    let with = |token: String| Operator { token, ..admin.clone() };

    let ann = with(first.token(provider.claims(json!(["readers", "mesh-system:admin"]))));
    let (status, who) = call(&ann, &url, Method::GET, "/who-am-i", None).await;
    assert_eq!((status, &who["name"]), (200, &json!("oidc:ann")), "{who}");
    assert_eq!(who["groups"], json!(["readers", "mesh-system:authenticated"]), "nobody names themselves an administrator");
    assert_eq!(call(&ann, &url, Method::GET, "/meshes", None).await.0, 403);
    let read = json!([{"types": ["Mesh"], "access": ["READ"]}]);
    give_role(&admin, &url, json!({"type": "Group", "name": "readers"}), read).await;
    assert_eq!(call(&ann, &url, Method::GET, "/meshes", None).await.0, 200);
    let boss = with(first.token(provider.claims(json!(["platform"]))));
    assert_eq!(call(&boss, &url, Method::GET, "/config", None).await.0, 200, "a group that the settings map");

    let mut for_others = provider.claims(json!(["platform"]));
    for_others["aud"] = json!("another program");
    for token in
        [first.token(for_others), second.token(provider.claims(json!([]))), Key::new("1").token(provider.claims(json!([])))]
    {
        assert_eq!(call(&with(token), &url, Method::GET, "/who-am-i", None).await.0, 401);
    }
    // A new key is found when the first token comes that it signed.
    tokio::time::sleep(Duration::from_secs(10)).await;
    provider.keys.send_replace(json!({"keys": [second.published()]}));
    let rotated = with(second.token(provider.claims(json!([]))));
    assert_eq!(call(&rotated, &url, Method::GET, "/who-am-i", None).await.0, 200);
    assert_eq!(call(&ann, &url, Method::GET, "/who-am-i", None).await.0, 401, "what the old key signed is not believed any more");
    provider.server.abort();
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_takes_only_its_own_tokens_along() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let flags = ["--oidc-issuer", "https://127.0.0.1:9", "--oidc-audience", "atoll"];
    let global = try_start(config(&data, None, &flags)).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let (admin, url) = (operator(&data), global.url());
    assert_eq!(call(&admin, &url, Method::GET, "/meshes", None).await.0, 200);
    let claims = json!({"iss": "https://127.0.0.1:9", "aud": "atoll", "sub": "ann", "exp": 4_000_000_000_i64});
    let ann = Operator { token: Key::new("1").token(claims), ..admin.clone() };
    let (status, problem) = call(&ann, &url, Method::GET, "/meshes", None).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("https://127.0.0.1:9"), "{problem}");
    global.stop().await;
}
