//! A zone that cannot keep a CA: its proxies wait, people see why, and nothing has to change for them to go on.

use atoll_envoy_api::type_url;
use atoll_model::{Owner, alias};
use http::Method;
use serde_json::Value;

use crate::{
    envoy::{Envoy, Held},
    plane::{WEB, Zone, dataplane, eventually, identity},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_a_certificate_is_tried_again_and_says_why_it_waits() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let zone = Zone::start(&data).await;
    let uid = std::fs::read_to_string(data.join("uid")).unwrap();
    let owner = Owner::Zone(uid.trim().parse().unwrap());
    let in_the_way = data.join("identity").join(alias::alias("default", "identity", &owner.to_string()));
    std::fs::write(&in_the_way, "not a folder").unwrap();
    zone.put("/meshes/default/meshidentities/identity", identity()).await;
    zone.put("/meshes/default/dataplanes/web-1", dataplane("web-1", WEB, 7001)).await;

    let token = zone.token_of(WEB).await;
    let mut envoy = Envoy::connect(&zone, "web-1", Some(&token), Held::new()).await.unwrap();
    let path = "/meshes/default/dataplanes/web-1/_overview";
    eventually("people see why", async || {
        let (_, overview) = zone.call(Method::GET, path, None).await;
        let refused = overview["dataplaneInsight"]["certificate"]["refused"].as_str().map(str::to_owned);
        refused.is_some_and(|refused| refused.contains("no CA for") && refused.contains("identity"))
    })
    .await;
    assert_eq!(zone.metric("atoll_certificates_refused").await, 1);

    std::fs::remove_file(&in_the_way).unwrap();
    envoy.until("it has a certificate", |held, _| held.get(type_url::SECRET).is_some_and(|secrets| secrets.len() >= 2)).await;
    eventually("nothing waits", async || {
        let (_, overview) = zone.call(Method::GET, path, None).await;
        overview["dataplaneInsight"]["certificate"] == Value::Null
    })
    .await;
    assert_eq!(zone.metric("atoll_certificates_refused").await, 0);
    drop(envoy);
    zone.stop(&data).await;
}
