//! `/ready` and `/metrics` tell the truth.

use std::path::Path;

use atoll_link::Credentials;
use atoll_model::{Clock, Kind, Labels, Name, Owner, ResourceKey, Revision};
use atoll_runtime::{clock::SystemClock, shutdown::Shutdown};
use atoll_store::{Actor, PeerCursor, RemoteBatch, RemoteItem};
use atoll_trust::{Pin, ZonePeer, ca::ControlPlaneCa, join::JoinToken, x509::Facts};
use atoll_zone_cp::{identity::ZoneDir, run};
use http::Method;
use serde_json::json;
use uuid::Uuid;

use crate::plane::{Zone, config, dataplane, eventually, plain, try_start};

async fn ready(zone: &Zone) -> (u16, String) {
    plain(zone.running.addresses.diagnostics, "/ready").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_cannot_write_is_not_ready_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let zone = Zone::start(&data).await;
    assert_eq!(ready(&zone).await, (200, "ready\n".to_owned()));
    assert_eq!(zone.call(Method::GET, "/ready", None).await.0, 200);

    zone.running.store.execute("PRAGMA query_only = 1").await.unwrap();
    let path = "/meshes/default/dataplanes/late";
    let (status, refused) = zone.call(Method::PUT, path, Some(dataplane("late", "late", 7009))).await;
    assert_eq!(status, 503, "{refused}");
    let expected = (503, "not ready: store: it cannot be written; proxies are served from memory\n".to_owned());
    assert_eq!(ready(&zone).await, expected);
    assert_eq!(zone.call(Method::GET, "/ready", None).await.0, 503, "both ports say the same");
    assert_eq!((zone.metric("atoll_ready").await, zone.metric("atoll_store_available").await), (0, 0));
    assert_eq!(zone.call(Method::GET, "/meshes", None).await.0, 200, "reads go on");
    assert_eq!(plain(zone.running.addresses.diagnostics, "/healthy").await.0, 200);

    zone.running.store.execute("PRAGMA query_only = 0").await.unwrap();
    eventually("ready again", async || ready(&zone).await.0 == 200).await;
    zone.put(path, dataplane("late", "late", 7009)).await;
    zone.stop(&data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_what_there_is_and_no_secret() {
    let (folder, zone) = Zone::with_mesh().await;
    let token = zone.token_of("web").await;
    let envoy = crate::envoy::Envoy::settled(&zone, "web-1", &token).await;
    let revision = zone.running.store.snapshot().revision().0;
    eventually("the view is the store's", async || zone.metric("atoll_view_revision").await == revision).await;
    for (metric, value) in [
        ("atoll_ready", 1),
        ("atoll_store_available", 1),
        ("atoll_store_revision", revision),
        ("atoll_resources{kind=\"Dataplane\"}", 3),
        ("atoll_resources{kind=\"MeshService\"}", 3),
        ("atoll_xds_streams", 1),
        ("atoll_runner_streams", 0),
        ("atoll_proxies{phase=\"present\"}", 1),
        ("atoll_endpoints_held", 0),
        ("atoll_certificates_issued_total", 1),
        ("atoll_xds_refused_resources{type=\"Cluster\"}", 0),
        ("atoll_xds_nacks_total{type=\"Listener\"}", 0),
    ] {
        assert_eq!(zone.metric(metric).await, value, "{metric}");
    }
    assert!(zone.metric("atoll_xds_responses_total{type=\"Cluster\"}").await > 0);
    let renewal = zone.metric("atoll_certificates_next_renewal_seconds").await;
    let in_hours = (renewal.cast_signed() - SystemClock.now().timestamp()) / 3600;
    assert!((1..=12).contains(&in_hours), "half of a day's life: {in_hours} h");
    let (_, text) = plain(zone.running.addresses.diagnostics, "/metrics").await;
    for secret in [token.as_str(), &zone.operator.token, "PRIVATE KEY", "spiffe://", "web-1"] {
        assert!(!text.contains(secret), "{secret} stands in the metrics");
    }
    drop(envoy);
    eventually("no stream is left", async || zone.metric("atoll_xds_streams").await == 0).await;
    zone.stop(&folder.path().join("data")).await;
}

/// Flags of a zone whose global is not there.
fn federated<'a>(nowhere: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--global", nowhere, "--join", nowhere][..], more].concat()
}

fn nowhere() -> String {
    atoll_runtime::testing::free_address().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_waits_to_join_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (at, global) = (nowhere(), nowhere());
    let token = folder.path().join("token");
    let text = JoinToken::generate(Pin::of_spki(b"nobody"), &mut rand::rng()).to_text();
    std::fs::write(&token, text.expose()).unwrap();
    let flags = federated(&global, &["--join-token-file", token.to_str().unwrap(), "--diagnostics-listen", &at]);
    let shutdown = Shutdown::new();
    let starting = tokio::spawn(run(config(&folder.path().join("data"), &flags), shutdown.clone()));
    let expected = "not ready: joining: waiting for global to take the join token\n";
    eventually("it says that it joins", async || plain(at.parse().unwrap(), "/ready").await == (503, expected.to_owned())).await;
    shutdown.soft().cancel();
    let ended = starting.await.unwrap().err().expect("it started").to_string();
    assert!(ended.contains("ended while joining"), "{ended}");
}

/// Makes `data` that of a zone that has joined a cluster.
fn join(data: &Path) {
    let (mut rng, now, cluster) = (rand::rng(), SystemClock.now(), Uuid::from_u128(7));
    let dir = ZoneDir::open(data, &mut rng).unwrap();
    let ca = ControlPlaneCa::generate(cluster, now, &mut rng).unwrap();
    let peer = ZonePeer { cluster, zone: dir.uid(), instance: "0".to_owned() };
    let request = dir.pending_key().unwrap().request().unwrap();
    let certificate = ca.issue_zone(&request, &peer, now, &mut rng).unwrap();
    assert!(Facts::of_pem(&certificate.chain_pem).is_ok());
    let der = |pem: &str| {
        let chain = atoll_runtime::tls::chain_from_pem(pem).unwrap();
        chain.into_iter().map(|der| bytes::Bytes::copy_from_slice(&der)).collect::<Vec<_>>()
    };
    let credentials = Credentials {
        chain: der(&certificate.chain_pem),
        cas: der(ca.cert_pem()),
        cluster_id: cluster,
        zone_name: "azure".into(),
    };
    dir.install(&credentials).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_a_copy_waits_for_it_and_one_that_is_cut_off_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    join(&data);
    let global = nowhere();
    let zone = try_start(config(&data, &federated(&global, &[]))).await.unwrap();
    let expected = (503, "not ready: copy: waiting for the first copy from global\n".to_owned());
    assert_eq!(ready(&zone).await, expected);
    assert_eq!(zone.metric("atoll_link_phase{phase=\"disconnected\"}").await, 1);
    // As the link does it.
    let mesh = ResourceKey::new(Kind::Mesh, Name::none(), "default", Owner::Global);
    let batch = RemoteBatch {
        peer: "global".to_owned(),
        items: vec![RemoteItem::Put { key: mesh, labels: Labels::new(), spec: json!({}).to_string().into() }],
        cursor: Some(PeerCursor { epoch: Uuid::from_u128(1), revision: Revision(5) }),
        actor: Actor::plane(),
    };
    zone.running.store.apply_remote(batch).await.unwrap().durable.wait().await.unwrap();
    zone.stop(&data).await;

    let zone = try_start(config(&data, &federated(&global, &[]))).await.unwrap();
    assert_eq!(ready(&zone).await.0, 200, "it has its copy");
    assert_eq!(zone.call(Method::GET, "/meshes/default", None).await.0, 200);
    zone.stop(&data).await;
}
