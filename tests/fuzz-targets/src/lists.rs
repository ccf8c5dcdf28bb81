//! Selectors and pagination tokens: the query of a list.

use std::{collections::BTreeSet, sync::OnceLock};

use atoll_conformance::plane::Plane;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::text;

/// More items than the pages that are asked for.
const ITEMS: usize = 7;

fn world() -> &'static (Runtime, Plane) {
    static WORLD: OnceLock<(Runtime, Plane)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let plane = runtime.block_on(async {
            let plane = Plane::zone("west", false).await.unwrap();
            let mesh = json!({"type": "Mesh", "name": "default"});
            plane.load([mesh].into_iter().chain((0..ITEMS).map(dataplane)).collect()).await.unwrap().unwrap();
            plane
        });
        (runtime, plane)
    })
}

fn dataplane(i: usize) -> Value {
    let networking = match i % 3 {
        0 => json!({"address": "10.0.0.1", "gateway": {"type": "DELEGATED"}}),
        _ => json!({"address": "10.0.0.1", "inbound": [{"port": 80 + i}]}),
    };
    let labels = json!({"app": if i.is_multiple_of(2) { "web" } else { "api" }, "k8s.kuma.io/namespace": "ns1"});
    json!({"type": "Dataplane", "mesh": "default", "name": format!("dp-{i}"), "labels": labels, "networking": networking})
}

/// Lines of `key=value` are parameters. The answer is a page or a fault of the client; pages never repeat an item.
pub(crate) fn list(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in text.lines().map(|line| line.split_once('=').unwrap_or((line, ""))) {
        // A watch does not end, and a revision that is yet to come is waited for.
        if !matches!(key, "watch" | "since" | "min-revision" | "revision") {
            query.append_pair(key, value);
        }
    }
    let (runtime, plane) = world();
    let mut path = format!("/meshes/default/dataplanes?{}", query.finish());
    let mut seen = BTreeSet::new();
    for _ in 0..=ITEMS {
        let Ok(answer) = runtime.block_on(plane.send("GET", &path, None)) else { return };
        assert!(matches!(answer.status, 200 | 400 | 414 | 431), "{path}: {} {}", answer.status, answer.body);
        let Some(items) = answer.body["items"].as_array() else { return };
        for item in items {
            assert!(seen.insert(item["name"].to_string()), "{path} shows {} again", item["name"]);
        }
        let Some(next) = answer.body["next"].as_str() else { return };
        path = format!("/{}", next.splitn(4, '/').nth(3).unwrap_or_default());
    }
    panic!("the pages do not end");
}
