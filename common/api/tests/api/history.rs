//! `…/_history` and `?revision=`: what was done to a resource, and how it was.

use serde_json::{Value, json};

use crate::support::{Api, timeout};

const PATH: &str = "/meshes/default/meshtimeouts/all";

/// Writes three versions and deletes; gives the revision of each step.
async fn story(api: &Api) -> Vec<u64> {
    let mut revisions = Vec::new();
    for idle in ["1s", "2s", "3s"] {
        let mut document = timeout("all", "default");
        document["spec"]["to"][0]["default"]["idleTimeout"] = json!(idle);
        let written = api.put(PATH, document).await;
        revisions.push(written.header("atoll-revision").parse().unwrap());
    }
    revisions.push(api.delete(PATH).await.expect(200).header("atoll-revision").parse().unwrap());
    revisions
}

fn idle(shown: &Value) -> &Value {
    &shown["spec"]["to"][0]["default"]["idleTimeout"]
}

#[tokio::test]
async fn a_history_says_who_did_what_when() {
    let api = Api::global().await;
    let revisions = story(&api).await;
    let history = api.get(&format!("{PATH}/_history")).await.expect(200).json();
    let items = history["items"].as_array().unwrap();
    let actions: Vec<_> = items.iter().map(|one| (one["action"].as_str().unwrap(), one["revision"].as_u64().unwrap())).collect();
    let expected = [("delete", revisions[3]), ("update", revisions[2]), ("update", revisions[1]), ("create", revisions[0])];
    assert_eq!(actions, expected);
    assert_eq!(items[1]["changes"], json!([{"field": "spec.to[0].default.idleTimeout", "before": "2s", "after": "3s"}]));
    assert_eq!((&items[0]["subject"], &items[0]["time"]), (&json!("user:alice"), &json!("2026-01-02T03:04:05Z")));
    assert_eq!(history["next"], json!(null));
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let api = Api::global().await;
    story(&api).await;
    let mut path = format!("{PATH}/_history?size=3");
    let mut actions = Vec::new();
    for _ in 0..2 {
        let page = api.get(&path).await.expect(200).json();
        actions.extend(page["items"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap().to_owned()));
        path = page["next"].as_str().unwrap_or_default().replace("http://cp.test:5681", "");
    }
    assert_eq!((actions.as_slice(), path.as_str()), (["delete", "update", "update", "create"].map(str::to_owned).as_slice(), ""));
}

#[tokio::test]
async fn a_resource_is_shown_as_it_was() {
    let api = Api::global().await;
    let revisions = story(&api).await;
    let at = |revision: u64| api.get_at(PATH, revision);
    for (revision, expected) in [(revisions[0], "1s"), (revisions[1], "2s"), (revisions[2], "3s")] {
        let shown = at(revision).await.expect(200).json();
        assert_eq!((idle(&shown), &shown["kri"]), (&json!(expected), &json!("kri_mt_default___all_")));
    }
    let gone = at(revisions[3]).await.expect(404).json();
    assert!(gone["detail"].as_str().unwrap().contains("did not exist"), "{gone}");
    let before = at(revisions[0] - 1).await.expect(404).json();
    assert!(before["detail"].as_str().unwrap().contains("does not reach back"), "{before}");
    at(revisions[3] + 1).await.expect(400);
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let now = api.store.snapshot().revision().0;
    assert_eq!(idle(&at(now).await.expect(200).json()), &json!("1h"), "what is newest needs no history");
    assert_eq!(idle(&at(revisions[1]).await.expect(200).json()), &json!("2s"));
}

#[tokio::test]
async fn what_never_was_has_no_history() {
    let api = Api::global().await;
    api.get("/meshes/default/meshtimeouts/never/_history").await.expect(404);
    api.get(&format!("{PATH}/_history?size=0")).await.expect(400);
    let mesh = api.get("/meshes/default/_history").await.expect(200).json();
    assert_eq!(mesh["items"][0]["action"], "create");
}

#[tokio::test]
async fn the_history_of_a_secret_does_not_tell_it() {
    let api = Api::global().await;
    for data in ["aGVsbG8=", "d29ybGQ="] {
        let document = json!({"type": "Secret", "mesh": "default", "name": "s", "data": data});
        let dry = api.put("/meshes/default/secrets/s?dry_run=true", document.clone()).await.expect(200);
        assert!(!dry.text.contains(data), "{}", dry.text);
        api.put("/meshes/default/secrets/s", document).await;
    }
    let history = api.get("/meshes/default/secrets/s/_history").await.expect(200);
    assert_eq!(history.json()["items"].as_array().unwrap().len(), 2);
    assert!(!history.text.contains("aGVsbG8=") && !history.text.contains("d29ybGQ="), "{}", history.text);
}
