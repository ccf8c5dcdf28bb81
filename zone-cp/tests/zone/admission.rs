//! Who gets a proxy's configuration.

use std::time::Duration;

use atoll_envoy_api::type_url;
use http::Method;
use serde_json::json;
use tonic::Code;

use crate::{
    envoy::{BUNDLE, Envoy, Held},
    plane::Zone,
};

/// With which code the stream of `name` is refused.
async fn refused(zone: &Zone, name: &str, token: Option<&str>) -> Code {
    match Envoy::connect(zone, name, token, Held::new()).await {
        Err(status) => status.code(),
        Ok(mut envoy) => envoy.take().await.expect_err("it was let in").code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_gets_its_own_configuration_and_nobody_elses() {
    let (folder, zone) = Zone::with_mesh().await;
    let token = zone.token_of("web").await;
    let envoy = Envoy::settled(&zone, "web-1", &token).await;
    assert!(envoy.held[type_url::LISTENER].contains_key("self_inbound_dp_7001"), "{:?}", envoy.held[type_url::LISTENER].keys());
    let secrets: Vec<&String> = envoy.held[type_url::SECRET].keys().collect();
    assert!(secrets.iter().any(|name| *name == BUNDLE) && secrets.len() == 2, "its certificate and whom to trust: {secrets:?}");
    let mine = envoy.held[type_url::SECRET].iter().find(|(name, _)| *name != BUNDLE).unwrap();
    assert!(mine.1.0.ends_with("spiffe://default.azure.mesh.local/workload/web"), "{}", mine.1.0);

    assert_eq!(refused(&zone, "api-1", Some(&token)).await, Code::PermissionDenied);
    let other_name = zone.token(json!({"mesh": "default", "name": "web-2", "workload": "web"})).await;
    assert_eq!(refused(&zone, "web-1", Some(&other_name)).await, Code::PermissionDenied);
    let unbound = zone.token(json!({"mesh": "default"})).await;
    assert_eq!(refused(&zone, "web-1", Some(&unbound)).await, Code::PermissionDenied, "the workload makes the identity");
    let other_mesh = zone.token(json!({"mesh": "other", "workload": "web"})).await;
    assert_eq!(refused(&zone, "web-1", Some(&other_mesh)).await, Code::PermissionDenied);
    assert_eq!(refused(&zone, "web-9", Some(&token)).await, Code::Unavailable, "it may be created yet");
    drop(envoy);
    zone.stop(&folder.path().join("data")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_that_holds_nothing_is_said() {
    let (folder, zone) = Zone::with_mesh().await;
    let token = zone.token_of("web").await;
    assert_eq!(refused(&zone, "web-1", None).await, Code::Unauthenticated);
    let (start, end) = token.split_at(token.len() - 5);
    let other = if end.starts_with('x') { "y" } else { "x" };
    let forged = format!("{start}{other}{}", &end[1..]);
    for bad in [forged.as_str(), "", "nonsense", &zone.operator.token] {
        let code = refused(&zone, "web-1", Some(bad)).await;
        assert!(matches!(code, Code::Unauthenticated | Code::PermissionDenied), "{bad}: {code}");
    }
    let counted = zone.metric("atoll_xds_refused_streams_total{reason=\"unauthenticated\"}").await;
    let denied = zone.metric("atoll_xds_refused_streams_total{reason=\"denied\"}").await;
    assert_eq!(counted + denied, 5, "each refusal is counted");
    assert_eq!(zone.metric("atoll_xds_streams").await, 0);
    zone.stop(&folder.path().join("data")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_and_its_open_streams_end() {
    let (folder, zone) = Zone::with_mesh().await;
    let (revoked, other) = (zone.token_of("web").await, zone.token_of("web").await);
    let mut envoy = Envoy::settled(&zone, "web-1", &revoked).await;
    let (status, done) = zone.call(Method::POST, "/tokens/revocations", Some(json!({"token": revoked}))).await;
    assert_eq!(status, 200, "{done}");
    let ended = async {
        loop {
            match envoy.take().await {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(15), ended).await.expect("it ends within 15 s");
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert_eq!(refused(&zone, "web-1", Some(&revoked)).await, Code::PermissionDenied);
    let again = Envoy::settled(&zone, "web-1", &other).await;
    drop((envoy, again));
    zone.stop(&folder.path().join("data")).await;
}
