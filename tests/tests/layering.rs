//! Holds the order of the crates and the places where some libraries may be used.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// A crate may use crates that stand before it. `true`: pure, so no runtime, database or network library.
const ORDER: [(&str, bool); 19] = [
    ("atoll-model", true),
    ("atoll-policy", true),
    ("atoll-mesh", true),
    ("atoll-envoy-api", true),
    ("atoll-envoy", true),
    ("atoll-trust", true),
    ("atoll-sync", true),
    ("atoll-runtime", false),
    ("atoll-store", false),
    ("atoll-link", false),
    ("atoll-api", false),
    ("atoll-global-cp", false),
    ("atoll-zone-cp", false),
    ("atoll-dataplane", false),
    ("atoll-cli", false),
    ("atoll-e2e", false),
    ("atoll-bench", false),
    ("atoll-conformance", false),
    ("atoll-fuzz-targets", false),
];

/// What pure crates never use.
const IMPURE: [&str; 8] = ["tokio", "sqlx", "axum", "tonic", "reqwest", "hyper", "hickory-server", "tracing-subscriber"];

/// Libraries that only these crates may use.
const ONLY: [(&str, &[&str]); 4] = [
    ("sqlx", &["atoll-store", "atoll-cli", "atoll-e2e", "atoll-bench"]),
    ("axum", &["atoll-runtime", "atoll-api", "atoll-global-cp", "atoll-zone-cp", "atoll-dataplane", "atoll-cli"]),
    ("tonic", &["atoll-link", "atoll-global-cp", "atoll-zone-cp", "atoll-dataplane", "atoll-e2e", "atoll-bench"]),
    ("atoll-envoy-api", &["atoll-envoy", "atoll-zone-cp", "atoll-dataplane", "atoll-e2e", "atoll-bench"]),
];

/// Never in the tree (deny.toml says the same to `cargo deny`).
const BANNED: [&str; 6] = ["aws-lc-sys", "openssl-sys", "serde_yaml", "serde_yml", "rsa", "bincode"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of the normal dependencies of each of our crates.
fn dependencies(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let ours = |package: &&Value| package["source"].is_null();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"].is_null());
        all.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter().filter(ours);
    packages.map(|package| (package["name"].as_str().unwrap().to_owned(), normal(package))).collect()
}

#[test]
fn crates_use_only_what_stands_before_them() {
    let dependencies = dependencies(&metadata());
    assert_eq!(dependencies.len(), ORDER.len(), "every crate has its place in the order: {:?}", dependencies.keys());
    for (at, (name, pure)) in ORDER.iter().enumerate() {
        for used in &dependencies[*name] {
            if used.starts_with("atoll-") {
                assert!(ORDER[..at].iter().any(|(earlier, _)| earlier == used), "{name} uses {used}, which stands after it");
            }
            assert!(!(*pure && IMPURE.contains(&used.as_str())), "{name} is pure and uses {used}");
            for (library, allowed) in ONLY {
                assert!(used != library || allowed.contains(name), "{name} uses {library}; only {allowed:?} may");
            }
        }
    }
    for (one, other) in [("atoll-global-cp", "atoll-zone-cp"), ("atoll-zone-cp", "atoll-global-cp")] {
        assert!(!dependencies[one].iter().any(|used| used == other), "{one} knows {other}");
    }
}

#[test]
fn nothing_banned_is_in_the_tree_and_everything_comes_from_crates_io() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        assert!(!BANNED.contains(&name), "{name} is banned");
        if let Some(source) = package["source"].as_str() {
            assert!(source.starts_with("registry+"), "{name} comes from {source}");
            let license = package["license"].as_str().unwrap_or_default();
            let known = ["MIT", "Apache-2.0", "BSD", "ISC", "Unicode", "Zlib", "CDLA", "MPL-2.0", "BSL-1.0", "CC0", "0BSD"];
            assert!(
                known.iter().any(|word| license.contains(word)) || !package["license_file"].is_null(),
                "{name} has the licence {license:?}"
            );
        }
    }
}
