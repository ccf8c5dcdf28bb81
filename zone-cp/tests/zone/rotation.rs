//! A CA is replaced at an operator's word, one acknowledgement after the other, and no connection of a proxy is cut for it.

use atoll_envoy_api::type_url;
use http::Method;
use serde_json::{Value, json};

use crate::{
    envoy::{BUNDLE, Envoy, Held},
    plane::{WEB, Zone, eventually, identity},
};

/// The states of the zone's CAs, and for whom they wait.
async fn rotation(zone: &Zone) -> (Vec<String>, Value) {
    let (_, trust) = zone.call(Method::GET, "/meshes/default/meshtrusts/identity", None).await;
    let rotation = &trust["spec"]["rotation"];
    let states = rotation["cas"].as_array().into_iter().flatten();
    (states.filter_map(|ca| ca["state"].as_str().map(str::to_owned)).collect(), rotation["waitingFor"].clone())
}

fn cas(held: &Held) -> usize {
    String::from_utf8_lossy(&held[type_url::SECRET][BUNDLE].1).matches("BEGIN CERTIFICATE").count()
}

/// Issuer, SPIFFE id and expiry of the proxy's certificate.
fn certificate(held: &Held) -> String {
    let own = held[type_url::SECRET].iter().find(|(name, _)| *name != BUNDLE).expect("a certificate");
    own.1.0.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_waits_for_the_proxies() {
    let (folder, zone) = Zone::with_mesh().await;
    let token = zone.token_of(WEB).await;
    let mut envoy = Envoy::settled(&zone, "web-1", &token).await;
    let (chains, first) = (envoy.chains("self_inbound_dp_7001"), certificate(&envoy.held));
    assert_eq!(rotation(&zone).await.0, ["Active"]);

    let mut asked = identity();
    asked["labels"] = json!({"atoll.io/rotate-ca": "1"});
    zone.put("/meshes/default/meshidentities/identity", asked).await;
    // The proxy is silent: it was sent the new CA and says nothing.
    eventually("it waits for the proxy", async || {
        let waits = (vec!["Active".to_owned(), "Prepared".to_owned()], json!(["dataplane web-1"]));
        rotation(&zone).await == waits
    })
    .await;
    envoy.until("both CAs are here", |held, _| cas(held) == 2).await;
    assert_eq!(certificate(&envoy.held), first, "the old CA issues until the new one is trusted");

    envoy.until("a certificate of the new CA", |held, _| certificate(held) != first).await;
    assert_eq!(cas(&envoy.held), 2, "the old CA is trusted until nobody shows a certificate of it");
    envoy.until("the old CA is gone", |held, _| cas(held) == 1).await;
    eventually("it is over", async || rotation(&zone).await == (vec!["Active".to_owned()], json!([]))).await;

    envoy.fence(&zone).await;
    assert_eq!(envoy.chains("self_inbound_dp_7001"), chains, "a rotation ends no connection");
    assert_eq!(zone.metric("atoll_certificates_issued_total").await, 2);
    drop(envoy);
    zone.stop(&folder.path().join("data")).await;
}
