//! Measures reads: `cargo run --release -p atoll-api --example reads [CONNECTIONS] [SECONDS]`. Server and clients share the
//! machine; the clients do as little as they can. Prints one JSON line for each path.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, unused_imports)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use atoll_api::{
    Limits,
    serve::{Gate, Hosts, Scheme, serve},
};
use atoll_model::{Kind, Labels, Owner, ResourceKey, resource::canonical_json};
use atoll_store::{Actor, Write, WriteBatch};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

#[path = "../tests/api/links.rs"]
mod links;
#[path = "../tests/api/support/mod.rs"]
mod support;

use support::{ADMIN, Api, timeout};

/// Resources in the list.
const RESOURCES: u32 = 10_000;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().unwrap());
    let connections = arguments.next().unwrap_or(64);
    let time = Duration::from_secs(arguments.next().unwrap_or(5) as u64);
    let api = filled().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served =
        tokio::spawn(serve(listener, api.router.clone(), Scheme::Http, Gate::new(Limits::default(), Hosts::any()), stop.clone()));
    let list = "/meshes/default/meshtimeouts";
    for (name, path, clients) in [
        ("get", format!("{list}/t-4711"), connections),
        ("list page", list.to_owned(), 4),
        ("list last page", format!("{list}?offset=9900"), 4),
        ("list by label", format!("{list}?filter[labels.team]=t7"), 4),
        ("list by zone", format!("{list}?filter[labels.kuma.io/origin]=global"), 4),
        ("list by name", format!("{list}?name=471"), 4),
        ("list of 1000", format!("{list}?size=1000"), 4),
    ] {
        run(address, &path, 4, Duration::from_millis(500)).await;
        let before = cpu();
        let mut times = run(address, &path, clients, time).await;
        let cpu_us = (cpu() - before) * 1e6 / times.len() as f64;
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let rate = times.len() as f64 / time.as_secs_f64();
        println!(
            "{}",
            json!({
                "workload": name, "connections": clients, "n": times.len(), "per_s": rate.round(),
                "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
                "cpu_us_per_op": cpu_us.round(),
            })
        );
    }
    stop.cancel();
    served.await.unwrap();
}

async fn filled() -> Api {
    let api = Api::global().await;
    let spec = canonical_json(&timeout("x", "default")["spec"]);
    let key = |i: u32| ResourceKey::new(Kind::MeshTimeout, "default", format!("t-{i:04}"), Owner::Global);
    let labels = |i: u32| Labels::from([("team".to_owned(), format!("t{}", i % 100))]);
    let writes: Vec<_> = (0..RESOURCES).map(|i| Write::put(key(i), labels(i), spec.clone())).collect();
    for part in writes.chunks(1000) {
        api.store.commit(WriteBatch::new(Actor::plane(), part.to_vec())).await.unwrap();
    }
    api
}

/// Seconds of processor time that server and clients took together; what others do on the machine does not change it.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// How long each request took.
async fn run(address: SocketAddr, path: &str, connections: usize, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let clients: Vec<_> = (0..connections).map(|_| tokio::spawn(client(address, path.to_owned(), end))).collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    times
}

async fn client(address: SocketAddr, path: String, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    let (mut times, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(&mut stream, &mut buffer).await;
        times.push(begun.elapsed());
    }
    times
}

/// Reads one answer to its end.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut held = 0;
    loop {
        held += stream.read(&mut buffer[held..]).await.unwrap();
        let Some(head) = buffer[..held].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut missing = (head + 4 + length.parse::<usize>().unwrap()).saturating_sub(held);
        while missing > 0 {
            missing -= stream.read(&mut buffer[..]).await.unwrap();
        }
        return;
    }
}
