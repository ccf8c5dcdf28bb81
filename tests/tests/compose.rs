//! The compose file says what the documentation promises: who runs, on which networks, with which data.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

fn compose() -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docker-compose.yml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn clouds_share_no_network_but_the_backbone() {
    let compose = compose();
    let networks: BTreeMap<&str, BTreeSet<&str>> = compose["services"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, service)| (name.as_str(), words(&service["networks"])))
        .collect();
    let expected = BTreeMap::from([
        ("postgres", BTreeSet::from(["backbone"])),
        ("global-cp", BTreeSet::from(["backbone"])),
        ("zone-azure", BTreeSet::from(["backbone", "azure"])),
        ("zone-gcp", BTreeSet::from(["backbone", "gcp"])),
    ]);
    assert_eq!(networks, expected);
    let declared: BTreeSet<&str> = compose["networks"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(declared, BTreeSet::from(["backbone", "azure", "gcp"]));
}

#[test]
fn every_plane_keeps_its_data_in_a_volume_of_its_own() {
    let compose = compose();
    let declared: BTreeSet<&str> = compose["volumes"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut mounted = BTreeSet::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in words(&service["volumes"]) {
            let (source, target) = volume.split_once(':').unwrap();
            assert!(mounted.insert(source.to_owned()), "{name} shares {source}");
            assert!(declared.contains(source), "{source} is not declared");
            assert!(target.starts_with("/var/lib/"), "{target}");
        }
    }
    assert_eq!(mounted.len(), declared.len());
}

#[test]
fn no_password_has_a_default_and_nothing_but_loopback_is_published() {
    let compose = compose();
    let text = compose.to_string();
    assert!(text.contains("ATOLL_PG_PASSWORD:?"), "compose refuses to start without a password");
    for (name, service) in compose["services"].as_object().unwrap() {
        if let Some(ports) = service.get("ports") {
            assert!(words(ports).iter().all(|port| port.starts_with("127.0.0.1:")), "{name} publishes {ports}");
        }
    }
}
