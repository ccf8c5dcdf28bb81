//! The documents under `openapi/` are what the routes say.

use atoll_api::openapi;
use atoll_model::labels::Viewpoint;

use crate::support::zone_uid;

fn zone() -> Viewpoint {
    Viewpoint::Zone { name: "zone".into(), uid: zone_uid("zone"), federated: true }
}

#[test]
fn the_checked_in_documents_are_fresh() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
    for (name, viewpoint) in [("global.json", Viewpoint::Global), ("zone.json", zone())] {
        let (path, text) = (folder.join(name), openapi::text(&viewpoint).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "openapi/{name} is stale: run the tests of atoll-api with UPDATE=1 and commit the result");
    }
}

#[test]
fn operations_have_unique_names_and_say_who_may() {
    for viewpoint in [Viewpoint::Global, zone()] {
        let document = serde_json::to_value(openapi::document(&viewpoint)).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(_, one)| (path, one)));
        let mut ids = Vec::new();
        for (path, operation) in operations {
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            let open = ["/", "/healthy", "/ready"].contains(&path.as_str());
            assert_eq!(operation.get("security").is_none(), open, "{path}");
        }
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "two operations have one name");
    }
}

#[test]
fn read_only_kinds_offer_no_writes() {
    let global = serde_json::to_value(openapi::document(&Viewpoint::Global)).unwrap();
    let item = &global["paths"]["/meshes/{mesh}/dataplanes/{name}"];
    assert!(item.get("get").is_some() && item.get("put").is_none() && item.get("delete").is_none());
    let zone = serde_json::to_value(openapi::document(&zone())).unwrap();
    assert!(zone["paths"]["/meshes/{mesh}/dataplanes/{name}"].get("put").is_some());
    assert!(zone["paths"]["/meshes/{mesh}"].get("put").is_none());
}
