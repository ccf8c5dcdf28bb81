//! Client certificates in place of tokens, over real sockets.

use std::{path::Path, time::Duration};

use atoll_model::{Clock, Timestamp};
use atoll_runtime::{clock::SystemClock, tls};
use chrono::TimeDelta;
use futures::StreamExt;
use http::Method;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use serde_json::{Value, json};

use crate::support::{Global, Operator, call, config, https, operator, try_start};

/// The CA of an operator's people.
struct People(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Identity {
    chain: String,
    key: String,
}

impl People {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn write(&self, folder: &Path) -> String {
        let path = folder.join("people.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn issue(&self, user: Option<&str>, group: &str, until: Timestamp) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        user.into_iter().for_each(|user| params.distinguished_name.push(DnType::CommonName, user));
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until.timestamp().try_into().unwrap());
        Identity { chain: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    SystemClock.now() + TimeDelta::seconds(seconds)
}

/// HTTPS that shows a certificate, if the server asks for one.
fn showing(ca: &str, shown: &Identity) -> reqwest::Client {
    let identity = (tls::chain_from_pem(&shown.chain).unwrap(), tls::key_from_pem(&shown.key).unwrap());
    let config = tls::client_config(tls::roots_from_pem(ca).unwrap(), Some(identity), &[b"h2", b"http/1.1"]).unwrap();
    let config = rustls::ClientConfig::clone(&config);
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// Members of `readers` may read meshes.
async fn bind_readers(admin: &Operator, url: &str) {
    let role = json!({"type": "AccessRole", "name": "r", "rules": [{"types": ["Mesh"], "access": ["READ"]}]});
    let subjects = json!([{"type": "Group", "name": "readers"}]);
    let binding = json!({"type": "AccessRoleBinding", "name": "r", "subjects": subjects, "roles": ["r"]});
    for (path, document) in [("/access-roles/r", role), ("/access-role-bindings/r", binding)] {
        let (status, answer) = call(admin, url, Method::PUT, path, Some(document)).await;
        assert_eq!(status, 201, "{answer}");
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    people: People,
    global: Global,
    admin: Operator,
    url: String,
}

async fn scene() -> Scene {
    tls::install_provider();
    let (folder, people) = (tempfile::tempdir().unwrap(), People::new());
    let (data, ca) = (folder.path().join("data"), people.write(folder.path()));
    let global = try_start(config(&data, None, &["--rest-client-ca-file", &ca])).await;
    let global = global.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let (admin, url) = (operator(&data), global.url());
    bind_readers(&admin, &url).await;
    Scene { _folder: folder, people, global, admin, url }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_what_the_roles_of_its_user_and_groups_give() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    let ann = showing(&admin.ca, &scene.people.issue(Some("ann"), "readers", in_seconds(600)));
    let (status, who) = answer(ann.get(format!("{url}/who-am-i"))).await;
    assert_eq!((status, &who["name"]), (200, &json!("cert:ann")), "{who}");
    assert_eq!(who["groups"], json!(["readers", "mesh-system:authenticated"]));
    assert_eq!(answer(ann.get(format!("{url}/meshes"))).await.0, 200, "the group's role");
    assert_eq!(answer(ann.get(format!("{url}/config"))).await.0, 403, "and no more");

    let binding = json!({
        "type": "AccessRoleBinding", "name": "u", "subjects": [{"type": "User", "name": "cert:eve"}], "roles": ["r"]
    });
    assert_eq!(call(admin, url, Method::PUT, "/access-role-bindings/u", Some(binding)).await.0, 201);
    let eve = showing(&admin.ca, &scene.people.issue(Some("eve"), "others", in_seconds(600)));
    assert_eq!(answer(eve.get(format!("{url}/meshes"))).await.0, 200, "the user's role");

    let boss = showing(&admin.ca, &scene.people.issue(Some("boss"), "mesh-system:admin", in_seconds(600)));
    let (_, who) = answer(boss.get(format!("{url}/who-am-i"))).await;
    assert_eq!(who["groups"], json!(["mesh-system:authenticated"]), "nobody's issuer makes administrators");
    assert_eq!(answer(boss.get(format!("{url}/meshes"))).await.0, 403);

    let rows = call(admin, url, Method::GET, "/_audit?subject=user:cert:ann", None).await.1;
    let row = &rows["items"][0];
    assert_eq!((&row["method"], &row["decision"]), (&json!("certificate"), &json!("denied")), "{rows}");
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_certificate_comes_with_a_token_and_a_token_is_all_that_counts() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    assert_eq!(call(admin, url, Method::GET, "/config", None).await.0, 200, "no certificate, a token");
    let ann = showing(&admin.ca, &scene.people.issue(Some("ann"), "readers", in_seconds(600)));
    let (_, who) = answer(ann.get(format!("{url}/who-am-i")).bearer_auth(&admin.token)).await;
    assert_ne!(who["name"], json!("cert:ann"), "the token says who asks");
    assert_eq!(answer(ann.get(format!("{url}/config")).bearer_auth(&admin.token)).await.0, 200);
    for header in ["Bearer x", "Bearer ", "Basic YTpi", ""] {
        let (status, problem) = answer(ann.get(format!("{url}/meshes")).header("authorization", header)).await;
        assert_eq!(status, 401, "{header:?}: the certificate does not stand in for a token that does not hold: {problem}");
    }
    assert_eq!(answer(ann.get(format!("{url}/meshes"))).await.0, 200);
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others_and_of_yesterday_do_not_pass_the_handshake() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    let stranger = People::new().issue(Some("ann"), "readers", in_seconds(600));
    let old = scene.people.issue(Some("ann"), "readers", in_seconds(-1));
    for shown in [&stranger, &old] {
        let refused = showing(&admin.ca, shown).get(format!("{url}/meshes")).bearer_auth(&admin.token).send().await;
        assert!(refused.is_err(), "{refused:?}");
    }
    let nobody = showing(&admin.ca, &scene.people.issue(None, "readers", in_seconds(600)));
    let (status, problem) = answer(nobody.get(format!("{url}/meshes"))).await;
    assert_eq!(status, 401, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("exactly one CN"), "{problem}");
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_request_passes_for_a_certificate() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    let ann = scene.people.issue(Some("ann"), "readers", in_seconds(600));
    let one_line = ann.chain.replace('\n', "");
    let plain = format!("http://{}", scene.global.running.addresses.rest);
    for base in [url, &plain] {
        for (name, value) in [
            ("x-forwarded-client-cert", "Subject=\"O=readers,CN=ann\""),
            ("x-forwarded-client-cert", one_line.as_str()),
            ("client-cert", one_line.as_str()),
            ("ssl-client-cert", one_line.as_str()),
            ("x-ssl-client-verify", "SUCCESS"),
            ("x-ssl-client-s-dn", "O=readers,CN=ann"),
            ("x-remote-user", "cert:ann"),
            ("x-remote-group", "mesh-system:admin"),
        ] {
            let (status, _) = answer(https(&admin.ca).get(format!("{base}/meshes")).header(name, value)).await;
            assert_eq!(status, 401, "{name} at {base}");
        }
    }
    let shown = showing(&admin.ca, &ann);
    assert_eq!(answer(shown.get(format!("{plain}/meshes"))).await.0, 401, "no certificate without TLS");
    let (_, who) = answer(shown.get(format!("{url}/who-am-i")).header("x-remote-user", "boss")).await;
    assert_eq!(who["name"], json!("cert:ann"));
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plane_that_was_not_told_whose_asks_for_no_certificate() {
    tls::install_provider();
    let (folder, people) = (tempfile::tempdir().unwrap(), People::new());
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let (admin, url) = (operator(&data), global.url());
    bind_readers(&admin, &url).await;
    let ann = showing(&admin.ca, &people.issue(Some("ann"), "readers", in_seconds(600)));
    assert_eq!(answer(ann.get(format!("{url}/meshes"))).await.0, 401);
    assert_eq!(answer(ann.get(format!("{url}/meshes")).bearer_auth(&admin.token)).await.0, 200);
    global.stop().await;
}

/// An open watch; ends when the plane ends it.
async fn follow(who: &reqwest::Client, url: &str) -> tokio::task::JoinHandle<()> {
    let response = who.get(format!("{url}/meshes?watch=true")).timeout(Duration::from_secs(60)).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut events = response.bytes_stream();
    events.next().await.unwrap().unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = events.next().await {} })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_does_not_outlive_its_certificate() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    let until = in_seconds(8);
    let short = showing(&admin.ca, &scene.people.issue(Some("ann"), "readers", until));
    let long = showing(&admin.ca, &scene.people.issue(Some("eve"), "readers", in_seconds(600)));
    let (watch, other) = (follow(&short, url).await, follow(&long, url).await);
    tokio::time::timeout(Duration::from_secs(20), watch).await.expect("it ends with the certificate").unwrap();
    assert!(SystemClock.now() > until, "not before");
    assert!(!other.is_finished(), "others go on");
    let (status, problem) = answer(short.get(format!("{url}/meshes"))).await;
    assert_eq!(status, 401, "the same connection: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the client certificate expired at"), "{problem}");
    other.abort();
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_revoked_by_its_fingerprint() {
    let scene = scene().await;
    let (admin, url) = (&scene.admin, &scene.url);
    let shown = scene.people.issue(Some("ann"), "readers", in_seconds(600));
    let der = tls::chain_from_pem(&shown.chain).unwrap().remove(0);
    let hash = ring::digest::digest(&ring::digest::SHA256, &der);
    let fingerprint: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let ann = showing(&admin.ca, &shown);
    let watch = follow(&ann, url).await;
    let body = json!({"jti": format!("sha256:{fingerprint}"), "reason": "laptop lost"});
    assert_eq!(call(admin, url, Method::POST, "/tokens/revocations", Some(body)).await.0, 200);
    let (status, problem) = answer(ann.get(format!("{url}/meshes"))).await;
    assert_eq!((status, problem["detail"].as_str().unwrap().contains("revoked")), (401, true), "{problem}");
    tokio::time::timeout(Duration::from_secs(15), watch).await.expect("it ends within 15 s").unwrap();
    let renewed = showing(&admin.ca, &scene.people.issue(Some("ann"), "readers", in_seconds(600)));
    assert_eq!(answer(renewed.get(format!("{url}/meshes"))).await.0, 200, "another certificate of the same user");
    scene.global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_ca_is_refused_at_the_start() {
    tls::install_provider();
    let scene = tempfile::tempdir().unwrap();
    let leaf = People::new().issue(Some("ann"), "readers", in_seconds(600));
    for (name, text, part) in
        [("nothing.pem", "nothing", "certificates"), ("leaf.pem", leaf.chain.as_str(), "every certificate in it must be of a CA")]
    {
        let path = scene.path().join(name);
        std::fs::write(&path, text).unwrap();
        let flags = ["--rest-client-ca-file", path.to_str().unwrap()];
        let error = try_start(config(&scene.path().join("data"), None, &flags)).await.err().expect("it started").to_string();
        assert!(error.contains(part) && error.contains("--rest-client-ca-file") && error.contains(name), "{error}");
    }
}
