//! What a proxy notices of a restart of its zone's plane: nothing.

use atoll_envoy_api::type_url;

use crate::{
    envoy::{Came, Envoy},
    plane::{Zone, permission, timeout},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_comes_back_with_everything_is_sent_nothing() {
    let (folder, zone) = Zone::with_mesh().await;
    let data = folder.path().join("data");
    zone.put("/meshes/default/meshtimeouts/slow", timeout("slow", "api", 7)).await;
    zone.put("/meshes/default/meshtrafficpermissions/api", permission("api", "api")).await;
    let token = zone.token_of("web").await;
    let envoy = Envoy::settled(&zone, "web-1", &token).await;
    let (held, chains) = (envoy.held.clone(), envoy.chains("self_inbound_dp_7001"));
    let issued = zone.metric("atoll_certificates_issued_total").await;
    assert_eq!(issued, 1);
    drop(envoy);
    zone.stop(&data).await;

    let zone = Zone::start(&data).await;
    let mut envoy = Envoy::connect(&zone, "web-1", Some(&token), held.clone()).await.unwrap();
    let came = envoy.fence(&zone).await;
    assert_eq!(came, Vec::<Came>::new(), "no resource, no removal");
    assert_eq!(zone.metric("atoll_certificates_issued_total").await, 0, "its certificate holds");
    for kind in [type_url::LISTENER, type_url::SECRET, type_url::EXTENSION] {
        assert_eq!(envoy.held[kind], held[kind], "{kind}");
    }
    // What was granted before the restart is remembered: its end still ends connections.
    let path = "/meshes/default/meshtrafficpermissions/api";
    assert_eq!(zone.call(http::Method::DELETE, path, None).await.0, 200);
    envoy.fence(&zone).await;
    assert_ne!(envoy.chains("self_inbound_dp_7001"), chains);
    drop(envoy);
    zone.stop(&data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_all_that_is_sent() {
    let (folder, zone) = Zone::with_mesh().await;
    let data = folder.path().join("data");
    let token = zone.token_of("web").await;
    let envoy = Envoy::settled(&zone, "web-1", &token).await;
    let (held, api) = (envoy.held.clone(), envoy.cluster_of("api"));
    drop(envoy);
    zone.put("/meshes/default/meshtimeouts/slow", timeout("slow", "api", 7)).await;
    zone.stop(&data).await;
    let zone = Zone::start(&data).await;
    let mut envoy = Envoy::connect(&zone, "web-1", Some(&token), held).await.unwrap();
    let came = envoy.fence(&zone).await;
    let names: Vec<&String> = came.iter().flat_map(|came| &came.names).collect();
    assert_eq!(names, [&api, &api], "the cluster and its endpoints: {came:#?}");
    drop(envoy);
    zone.stop(&data).await;
}
