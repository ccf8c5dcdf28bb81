//! Each port of a zone serves its own callers and nobody else's.

use atoll_runtime::tls;
use http::Method;

use crate::plane::{Zone, plain};

#[tokio::test]
async fn nothing_of_one_port_is_served_on_another() {
    let (_folder, zone) = Zone::with_mesh().await;
    let at = zone.running.addresses;
    assert_eq!(plain(at.diagnostics, "/metrics").await.0, 200);
    for path in ["/meshes", "/config", "/tokens/dataplane", "/openapi.json"] {
        assert_eq!(plain(at.diagnostics, path).await.0, 404, "{path}");
    }
    assert_eq!(zone.call(Method::GET, "/metrics", None).await.0, 404);
    let methods =
        ["envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", "atoll.runner.v1.Runner/Attach"];
    for method in methods {
        assert!(matches!(zone.call(Method::POST, &format!("/{method}"), None).await.0, 404 | 405), "{method} on REST");
    }
    // The proxies' port has no resources, with the operator's token neither.
    let roots = tls::roots_from_pem(&zone.operator.ca).unwrap();
    let config = rustls::ClientConfig::clone(&tls::client_config(roots, None, &[b"h2"]).unwrap());
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
    for path in ["", "meshes", "meshes/default/dataplanes", "metrics", "ready", "config"] {
        let asked = client.get(format!("https://{}/{path}", at.dataplanes)).bearer_auth(&zone.operator.token);
        let answer = asked.send().await.unwrap();
        let grpc = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
        let text = answer.text().await.unwrap();
        assert!(grpc.as_deref() == Some("12") && text.is_empty(), "/{path}: {grpc:?} {text}");
    }
}
