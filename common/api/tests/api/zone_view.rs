//! The same resources from two planes: names, origin, and who may write.

use atoll_model::{Kind, Owner, ResourceKey, alias::alias};
use serde_json::json;

use crate::support::{Api, timeout, zone_uid};

fn service() -> serde_json::Value {
    json!({"selector": {"dataplaneLabels": {"matchLabels": {"app": "api"}}}, "ports": [{"port": 8443, "appProtocol": "tcp"}]})
}

#[tokio::test]
async fn a_service_of_another_zone_bears_its_alias() {
    let api = Api::zone("azure", true).await;
    let owner = api.give_zone("gcp").await;
    api.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), service()).await;
    let name = alias("default", "api", "gcp");
    for path in ["api".to_owned(), name.clone()] {
        let shown = api.get(&format!("/meshes/default/meshservices/{path}")).await.expect(200).json();
        assert_eq!(
            (&shown["name"], &shown["kri"], &shown["snis"]),
            (
                &json!(name),
                &json!("kri_msvc_default_gcp__api_"),
                &json!([{"port": 8443, "sni": "sni.msvc.default.gcp.api.8443"}])
            )
        );
        assert_eq!(
            shown["labels"],
            json!({
                "kuma.io/display-name": "api", "kuma.io/env": "universal", "kuma.io/mesh": "default",
                "kuma.io/origin": "global", "kuma.io/zone": "gcp",
            })
        );
        assert_eq!(shown["status"], json!({"vips": [{"ip": "241.0.0.1"}], "tls": {}, "dataplaneProxies": {}}));
    }
}

#[tokio::test]
async fn a_bare_name_of_several_wants_a_choice() {
    let api = Api::global().await;
    for zone in ["azure", "gcp"] {
        let owner = api.give_zone(zone).await;
        api.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), service()).await;
    }
    let refused = api.get("/meshes/default/meshservices/api").await.expect(409).json();
    let detail = refused["detail"].as_str().unwrap();
    for zone in ["azure", "gcp"] {
        assert!(detail.contains(&alias("default", "api", zone)) && detail.contains(zone), "{detail}");
        let path = format!("/meshes/default/meshservices/{}", alias("default", "api", zone));
        assert_eq!(api.get(&path).await.expect(200).json()["labels"]["kuma.io/zone"], zone);
    }
}

#[tokio::test]
async fn the_planes_own_comes_first() {
    let api = Api::zone("azure", true).await;
    let owner = api.give_zone("gcp").await;
    for owner in [owner, Owner::Zone(zone_uid("azure"))] {
        api.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), service()).await;
    }
    let shown = api.get("/meshes/default/meshservices/api").await.expect(200).json();
    assert_eq!((&shown["name"], &shown["labels"]["kuma.io/zone"]), (&json!("api"), &json!("azure")));
}

#[tokio::test]
async fn each_plane_writes_what_is_its_own() {
    let global = Api::global().await;
    for path in ["dataplanes", "meshservices", "meshzoneaddresses", "vipallocations"] {
        let path = format!("/meshes/default/{path}/x");
        let refused = global.put(&path, json!({})).await.expect(405).json();
        assert_eq!(refused["title"], "Method not allowed", "{path}");
        global.delete(&path).await.expect(405);
    }
    let zone = Api::zone("azure", true).await;
    let refused = zone.put("/meshes/x", json!({"type": "Mesh", "name": "x"})).await.expect(405).json();
    assert!(refused["detail"].as_str().unwrap().contains("global"), "{refused}");
    let mut own = timeout("own", "default");
    let unlabelled = zone.put("/meshes/default/meshtimeouts/own", own.clone()).await.expect(400);
    assert_eq!(unlabelled.fields(), ["labels[\"kuma.io/origin\"]"]);
    own["labels"] = json!({"kuma.io/origin": "zone"});
    zone.put("/meshes/default/meshtimeouts/own", own).await.expect(201);
    assert_eq!(zone.get("/meshes/default/meshtimeouts/own").await.json()["kri"], "kri_mt_default_azure__own_");
    let alone = Api::zone("alone", false).await;
    alone.put("/meshes/x", json!({"type": "Mesh", "name": "x"})).await.expect(201);
}

#[tokio::test]
async fn another_planes_resource_is_changed_there() {
    let api = Api::zone("azure", true).await;
    let key = ResourceKey::new(Kind::MeshTimeout, "default", "all", Owner::Global);
    api.give(key, timeout("all", "default")["spec"].clone()).await;
    let name = alias("default", "all", "");
    assert_eq!(api.get("/meshes/default/meshtimeouts/all").await.expect(200).json()["name"], name);
    for path in ["all", &name] {
        let refused = api.delete(&format!("/meshes/default/meshtimeouts/{path}")).await.expect(405).json();
        assert!(refused["detail"].as_str().unwrap().contains("global"), "{refused}");
    }
    api.put(&format!("/meshes/default/meshtimeouts/{name}"), timeout(&name, "default")).await.expect(405);
}
