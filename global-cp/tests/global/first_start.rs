use std::os::unix::fs::PermissionsExt;

use atoll_store::testing::postgres_url;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Global, call, operator};

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn survives_a_restart(store: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, store).await;
    let operator = operator(&data);
    let (status, list) = call(&operator, &global.url(), Method::GET, "/meshes", None).await;
    assert_eq!((status, names(&list)), (200, vec!["default".to_owned()]));
    let (_, generators) = call(&operator, &global.url(), Method::GET, "/hostnamegenerators", None).await;
    assert!(names(&generators).contains(&"synced-universal-mesh-service".to_owned()), "{generators}");
    let (_, policies) = call(&operator, &global.url(), Method::GET, "/meshtimeouts", None).await;
    assert_eq!(policies["total"], 0, "nobody makes policies");
    let (status, _) =
        call(&operator, &global.url(), Method::PUT, "/meshes/shop", Some(json!({"type": "Mesh", "name": "shop"}))).await;
    assert_eq!(status, 201);
    let path = "/hostnamegenerators/synced-mesh-external-service";
    assert_eq!(call(&operator, &global.url(), Method::DELETE, path, None).await.0, 200);
    let before = global.running.store.snapshot().revision();
    global.stop().await;

    let global = Global::start(&data, store).await;
    assert_eq!(global.running.store.snapshot().revision(), before, "a restart writes nothing");
    let (status, list) = call(&operator, &global.url(), Method::GET, "/meshes", None).await;
    assert_eq!((status, names(&list)), (200, vec!["default".to_owned(), "shop".to_owned()]));
    assert_eq!(call(&operator, &global.url(), Method::GET, path, None).await.0, 404, "what was deleted stays deleted");
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart_on_the_embedded_store() {
    survives_a_restart(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart_on_postgres() {
    survives_a_restart(Some(&postgres_url().await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credential_is_written_once_and_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let path = data.join("operator.yaml");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&path), mode(&data.join("seal.key"))), (0o700, 0o600, 0o600));
    assert_eq!(operator(&data).url, global.url());
    global.stop().await;
    std::fs::remove_file(&path).unwrap();
    let global = Global::start(&data, None).await;
    assert!(!path.exists(), "a lost credential comes back by reset-operator only");
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_identity_is_judged_by_its_trust_domains() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let operator = operator(&data);
    let identity = |domain: Option<&str>| {
        let mut document = json!({
            "type": "MeshIdentity", "mesh": "default", "name": "identity",
            "spec": {"selector": {"dataplane": {"matchLabels": {}}}, "provider": {"type": "Bundled", "bundled": {
                "meshTrustCreation": "Enabled", "insecureAllowSelfSigned": true,
                "certificateParameters": {"expiry": "24h"}, "autogenerate": {"enabled": true},
            }}},
        });
        if let Some(domain) = domain {
            document["spec"]["spiffeID"] = json!({"trustDomain": domain, "path": "/x"});
        }
        document
    };
    let path = "/meshes/default/meshidentities/identity";
    let (status, refused) = call(&operator, &global.url(), Method::PUT, path, Some(identity(Some("one.for.all")))).await;
    assert_eq!((status, &refused["invalid_parameters"][0]["field"]), (400, &json!("spec.spiffeID.trustDomain")), "{refused}");
    let (status, answer) = call(&operator, &global.url(), Method::PUT, path, Some(identity(None))).await;
    assert_eq!(status, 201, "{answer}");
    global.stop().await;
}
