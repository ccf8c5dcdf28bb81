//! Every case under `golden/`: `in.yaml` must generate `out.yaml`. `UPDATE=1` rewrites what differs.

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use atoll_envoy::{Cache, ResourceSet, ResourceType};
use atoll_envoy_api::json;
use serde_json::Value;
use support::Case;

#[test]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE").is_some();
    let mut failed = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(&root).unwrap() {
        let case = entry.unwrap().path();
        let mut files: Vec<_> = fs::read_dir(&case).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        let expected: &[&str] = if update && files.len() == 1 { &["in.yaml"] } else { &["in.yaml", "out.yaml"] };
        assert_eq!(files, expected, "{}: a case has these files and no others", case.display());
        cases += 1;
        if let Err(difference) = check(&case, update) {
            failed.push(difference);
        }
    }
    assert!(cases > 0);
    assert!(failed.is_empty(), "{}\nUPDATE=1 accepts this", failed.join("\n"));
}

fn check(case: &Path, update: bool) -> Result<(), String> {
    let input = fs::read_to_string(case.join("in.yaml")).expect("in.yaml");
    let set = Case::parse(&input).world().generate(&mut Cache::default());
    let actual = serde_saphyr::to_string(&as_json(&set)).expect("JSON is YAML");
    let path = case.join("out.yaml");
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if actual == expected {
        return Ok(());
    }
    if update {
        fs::write(&path, actual).expect("the folder is writable");
        return Ok(());
    }
    let difference = similar::TextDiff::from_lines(&expected, &actual);
    Err(format!("{}:\n{}", case.display(), difference.unified_diff().context_radius(4)))
}

/// Type to name to message.
fn as_json(set: &ResourceSet) -> BTreeMap<String, BTreeMap<String, Value>> {
    let of = |kind: ResourceType| {
        let message = |body: &[u8]| json::encoded_to_json(kind.type_url(), body).expect("known types");
        set.of(kind).iter().map(|(name, resource)| (name.to_string(), message(&resource.body))).collect()
    };
    let some = ResourceType::ALL.into_iter().filter(|kind| !set.of(*kind).is_empty());
    some.map(|kind| (kind.to_string(), of(kind))).collect()
}
