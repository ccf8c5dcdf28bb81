//! Pages while others write: what was there all along comes exactly once, whatever happens around it.

use std::collections::BTreeSet;

use atoll_model::{Kind, Labels, Owner, ResourceKey, resource::canonical_json};
use atoll_store::{Actor, Write, WriteBatch};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Api, timeout};

/// What others do between two pages.
#[derive(Clone, Debug)]
enum Other {
    Put(u8),
    Delete(u8),
}

fn others() -> impl Strategy<Value = Vec<Other>> {
    let one = prop_oneof![(0..60_u8).prop_map(Other::Put), (0..60_u8).prop_map(Other::Delete)];
    prop::collection::vec(one, 0..6)
}

fn key(name: u8) -> ResourceKey {
    ResourceKey::new(Kind::MeshTimeout, "default", format!("t{name:02}"), Owner::Global)
}

async fn commit(api: &Api, writes: Vec<Write>) {
    api.store.commit(WriteBatch::new(Actor::plane(), writes)).await.unwrap();
}

fn put(name: u8, version: usize) -> Write {
    let labels = Labels::from([("even".to_owned(), name.is_multiple_of(2).to_string())]);
    let mut spec = timeout("x", "default")["spec"].clone();
    spec["to"][0]["default"]["idleTimeout"] = json!(format!("{}s", version + 1));
    Write::put(key(name), labels, canonical_json(&spec))
}

/// Reads all pages while others write; checks what must hold of them.
async fn walk(start: BTreeSet<u8>, between: Vec<Vec<Other>>, size: usize, filter: &str) {
    let api = Api::global().await;
    commit(&api, start.iter().map(|name| put(*name, 0)).collect()).await;
    let mut steady = start;
    let mut rounds = between.into_iter();
    let mut path = format!("/meshes/default/meshtimeouts?size={size}{filter}");
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page: Value = api.get(&path).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= size);
        seen.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = next.replace("http://cp.test:5681", "");
        for (version, other) in rounds.next().unwrap_or_default().into_iter().enumerate() {
            let write = match other {
                Other::Put(name) => put(name, version + 1),
                Other::Delete(name) => {
                    steady.remove(&name);
                    Write::delete(key(name))
                }
            };
            commit(&api, vec![write]).await;
        }
    }
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(once, seen, "nothing comes twice");
    assert!(seen.is_sorted(), "{seen:?}");
    let wanted = |name: &u8| filter.is_empty() || name.is_multiple_of(2);
    for name in steady.iter().filter(|name| wanted(name)) {
        assert!(seen.contains(&format!("t{name:02}")), "t{name:02} was there all along: {seen:?}");
    }
    assert!(filter.is_empty() || seen.iter().all(|name| name[1..].parse::<u8>().unwrap().is_multiple_of(2)), "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pages_hang_together_whatever_others_write(
        start in prop::collection::btree_set(0..60_u8, 1..40),
        between in prop::collection::vec(others(), 0..12),
        size in 1..8_usize,
        filtered in any::<bool>(),
    ) {
        let filter = if filtered { "&filter[labels.even]=true" } else { "" };
        tokio::runtime::Runtime::new().unwrap().block_on(walk(start, between, size, filter));
    }
}

#[tokio::test]
async fn a_page_is_continued_only_with_the_filters_it_began_with() {
    let api = Api::global().await;
    commit(&api, (0..6).map(|name| put(name, 0)).collect()).await;
    let page = api.get("/meshes/default/meshtimeouts?size=1&filter[labels.even]=true").await.expect(200).json();
    assert_eq!(page["total"], 3);
    let next = page["next"].as_str().unwrap().replace("http://cp.test:5681", "");
    api.get(&next).await.expect(200);
    for other in
        [next.replace("true", "false"), next.replace("/default", ""), next.replace("meshtimeouts?", "meshtimeouts?name=t&")]
    {
        let refused = api.get(&other.replace("/meshes/meshtimeouts", "/meshtimeouts")).await.expect(400);
        assert_eq!(refused.fields(), ["offset"], "{other}");
    }
}
