//! What `_layout` says of a proxy: its ports, and whether each direction is open.

use http::Method;
use serde_json::{Value, json};

use crate::plane::{Zone, dataplane, eventually};

const PATH: &str = "/meshes/default/dataplanes/web-1/_layout";

async fn layout(zone: &Zone) -> Value {
    let (status, answer) = zone.call(Method::GET, PATH, None).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Waits until each direction has this word.
async fn becomes(zone: &Zone, inbound: &str, outbound: &str) -> Value {
    eventually(&format!("inbound is {inbound}, outbound {outbound}"), async || {
        let directions = layout(zone).await["directions"].clone();
        directions["inbound"]["access"] == inbound && directions["outbound"]["access"] == outbound
    })
    .await;
    layout(zone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_is_open_until_something_closes_it_and_says_why() {
    let (_folder, zone) = Zone::with_mesh().await;
    let strict = becomes(&zone, "closed", "open").await;
    assert_eq!(strict["kri"], json!("kri_dp_default_azure__web-1_"));
    assert_eq!(strict["spiffeId"], json!("spiffe://default.azure.mesh.local/workload/web"));
    let inbound = json!({
        "kri": "kri_dp_default_azure__web-1_7001", "port": 7001, "protocol": "", "access": "closed",
        "proxyResourceName": "self_inbound_dp_7001",
    });
    assert_eq!(strict["inbounds"], json!([inbound]), "{strict}");
    let names: Vec<_> = strict["outbounds"].as_array().unwrap().iter().map(|one| one["kri"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 3, "{strict}");
    assert!(names.is_sorted() && names[0].starts_with("kri_msvc_default_azure__api_"), "{names:?}");
    assert!(strict["directions"]["inbound"]["why"].as_array().unwrap().is_empty(), "{strict}");

    let tls = json!({
        "type": "MeshTLS", "mesh": "default", "name": "tls", "spec": {"rules": [{"default": {"mode": "Permissive"}}]},
    });
    zone.put("/meshes/default/meshtlses/tls", tls).await;
    let permissive = becomes(&zone, "open", "open").await;
    assert_eq!(permissive["inbounds"][0]["access"], json!("open"));
    let why = permissive["directions"]["inbound"]["why"][0].as_str().unwrap();
    assert!(why.contains("Permissive") && why.contains("7001"), "{why}");

    assert_eq!(zone.call(Method::DELETE, "/meshes/default/meshtlses/tls", None).await.0, 200);
    becomes(&zone, "closed", "open").await;
    assert_eq!(zone.call(Method::DELETE, "/meshes/default/meshidentities/identity", None).await.0, 200);
    let clear = becomes(&zone, "open", "open").await;
    assert!(
        clear.get("spiffeId").is_none() && clear["directions"]["inbound"]["why"][0].as_str().unwrap().contains("MeshIdentity")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirected_ports_without_an_inbound_and_backends_that_are_out_of_reach() {
    let (_folder, zone) = Zone::with_mesh().await;
    becomes(&zone, "closed", "open").await;
    let mut web = dataplane("web-1", "web", 7001);
    web["networking"]["transparentProxying"] = json!({
        "redirectPortInbound": 15006, "redirectPortOutbound": 15001,
        "reachableBackends": {"refs": [{"kind": "MeshService", "name": "db"}]},
    });
    zone.put("/meshes/default/dataplanes/web-1", web).await;
    let redirected = becomes(&zone, "open", "open").await;
    assert_eq!(redirected["inbounds"][0]["access"], json!("closed"), "the declared port is judged: {redirected}");
    assert!(redirected["directions"]["inbound"]["why"][0].as_str().unwrap().contains("no inbounds"), "{redirected}");
    let outbounds = redirected["outbounds"].as_array().unwrap();
    assert_eq!(outbounds.len(), 1, "{redirected}");
    assert!(outbounds[0]["kri"].as_str().unwrap().starts_with("kri_msvc_default_azure__db_"), "{redirected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_somebody_may_not_know_are_left_out() {
    let (_folder, zone) = Zone::with_mesh().await;
    let rules = json!([
        {"types": ["Dataplane"], "mesh": "default", "access": ["READ"]},
        {"types": ["MeshService"], "mesh": "default", "names": ["db"], "access": ["READ"]},
    ]);
    zone.put("/access-roles/r", json!({"type": "AccessRole", "name": "r", "rules": rules})).await;
    let subjects = json!([{"type": "User", "name": "eve"}]);
    let binding = json!({"type": "AccessRoleBinding", "name": "r", "subjects": subjects, "roles": ["r"]});
    zone.put("/access-role-bindings/r", binding).await;
    let (status, token) = zone.call(Method::POST, "/tokens/user", Some(json!({"name": "eve", "validFor": "1h"}))).await;
    assert_eq!(status, 200, "{token}");
    let (status, seen) = zone.call_as(token.as_str().unwrap(), Method::GET, PATH, None).await;
    assert_eq!(status, 200, "{seen}");
    let outbounds = seen["outbounds"].as_array().unwrap();
    assert!(outbounds.len() == 1 && outbounds[0]["kri"].as_str().unwrap().contains("__db_"), "{seen}");
}
