//! `?watch=true`: lists that are followed.

use std::time::Duration;

use atoll_api::{
    Limits,
    serve::{Gate, Hosts, Scheme, serve},
};
use atoll_model::{Kind, Labels, Owner, ResourceKey, resource::canonical_json};
use atoll_store::{Actor, Write, WriteBatch};
use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::{ADMIN, Api, timeout};

pub(crate) struct Events {
    stream: BodyDataStream,
    text: String,
    /// Of the last event.
    pub(crate) id: String,
}

impl Events {
    pub(crate) async fn open(api: &Api, path: &str) -> Self {
        Self::resume(api, path, "").await
    }

    /// As a client that comes back: with the id of the last event that it saw.
    pub(crate) async fn resume(api: &Api, path: &str, id: &str) -> Self {
        Self::of(api, path, ADMIN, id).await
    }

    pub(crate) async fn of(api: &Api, path: &str, token: &str, id: &str) -> Self {
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {token}"));
        let request = request.header("last-event-id", id);
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { stream: response.into_body().into_data_stream(), text: String::new(), id: String::new() }
    }

    /// The next event: its name and data.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
                self.id = field("id:").to_owned();
                let event = (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap_or_default());
                self.text = rest.to_owned();
                return event;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.stream.next()).await;
            self.text.push_str(std::str::from_utf8(&chunk.expect("no event within 10 s").unwrap().unwrap()).unwrap());
        }
    }

    /// Whether nothing more comes.
    async fn has_ended(mut self) -> bool {
        let end = tokio::time::timeout(Duration::from_secs(10), self.stream.next()).await;
        self.text.is_empty() && end.expect("the stream does not end").is_none()
    }
}

const LIST: &str = "/meshes/default/meshtimeouts";

#[tokio::test]
async fn a_watch_shows_the_state_then_each_change_and_can_be_resumed() {
    let api = Api::global().await;
    api.put(&format!("{LIST}/a"), timeout("a", "default")).await.expect(201);
    let mut events = Events::open(&api, &format!("{LIST}?watch=true")).await;
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("put", &json!("a")));
    assert_eq!(events.next().await, ("revision".to_owned(), json!(2)));
    api.put(&format!("{LIST}/b"), timeout("b", "default")).await.expect(201);
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["kri"]), ("put", &json!("kri_mt_default___b_")));
    assert_eq!(events.next().await, ("revision".to_owned(), json!(3)));
    api.delete(&format!("{LIST}/a")).await.expect(200);
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("delete", &json!("a")));
    let mut resumed = Events::open(&api, &format!("{LIST}?watch=true&since=2")).await;
    assert_eq!(resumed.next().await.1["name"], "b");
    assert_eq!(resumed.next().await.0, "delete");
}

#[tokio::test]
async fn a_watch_by_label_sees_a_resource_leave() {
    let api = Api::global().await;
    let mut labelled = timeout("a", "default");
    labelled["labels"] = json!({"team": "x"});
    let mut events = Events::open(&api, "/meshtimeouts?watch=true&filter[labels.team]=x").await;
    assert_eq!(events.next().await.0, "revision");
    api.put(&format!("{LIST}/a"), labelled).await.expect(201);
    assert_eq!(events.next().await.0, "put");
    events.next().await;
    api.put(&format!("{LIST}/a"), timeout("a", "default")).await.expect(200);
    assert_eq!(events.next().await.0, "delete");
}

