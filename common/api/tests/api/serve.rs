//! Real connections: limits of headers, draining.

use atoll_api::{
    Limits,
    serve::{Gate, Hosts, Scheme, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::Api;

async fn ask(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_are_served_with_limits_until_the_stop() {
    let api = Api::global().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served =
        tokio::spawn(serve(listener, api.router.clone(), Scheme::Http, Gate::new(Limits::default(), Hosts::any()), stop.clone()));
    let good = ask(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(good.starts_with("HTTP/1.1 200") && good.contains("\"product\": \"Kuma\""), "{good}");
    let many: String = (0..70).map(|i| format!("h{i}: v\r\n")).collect();
    let refused = ask(address, &format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    let long = ask(address, &format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(20_000))).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    stop.cancel();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
