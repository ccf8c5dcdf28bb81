//! `/`, `/_resources`, `/config`, `/who-am-i`.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn the_index_has_kumas_fields_and_our_name() {
    let answer = Api::global().await.get("/").await.expect(200).json();
    assert_eq!(
        answer,
        json!({
            "hostname": "host", "product": "Kuma", "version": "3.0.0", "instanceId": "instance", "clusterId": "cluster", "gui": "",
            "atoll": {"product": "Atoll", "version": env!("CARGO_PKG_VERSION"), "mode": "global"},
        })
    );
}

#[tokio::test]
async fn the_caller_and_the_configuration_are_shown() {
    let api = Api::global().await;
    let who = api.get("/who-am-i").await.expect(200).json();
    assert_eq!(who, json!({"name": "alice", "groups": ["mesh-system:admin", "mesh-system:authenticated"]}));
    let config = api.get("/config").await.expect(200);
    assert_eq!(config.json()["store"]["url"], "postgres://atoll:*****@db/atoll");
}

#[tokio::test]
async fn kinds_are_listed_as_this_plane_sees_them() {
    let global = Api::global().await.get("/_resources").await.expect(200).json();
    let of = |name: &str| global["resources"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap();
    assert_eq!(
        of("MeshTimeout"),
        json!({
            "name": "MeshTimeout", "path": "meshtimeouts", "scope": "Mesh", "shortName": "mt", "readOnly": false,
            "includeInFederation": true, "singularDisplayName": "Mesh Timeout", "pluralDisplayName": "Mesh Timeouts",
            "policy": {
                "isTargetRef": true, "hasToTargetRef": true, "hasFromTargetRef": false, "hasRulesTargetRef": true,
                "isFromAsRules": true,
            },
        })
    );
    assert_eq!(of("Dataplane")["readOnly"], true);
    assert_eq!(of("Mesh")["scope"], "Global");
    let zone = Api::zone("gcp", true).await.get("/_resources").await.expect(200).json();
    let mesh = zone["resources"].as_array().unwrap().iter().find(|row| row["name"] == "Mesh").unwrap();
    assert_eq!(mesh["readOnly"], true);
}

#[tokio::test]
async fn every_answer_names_the_revision() {
    let api = Api::global().await;
    for path in ["/", "/meshes", "/meshes/default", "/nope", "/meshes/nope"] {
        let answer = api.get(path).await;
        assert_eq!(answer.header("atoll-revision"), "1", "{path}");
    }
}
