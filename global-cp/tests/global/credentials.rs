use atoll_api::{access::Subject, routes};
use atoll_global_cp::reset_operator;
use http::Method;
use serde_json::json;

use crate::support::{Global, call, config, https, operator, plain};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answers_without_a_token_but_what_is_meant_to() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let operator = operator(&data);
    let client = https(&operator.ca);
    let rest = global.running.addresses.rest;
    for route in routes::table() {
        let path = route.path.replace("{mesh}", "default").replace("{name}", "x");
        for url in [global.url(), format!("http://{rest}")] {
            let sent = client.request(route.method.clone(), format!("{url}{path}")).body("{}").send().await.unwrap();
            let expected = if route.operation.subject == Subject::Open { 200 } else { 401 };
            assert_eq!(sent.status().as_u16(), expected, "{} {url}{path}", route.method);
        }
    }
    assert_eq!(plain(rest, "/debug").await.0, 401);
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_what_their_groups_may() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let admin = operator(&data);
    let who = call(&admin, &global.url(), Method::GET, "/who-am-i", None).await;
    assert_eq!((who.0, &who.1["name"]), (200, &json!("mesh-system:admin")));
    for (groups, status) in [(json!(["mesh-system:admin"]), 200), (json!(["team-a"]), 403)] {
        let body = json!({"name": "eve", "groups": groups, "validFor": "1h"}).to_string();
        let request = https(&admin.ca).post(format!("{}/tokens/user", global.url())).bearer_auth(&admin.token);
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let eve = crate::support::Operator { token: answer.text().await.unwrap(), ..admin.clone() };
        assert_eq!(call(&eve, &global.url(), Method::GET, "/meshes", None).await.0, status);
    }
    let forged = crate::support::Operator { token: format!("{}x", admin.token), ..admin.clone() };
    assert_eq!(call(&forged, &global.url(), Method::GET, "/meshes", None).await.0, 401);
    let join = https(&admin.ca)
        .post(format!("{}/tokens/zone", global.url()))
        .bearer_auth(&admin.token)
        .body(json!({"zone": "gcp"}).to_string())
        .send()
        .await
        .unwrap();
    assert!(join.text().await.unwrap().starts_with("zj1."));
    global.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_credential_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = Global::start(&data, None).await;
    let old = operator(&data);
    let refused = reset_operator(&config(&data, None, &[])).await.unwrap_err();
    let text = format!("{refused}: {}", std::error::Error::source(&refused).unwrap());
    assert!(text.contains("Postgres"), "a second process on the embedded store is refused and told why: {text}");
    global.stop().await;
    let path = reset_operator(&config(&data, None, &[])).await.unwrap();
    assert_eq!(path, data.join("operator.yaml"));
    let global = Global::start(&data, None).await;
    let new = operator(&data);
    assert_ne!(new.token, old.token);
    assert_eq!(call(&new, &global.url(), Method::GET, "/meshes", None).await.0, 200);
    global.stop().await;
}