#[tokio::test]
async fn a_watch_by_label_is_not_told_of_what_it_never_saw() {
    let api = Api::global().await;
    let mut events = Events::open(&api, "/meshtimeouts?watch=true&filter[labels.team]=x").await;
    assert_eq!(events.next().await.0, "revision");
    for idle in ["1s", "2s"] {
        let mut other = timeout("other", "default");
        other["spec"]["to"][0]["default"]["idleTimeout"] = json!(idle);
        api.put(&format!("{LIST}/other"), other).await;
    }
    let mut labelled = timeout("a", "default");
    labelled["labels"] = json!({"team": "x"});
    api.put(&format!("{LIST}/a"), labelled).await.expect(201);
    let (event, data) = events.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("put", &json!("a")));
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing() {
    let api = Api::global().await;
    let mut events = Events::open(&api, &format!("{LIST}?watch=true")).await;
    events.next().await;
    api.put(&format!("{LIST}/a"), timeout("a", "default")).await.expect(201);
    events.next().await;
    let id = events.id.clone();
    drop(events);
    api.delete(&format!("{LIST}/a")).await.expect(200);
    api.put(&format!("{LIST}/b"), timeout("b", "default")).await.expect(201);
    // What the last connection saw is newer than what the URL says.
    let mut back = Events::resume(&api, &format!("{LIST}?watch=true&since=0"), &id).await;
    let (event, data) = back.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("delete", &json!("a")));
    let (event, data) = back.next().await;
    assert_eq!((event.as_str(), &data["name"]), ("put", &json!("b")));
    for rubbish in ["x", "5-nothing"] {
        let path = format!("{LIST}?watch=true&since={rubbish}");
        api.get(&path).await.expect(400);
    }
}

#[tokio::test]
async fn who_cannot_go_on_is_told_to_list_again() {
    let api = Api::global().await;
    api.put(&format!("{LIST}/a"), timeout("a", "default")).await.expect(201);
    let gone = async |since: &str, id: &str, why: &str| {
        let mut events = Events::resume(&api, &format!("{LIST}?watch=true&since={since}"), id).await;
        let (event, data) = events.next().await;
        assert!(event == "gone" && data["detail"].as_str().unwrap().contains(why), "{event} {data}");
        assert_eq!(events.id, "", "the reader has nothing to come back to");
        assert!(events.has_ended().await);
    };
    gone("99", "", "ahead").await;
    let other = uuid::Uuid::from_u128(7).simple().to_string();
    gone("1", &format!("1-{other}"), "another history").await;
    // Deletions are forgotten after a while.
    api.delete(&format!("{LIST}/a")).await.expect(200);
    api.clock.advance(chrono::TimeDelta::days(40));
    while api.store.prune().await.unwrap().tombstones > 0 {}
    gone("2", "", "no more known one by one").await;
}

#[tokio::test]
async fn a_reader_who_is_too_slow_is_cut_and_can_resume() {
    let api = Api::global().await;
    let mut events = Events::open(&api, &format!("{LIST}?watch=true")).await;
    events.next().await;
    let spec = canonical_json(&timeout("x", "default")["spec"]);
    for batch in 0..9 {
        let name = |i: u32| format!("t-{batch}-{i}");
        let key = |i| ResourceKey::new(Kind::MeshTimeout, "default", name(i), Owner::Global);
        let writes = (0..500).map(|i| Write::put(key(i), Labels::new(), spec.clone())).collect();
        api.store.commit(WriteBatch::new(Actor::plane(), writes)).await.unwrap();
    }
    let (event, data) = events.next().await;
    assert!(event == "overrun" && data["detail"].as_str().unwrap().contains("resume"), "{event} {data}");
    let id = events.id.clone();
    assert!(events.has_ended().await);
    let mut back = Events::resume(&api, &format!("{LIST}?watch=true"), &id).await;
    for _ in 0..4500 {
        assert_eq!(back.next().await.0, "put");
    }
    assert_eq!(back.next().await.0, "revision");
}

#[tokio::test]
async fn a_watch_ends_when_the_plane_stops() {
    let api = Api::global().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served =
        tokio::spawn(serve(listener, api.router.clone(), Scheme::Http, Gate::new(Limits::default(), Hosts::any()), stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let ask = format!("GET {LIST}?watch=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    stop.cancel();
    let mut rest = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.contains("event: stopping"), "{rest}");
    tokio::time::timeout(Duration::from_secs(5), served).await.expect("nobody waits for a watch").unwrap();
}

#[tokio::test]
async fn a_watch_ends_with_the_token_that_opened_it() {
    let api = Api::global().await;
    let mut events = Events::of(&api, &format!("{LIST}?watch=true"), "short-token", "").await;
    assert_eq!(events.next().await.0, "revision");
    api.clock.advance(chrono::TimeDelta::hours(2));
    assert!(events.has_ended().await);
}
