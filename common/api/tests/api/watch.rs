//! `?watch=true`: lists that are followed.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::Request;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{ADMIN, Api, timeout};

struct Events {
    stream: BodyDataStream,
    text: String,
}

impl Events {
    async fn open(api: &Api, path: &str) -> Self {
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {ADMIN}"));
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { stream: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event: its name and data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
                let event = (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap_or_default());
                self.text = rest.to_owned();
                return event;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.stream.next()).await;
            self.text.push_str(std::str::from_utf8(&chunk.expect("no event within 10 s").unwrap().unwrap()).unwrap());
        }
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
async fn a_revision_of_another_history_is_refused() {
    let api = Api::global().await;
    let refused = api.get(&format!("{LIST}?watch=true&since=99")).await.expect(410).json();
    assert!(refused["detail"].as_str().unwrap().contains("without `since`"), "{refused}");
}
