//! Two instances on one Postgres answer as one.

use std::sync::Arc;

use atoll_model::labels::Viewpoint;
use atoll_runtime::tasks::Tasks;
use atoll_store::{
    Store, StoreConfig,
    testing::{self, Postgres, TestStore},
};
use http::Method;
use serde_json::json;

use crate::{
    support::{Api, timeout},
    watch::Events,
};

const PATH: &str = "/meshes/default/meshtimeouts/all";

fn api(store: &TestStore) -> Api {
    Api::over(store.store.clone(), Viewpoint::Global, Arc::clone(&store.clock))
}

#[tokio::test]
async fn a_read_on_the_other_instance_waits_for_what_its_client_wrote_here() {
    let one = TestStore::postgres().await.unwrap();
    let two = one.beside().await.unwrap();
    let (here, there) = (api(&one), api(&two));
    here.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await.expect(201);
    for round in 0..20 {
        let mut document = timeout("all", "default");
        document["spec"]["to"][0]["default"]["idleTimeout"] = json!(format!("{}s", round + 1));
        let written = here.put(PATH, document.clone()).await;
        let revision = written.header("atoll-revision").to_owned();
        for path in [format!("{PATH}?min-revision={revision}"), format!("/meshtimeouts?min-revision={revision}")] {
            let read = there.get(&path).await.expect(200).json();
            let shown = if read["items"].is_array() { &read["items"][0] } else { &read };
            assert_eq!(shown["spec"], document["spec"]);
        }
    }
    let ahead = there.get(&format!("{PATH}?min-revision=1000000")).await.expect(503);
    assert_eq!(ahead.header("retry-after"), "1");
    let now = there.store.snapshot().revision();
    assert_eq!(ahead.header("atoll-revision"), now.to_string());
    assert!(ahead.json()["detail"].as_str().unwrap().contains(&format!("at {now}")), "{}", ahead.text);
}

#[tokio::test]
async fn of_two_repeats_at_both_instances_one_writes() {
    let one = TestStore::postgres().await.unwrap();
    let two = one.beside().await.unwrap();
    let (here, there) = (api(&one), api(&two));
    here.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await.expect(201);
    let revision = here.store.snapshot().revision();
    there.get(&format!("/meshes?min-revision={revision}")).await.expect(200);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let body = timeout("all", "default").to_string();
    let put = |api: &'static str| {
        let api = if api == "here" { &here } else { &there };
        api.call(Method::PUT, PATH, &headers, body.clone())
    };
    let (first, second) = futures::join!(put("here"), put("there"));
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 201), "{} {}", first.text, second.text);
    assert_eq!(first.header("atoll-revision"), second.header("atoll-revision"));
    let mut replayed = [first.header("idempotent-replayed"), second.header("idempotent-replayed")];
    replayed.sort_unstable();
    assert_eq!(replayed, ["", "true"]);
    let entries = here.get(&format!("{PATH}/_history")).await.expect(200).json();
    assert_eq!(entries["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_watch_goes_on_at_the_other_instance() {
    let one = TestStore::postgres().await.unwrap();
    let two = one.beside().await.unwrap();
    let (here, there) = (api(&one), api(&two));
    here.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await.expect(201);
    let first = here.put(PATH, timeout("all", "default")).await.expect(201).header("atoll-revision").to_owned();
    let mut events = Events::open(&there, &format!("/meshtimeouts?watch=true&since={first}")).await;
    assert_eq!(events.next().await.0, "revision", "what was written there is waited for here");
    here.delete(PATH).await.expect(200);
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("delete", &json!("all")));
    let mut back = Events::resume(&here, "/meshtimeouts?watch=true", &events.id).await;
    assert_eq!(back.next().await.0, "revision", "an id of one instance is good at the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_is_not_continued_in_a_database_that_went_back() {
    let server = Postgres::start().await.unwrap();
    let config = StoreConfig::Postgres { url: server.database().await.unwrap() };
    let clock = testing::clock();
    let store = Store::open(config, clock.clone(), &Tasks::new()).await.unwrap();
    let api = Api::over(store, Viewpoint::Global, clock);
    api.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await.expect(201);
    api.put(PATH, timeout("all", "default")).await.expect(201);
    let mut events = Events::open(&api, "/meshtimeouts?watch=true").await;
    assert_eq!(events.next().await.0, "put");
    assert_eq!(events.next().await.0, "revision");
    let seen = events.id.clone();
    // As after a failover to a server that lacks the last commit.
    let lost =
        "DELETE FROM history WHERE revision > 1; DELETE FROM resources WHERE revision > 1; UPDATE counter SET revision = 1";
    api.store.execute(lost).await.unwrap();
    server.kill();
    server.restart().await.unwrap();
    let again = async || api.put("/meshes/new", json!({"type": "Mesh", "name": "new"})).await.status.as_u16();
    while ![200, 201].contains(&again().await) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(events.next().await.0, "gone");
    let mut back = Events::resume(&api, "/meshtimeouts?watch=true", &seen).await;
    assert_eq!(back.next().await.0, "gone", "the same revision is another change now");
    assert_eq!(Events::open(&api, "/meshtimeouts?watch=true").await.next().await.0, "revision", "the list has nothing left");
}
