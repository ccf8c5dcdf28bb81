//! What a change sends: the resources that it touches, and no other.

use std::collections::BTreeSet;

use atoll_envoy_api::type_url;
use http::Method;

use crate::{
    envoy::{Came, Envoy},
    plane::{Zone, dataplane, permission, timeout},
};

const INBOUND: &str = "self_inbound_dp_7001";

async fn start() -> (tempfile::TempDir, Zone, Envoy) {
    let (folder, zone) = Zone::with_mesh().await;
    let token = zone.token_of("web").await;
    let envoy = Envoy::settled(&zone, "web-1", &token).await;
    (folder, zone, envoy)
}

fn touched(came: &[Came], kind: &str) -> BTreeSet<String> {
    came.iter().filter(|came| came.kind == kind).flat_map(|came| came.names.union(&came.removed).cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_changes_the_cluster_that_it_is_about() {
    let (folder, zone, mut envoy) = start().await;
    let api = envoy.cluster_of("api");
    let before = envoy.held.clone();
    for (policy, seconds) in [(Some(7), 7), (Some(8), 8), (None, 5)] {
        let path = "/meshes/default/meshtimeouts/slow";
        match policy {
            Some(seconds) => zone.put(path, timeout("slow", "api", seconds)).await,
            None => assert_eq!(zone.call(Method::DELETE, path, None).await.0, 200),
        }
        let came = envoy.fence(&zone).await;
        assert_eq!(envoy.timeout_of(&api), Some(seconds));
        assert_eq!(touched(&came, type_url::CLUSTER), BTreeSet::from([api.clone()]), "{came:#?}");
        assert_eq!(touched(&came, type_url::ENDPOINTS), BTreeSet::from([api.clone()]), "they follow their cluster: {came:#?}");
        assert_eq!(came.len(), 2, "nothing else comes: {came:#?}");
    }
    assert_eq!(envoy.held[type_url::CLUSTER][&api], before[type_url::CLUSTER][&api], "as it was");
    assert_eq!(zone.metric("atoll_xds_nacks_total{type=\"Cluster\"}").await, 0);
    drop(envoy);
    zone.stop(&folder.path().join("data")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_permission_renames_the_chain_and_a_new_one_does_not() {
    let (folder, zone, mut envoy) = start().await;
    let chains = envoy.chains(INBOUND);
    for caller in ["api", "db"] {
        zone.put(&format!("/meshes/default/meshtrafficpermissions/{caller}"), permission(caller, caller)).await;
        let came = envoy.fence(&zone).await;
        assert_eq!(envoy.chains(INBOUND), chains, "connections go on");
        assert_eq!(touched(&came, type_url::LISTENER), BTreeSet::new(), "{came:#?}");
        assert_eq!(touched(&came, type_url::EXTENSION), BTreeSet::from([format!("{INBOUND}/rbac")]), "{came:#?}");
    }
    for caller in ["api", "db"] {
        let before = envoy.chains(INBOUND);
        let path = format!("/meshes/default/meshtrafficpermissions/{caller}");
        assert_eq!(zone.call(Method::DELETE, &path, None).await.0, 200);
        let came = envoy.fence(&zone).await;
        assert_ne!(envoy.chains(INBOUND), before, "what it let in must end");
        assert_eq!(touched(&came, type_url::LISTENER), BTreeSet::from([INBOUND.to_owned()]), "{came:#?}");
        assert_eq!(touched(&came, type_url::CLUSTER), BTreeSet::new(), "{came:#?}");
    }
    drop(envoy);
    zone.stop(&folder.path().join("data")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_of_a_service_is_one_more_endpoint() {
    let (folder, zone, mut envoy) = start().await;
    let (api, before) = (envoy.cluster_of("api"), envoy.held.clone());
    let mut second = dataplane("api-2", "api", 7002);
    second["networking"]["address"] = "127.0.0.2".into();
    zone.put("/meshes/default/dataplanes/api-2", second).await;
    let came = envoy.fence(&zone).await;
    assert_eq!(came.len(), 1, "{came:#?}");
    assert_eq!(touched(&came, type_url::ENDPOINTS), BTreeSet::from([api.clone()]));
    assert_ne!(envoy.held[type_url::ENDPOINTS][&api], before[type_url::ENDPOINTS][&api]);
    assert_eq!(zone.call(Method::DELETE, "/meshes/default/dataplanes/api-2", None).await.0, 200);
    envoy.fence(&zone).await;
    assert_eq!(envoy.held[type_url::ENDPOINTS][&api], before[type_url::ENDPOINTS][&api]);
    drop(envoy);
    zone.stop(&folder.path().join("data")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_for_one_proxy_sends_nothing_to_another_which_still_gets_what_comes_next() {
    let (folder, zone, mut web) = start().await;
    let token = zone.token_of("api").await;
    let mut api = Envoy::settled(&zone, "api-1", &token).await;
    // The fences of both are one policy: now each knows of the other's.
    web.fence(&zone).await;
    let cluster = web.cluster_of("api");
    for seconds in [7, 8] {
        let mut policy = timeout("mine", "api", seconds);
        policy["spec"]["targetRef"] = serde_json::json!({ "kind": "Dataplane", "labels": { "kuma.io/workload": "web" } });
        zone.put("/meshes/default/meshtimeouts/mine", policy).await;
        web.fence(&zone).await;
        assert_eq!(web.timeout_of(&cluster), Some(i64::from(seconds)));
        assert_eq!(api.fence(&zone).await, [], "it is not about this proxy");
        assert_eq!(api.timeout_of(&cluster), Some(5));
    }
    zone.put("/meshes/default/meshtimeouts/all", timeout("all", "api", 9)).await;
    web.fence(&zone).await;
    api.fence(&zone).await;
    assert_eq!((web.timeout_of(&cluster), api.timeout_of(&cluster)), (Some(8), Some(9)));
    assert_eq!(zone.call(Method::DELETE, "/meshes/default/meshtimeouts/mine", None).await.0, 200);
    web.fence(&zone).await;
    assert_eq!(web.timeout_of(&cluster), Some(9));
    drop((web, api));
    zone.stop(&folder.path().join("data")).await;
}
