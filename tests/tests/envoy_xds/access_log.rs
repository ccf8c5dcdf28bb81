//! What real Envoys write of connections and requests.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    AZURE, GCP, Gateway, SNI, allow,
    envoy::Envoy,
    pki,
    plane::{DEADLINE, Plane},
    resources,
    traffic::{self, Connection, free, tls_works},
};

/// The first line in which a field is this.
async fn line(envoy: &Envoy, field: &str, value: &str) -> Value {
    let find = async {
        loop {
            let text = envoy.access_log();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.into_iter().find(|line| line[field] == value) {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, find).await;
    found.unwrap_or_else(|_| panic!("no line with {field} {value} in:\n{}", envoy.access_log()))
}

/// Whoever knocks at an ingress is in its log, with what was asked for; also who asked for nothing that is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_logs_every_connection() {
    let gcp = pki::ca(GCP);
    let (own, ingress) = (pki::leaf(&gcp, "/workload/api-gateway"), free());
    let app = traffic::tls_echo(pki::server(&own)).await;
    let yaml = format!(
        "zone: gcp
proxy:
  name: ingress
  networking: {{address: 127.0.0.1, listeners: [{{type: ZoneIngress, address: {}, port: {}}}]}}
services:
  - {{name: api-gateway, zone: gcp, tlsReady: true, ports: [{{port: 9443, name: main, endpoints: [\"{app}\"]}}]}}
",
        ingress.ip(),
        ingress.port(),
    );
    let plane = Plane::start().await;
    let envoy = Envoy::start("ingress", &plane).await;
    plane.apply("ingress", resources(&yaml, None)).await;
    let client = pki::client(&own);
    assert!(tls_works(ingress, &client, SNI).await);
    let taken = line(&envoy, "sni", SNI).await;
    assert_eq!(taken["upstream_cluster"], "kri_msvc_default_gcp__api-gateway_main");
    assert_eq!(taken["upstream"], app.to_string());
    assert!(taken["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{taken}");
    assert!(taken["bytes_received"].as_u64() > Some(100) && taken["duration_us"].as_u64() > Some(0), "{taken}");

    let unknown = "sni.msvc.default.gcp.other.main";
    assert!(!tls_works(ingress, &client, unknown).await);
    let refused = line(&envoy, "sni", unknown).await;
    assert_eq!((&refused["flags"], &refused["upstream_cluster"]), (&"NR".into(), &Value::Null));
}

/// A sidecar that is told to logs who called, as the certificates say it, and for HTTP what was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_logs_when_told() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let (a, b) = (format!("spiffe://{AZURE}/workload/a"), format!("spiffe://{AZURE}/workload/b"));
    let client = pki::client(&pki::leaf(&azure, "/workload/a"));
    let plane = Plane::start().await;

    let silent = Gateway::new().await;
    let tcp = Gateway::new().await;
    let http = Gateway { app: traffic::http().await, protocol: "http", ..Gateway::new().await };
    let set = |gateway: &Gateway, logged: bool, allowed: &[&str]| {
        resources(&format!("{}accessLog: {logged}\n", gateway.yaml(&allow(allowed), 0)), Some((&own, &bundles)))
    };

    let envoy = Envoy::start("tcp", &plane).await;
    plane.apply("tcp", set(&tcp, true, &[&a])).await;
    let mut open = Connection::tls(tcp.listen, Arc::clone(&client), SNI).await.unwrap();
    assert!(open.works().await);
    // Policies change nothing of a listener that logs, either.
    let before = envoy.listener("self_inbound_dp_main").await;
    plane.apply("tcp", set(&tcp, true, &[&a, &b])).await;
    assert_eq!(envoy.listener("self_inbound_dp_main").await, before);
    assert!(open.works().await);
    drop(open);
    let call = line(&envoy, "log", "connection").await;
    let own_id = format!("spiffe://{GCP}/workload/api-gateway");
    assert_eq!((call["peer_uri"].as_str(), call["own_uri"].as_str()), (Some(a.as_str()), Some(own_id.as_str())));
    assert_eq!(
        (&call["tls_version"], &call["sni"], &call["chain"]),
        (&"TLSv1.3".into(), &SNI.into(), &"self_inbound_dp_main#0".into())
    );
    assert_eq!((&call["bytes_received"], &call["bytes_sent"]), (&10.into(), &10.into()));

    let envoy = Envoy::start("http", &plane).await;
    plane.apply("http", set(&http, true, &[&a])).await;
    let mut open = Connection::tls(http.listen, Arc::clone(&client), SNI).await.unwrap();
    assert_eq!(open.get().await, Some(200));
    let request = line(&envoy, "log", "request").await;
    assert_eq!((&request["method"], &request["path"], &request["status"]), (&"GET".into(), &"/".into(), &200.into()));
    assert_eq!(request["peer_uri"], a);

    let envoy = Envoy::start("silent", &plane).await;
    plane.apply("silent", set(&silent, false, &[&a])).await;
    assert!(tls_works(silent.listen, &client, SNI).await);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(envoy.access_log(), "");
}
