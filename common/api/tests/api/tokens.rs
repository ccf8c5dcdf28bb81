//! `/tokens`.

use crate::support::Api;

async fn check(path: &str, body: &str, status: u16, expected: &str) {
    let answer = Api::global().await.post(path, "application/json", body).await.expect(status);
    match status {
        200 => {
            assert_eq!(answer.header("content-type"), "text/plain");
            assert_eq!(answer.text, expected);
        }
        _ => assert_eq!(answer.fields().join(","), expected, "{body}"),
    }
}

#[tokio::test]
async fn users() {
    check("/tokens/user", r#"{"name":"eve","groups":["a"],"validFor":"1h"}"#, 200, "user eve [\"a\"] 3600s").await;
    check("/tokens/user", r#"{"groups":["a"]}"#, 400, "name,validFor").await;
    check("/tokens/user", r#"{"name":"eve","validFor":"soon"}"#, 400, "validFor").await;
    check("/tokens/user", "{", 400, "").await;
}

#[tokio::test]
async fn dataplanes() {
    let body = r#"{"name":"","mesh":"default","tags":{},"type":"dataplane","workload":"api","validFor":""}"#;
    check("/tokens/dataplane", body, 200, "dataplane default api None").await;
    check("/tokens/dataplane", r#"{"type":"ingress"}"#, 400, "mesh,type").await;
    check("/tokens/dataplane", r#"{"mesh":"default","validFor":"-1h"}"#, 400, "validFor").await;
}

#[tokio::test]
async fn zones() {
    check("/tokens/zone", r#"{"zone":"gcp","scope":["cp"],"validFor":"10m"}"#, 200, "zone gcp").await;
    check("/tokens/zone", r#"{"zone":"Not A Zone"}"#, 400, "zone").await;
}
