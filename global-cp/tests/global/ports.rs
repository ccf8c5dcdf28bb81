//! Each port serves its own callers and nobody else's, also while one of them is flooded.

use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

use crate::support::{Global, Operator, call, config, https, operator, plain, try_start};

async fn started(more: &[&str]) -> (TempDir, Global, Operator) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let global = try_start(config(&data, None, more)).await.unwrap_or_else(|error| panic!("{error:?}"));
    let operator = operator(&data);
    (folder, global, operator)
}

/// Status and text of a request over HTTP/2, as gRPC's clients make it; the text of the fault if there is no answer.
async fn over_h2(operator: &Operator, url: &str, method: Method) -> Result<(u16, Option<String>, String), String> {
    let request = https(&operator.ca).request(method.clone(), url).bearer_auth(&operator.token);
    let request = if method == Method::POST { request.header("content-type", "application/grpc").body("") } else { request };
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let (status, grpc) = (answer.status().as_u16(), answer.headers().get("grpc-status").cloned());
    let grpc = grpc.map(|value| value.to_str().unwrap().to_owned());
    Ok((status, grpc, answer.text().await.unwrap_or_default()))
}

#[tokio::test]
async fn nothing_of_one_port_is_served_on_another() {
    let (_folder, global, operator) = started(&[]).await;
    let at = global.running.addresses;
    // Diagnostics have no resources; REST has no metrics, whoever asks.
    assert_eq!(plain(at.diagnostics, "/metrics").await.0, 200);
    for path in ["/meshes", "/config", "/_audit", "/tokens/user", "/openapi.json"] {
        assert_eq!(plain(at.diagnostics, path).await.0, 404, "{path}");
    }
    assert_eq!(call(&operator, &global.url(), Method::GET, "/metrics", None).await.0, 404);
    assert_eq!(plain(at.rest, "/metrics").await.0, 401);

    // The link lets nobody in without a zone's certificate, an operator neither.
    let link = over_h2(&operator, &format!("https://{}/", at.link), Method::GET).await;
    assert!(link.unwrap_err().contains("CertificateRequired"));

    // Joining is all that the join port does; REST and the link know nothing of it.
    let session = "atoll.link.v1.Link/Session";
    let join = |path: &str| format!("https://{}/{path}", at.join);
    for path in ["", "meshes", "metrics", "healthy"] {
        let (_, grpc, text) = over_h2(&operator, &join(path), Method::GET).await.unwrap();
        assert!(grpc.as_deref() == Some("12") && text.is_empty(), "/{path}: {grpc:?} {text}");
    }
    let (_, grpc, _) = over_h2(&operator, &join(session), Method::POST).await.unwrap();
    assert_eq!(grpc.as_deref(), Some("12"), "no session on the join port");
    for method in [session, "atoll.link.v1.Join/Redeem"] {
        let (status, grpc, _) = over_h2(&operator, &format!("{}/{method}", global.url()), Method::POST).await.unwrap();
        assert!(matches!(status, 404 | 405) && grpc.is_none(), "{method} on REST: {status} {grpc:?}");
    }
    global.stop().await;
}

#[tokio::test]
async fn a_flood_on_rest_takes_no_place_from_health_and_zones() {
    let (_folder, global, operator) = started(&["--limit-requests", "4", "--limit-connections", "24"]).await;
    let at = global.running.addresses;
    // All places for requests are taken by bodies that do not come, and then all connections.
    let head = format!(
        "PUT /meshes/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n",
        operator.token
    );
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(at.rest).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (status, problem) = call(&operator, &global.url(), Method::GET, "/meshes", None).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("--limit-requests"), "{problem}");
    assert_eq!(call(&operator, &global.url(), Method::GET, "/healthy", None).await.0, 200);
    for _ in 0..24 {
        held.push(TcpStream::connect(at.rest).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert_eq!(plain(at.diagnostics, "/ready").await.0, 200);
    let metrics = plain(at.diagnostics, "/metrics").await.1;
    assert!(metrics.contains("atoll_api_shed_total{what=\"requests\"} 1"), "{metrics}");
    // The ports of zones answer: they want a certificate, and know the join.
    let link = over_h2(&operator, &format!("https://{}/", at.link), Method::GET).await;
    assert!(link.unwrap_err().contains("CertificateRequired"));
    let join = over_h2(&operator, &format!("https://{}/", at.join), Method::GET).await.unwrap();
    assert_eq!(join.1.as_deref(), Some("12"));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(held);
    global.stop().await;
}
