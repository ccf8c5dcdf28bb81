//! `/zones`, `/hostnamegenerators`: kinds beside the meshes, and overviews.

use atoll_model::{Kind, ResourceKey};
use serde_json::json;

use crate::support::{Api, zone_uid};

#[tokio::test]
async fn a_generator_is_written_and_read() {
    let api = Api::global().await;
    let document = json!({
        "type": "HostnameGenerator", "name": "corp",
        "spec": {"selector": {"meshService": {}}, "template": "{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp"},
    });
    api.put("/hostnamegenerators/corp", document.clone()).await.expect(201);
    let shown = api.get("/hostnamegenerators/corp").await.expect(200).json();
    assert_eq!((&shown["spec"], &shown["mesh"]), (&document["spec"], &json!(null)));
    api.delete("/hostnamegenerators/corp").await.expect(200);
}

#[tokio::test]
async fn a_zones_identity_is_shown_and_not_the_authors_to_set() {
    let api = Api::global().await;
    api.give_zone("gcp").await;
    let uid = zone_uid("gcp").to_string();
    let mut shown = api.get("/zones/gcp").await.expect(200).json();
    assert_eq!((&shown["uid"], &shown["name"]), (&json!(uid), &json!("gcp")));
    shown["enabled"] = json!(false);
    shown["uid"] = json!("00000000-0000-0000-0000-000000000000");
    assert_eq!(api.put("/zones/gcp", shown).await.expect(200).json(), json!({"warnings": []}));
    let shown = api.get("/zones/gcp").await.json();
    assert_eq!((&shown["uid"], &shown["enabled"]), (&json!(uid), &json!(false)));
}

#[tokio::test]
async fn overviews_join_the_insight() {
    let api = Api::global().await;
    api.give_zone("gcp").await;
    let list = api.get("/zones/_overview").await.expect(200).json();
    let one = &list["items"][0];
    assert_eq!((&one["type"], &one["name"]), (&json!("ZoneOverview"), &json!("gcp")));
    assert_eq!((&one["zone"]["enabled"], &one["zoneInsight"]["online"]), (&json!(true), &json!(true)));
    assert_eq!(&api.get("/zones/gcp/_overview").await.expect(200).json(), one);
    assert_eq!(api.get("/meshes/default/dataplanes/_overview").await.expect(200).json()["total"], 0);
}

#[tokio::test]
async fn what_a_zone_owns_goes_with_it() {
    let api = Api::global().await;
    let owner = api.give_zone("gcp").await;
    api.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), json!({"ports": [{"port": 80}]})).await;
    api.delete("/zones/gcp").await.expect(200);
    assert_eq!(api.get("/meshservices").await.json()["total"], 0);
}
