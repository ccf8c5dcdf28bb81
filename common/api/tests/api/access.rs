//! Nothing answers strangers but what is meant for them.

use atoll_api::{access::Subject, routes::table};
use axum::body::Body;
use http::{Method, Request};

use crate::support::Api;

const OPEN: [&str; 3] = ["/", "/healthy", "/ready"];

fn concrete(path: &str) -> String {
    path.replace("{mesh}", "default").replace("{name}", "x")
}

#[tokio::test]
async fn every_route_wants_a_token_but_the_open_ones() {
    let api = Api::global().await;
    for route in table() {
        let path = concrete(&route.path);
        let request = || Request::builder().method(route.method.clone()).uri(&path);
        let without = api.send(request().body(Body::empty()).unwrap()).await;
        let with_rubbish = api.send(request().header("authorization", "Bearer nope").body(Body::empty()).unwrap()).await;
        let as_reader = api.send(request().header("authorization", "Bearer reader-token").body(Body::empty()).unwrap()).await;
        let statuses = [&without, &with_rubbish, &as_reader].map(|answer| answer.status.as_u16());
        let for_all = matches!(route.operation.subject, Subject::Known(_));
        if OPEN.contains(&route.path.as_str()) {
            assert_eq!(statuses, [200, 200, 200], "{} {path}", route.method);
        } else {
            assert_eq!(statuses, [401, 401, if for_all { 200 } else { 403 }], "{} {path}", route.method);
            assert_eq!(without.header("www-authenticate"), "Bearer");
            assert_eq!(without.header("content-type"), "application/problem+json");
            assert_eq!(without.json()["title"], "Invalid authentication data");
        }
    }
}

#[tokio::test]
async fn strangers_learn_nothing_of_paths_and_methods() {
    let api = Api::global().await;
    for (method, path) in [
        (Method::GET, "/nope"),
        (Method::POST, "/meshes/default/nope"),
        (Method::POST, "/meshes/default"),
        (Method::PATCH, "/zones/x"),
        (Method::OPTIONS, "/meshes"),
        (Method::GET, "/meshes/default/meshtimeouts/a/b/c"),
    ] {
        let request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
        assert_eq!(api.send(request).await.status.as_u16(), 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_loopback_peer_is_nobody_special() {
    let api = Api::global().await;
    let mut request = Request::builder().uri("/meshes").header("host", "localhost").body(Body::empty()).unwrap();
    request.extensions_mut().insert(atoll_api::serve::Peer { address: "127.0.0.1:9".parse().unwrap(), tls: false });
    assert_eq!(api.send(request).await.status.as_u16(), 401);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    let api = Api::global().await;
    for value in ["Basic YTpi", "Bearer", "admin-token", "Bearer  "] {
        let answer = api.call(Method::GET, "/meshes", &[("authorization", value)], Body::empty()).await;
        assert_eq!(answer.status.as_u16(), 401, "{value:?}");
    }
}
