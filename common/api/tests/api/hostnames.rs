//! `_hostnames`: which names a service has in which zone.

use atoll_model::{Kind, Owner, ResourceKey, alias::alias};
use serde_json::{Value, json};

use crate::support::{Api, zone_uid};

fn generator(selector: &str, origin: &str, template: &str) -> Value {
    json!({"selector": {selector: {"matchLabels": {"kuma.io/origin": origin}}}, "template": template})
}

async fn give_generators(api: &Api, own: Owner) {
    let generator_key = |name: &str, owner| ResourceKey::new(Kind::HostnameGenerator, "", name, owner);
    let synced = generator("meshService", "global", "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local");
    api.give(generator_key("synced", Owner::Global), synced).await;
    let several = generator("meshMultiZoneService", "global", "{{ .DisplayName }}.{{ .Zone }}.mzsvc.mesh.local");
    api.give(generator_key("several", Owner::Global), several).await;
    api.give(generator_key("local", own), generator("meshService", "zone", "{{ .DisplayName }}.svc.mesh.local")).await;
}

#[tokio::test]
async fn global_knows_which_zone_sees_which_name() {
    let api = Api::global().await;
    let mut owners = Vec::new();
    for zone in ["azure", "gcp", "aws"] {
        owners.push(api.give_zone(zone).await);
    }
    give_generators(&api, owners[0]).await;
    api.give(ResourceKey::new(Kind::MeshService, "default", "api", owners[0]), json!({"ports": [{"port": 80}]})).await;
    let names = api.get("/meshes/default/meshservices/api/_hostnames").await.expect(200).json();
    let zones = json!([{"name": "azure"}]);
    let expected = json!([
        {"hostname": "api.svc.azure.mesh.local", "zones": zones, "seenIn": ["aws", "gcp"]},
        {"hostname": "api.svc.mesh.local", "zones": zones, "seenIn": ["azure"]},
    ]);
    assert_eq!((&names["items"], &names["total"]), (&expected, &json!(2)));
}

#[tokio::test]
async fn a_zone_tells_what_it_sees_itself() {
    let api = Api::zone("azure", true).await;
    let (own, other) = (Owner::Zone(zone_uid("azure")), api.give_zone("gcp").await);
    give_generators(&api, own).await;
    let spec = json!({"ports": [{"port": 80}]});
    for owner in [own, other] {
        api.give(ResourceKey::new(Kind::MeshService, "default", "api", owner), spec.clone()).await;
    }
    let selector = json!({"meshService": {"matchLabels": {"kuma.io/display-name": "api"}}});
    let several = json!({"selector": selector, "ports": [{"port": 80}]});
    api.give(ResourceKey::new(Kind::MeshMultiZoneService, "default", "api", Owner::Global), several).await;
    for (path, hostname) in [
        ("meshservices/api".to_owned(), "api.svc.mesh.local"),
        (format!("meshservices/{}", alias("default", "api", "gcp")), "api.svc.gcp.mesh.local"),
        ("meshmultizoneservices/api".to_owned(), "api.azure.mzsvc.mesh.local"),
    ] {
        let names = api.get(&format!("/meshes/default/{path}/_hostnames")).await.expect(200).json();
        assert_eq!((&names["total"], &names["items"][0]["hostname"]), (&json!(1), &json!(hostname)), "{path}");
        assert_eq!(names["items"][0]["seenIn"], json!(["azure"]));
    }
}

#[tokio::test]
async fn only_services_have_names() {
    let api = Api::global().await;
    api.get("/meshes/default/meshservices/nope/_hostnames").await.expect(404);
    let refused = api.get("/meshes/default/dataplanes/x/_hostnames").await.expect(400).json();
    let kinds = "meshservices,meshexternalservices,meshmultizoneservices";
    assert_eq!(refused["title"], format!("only {kinds:?} are available for inspection"));
}
