//! DNS as a client sees it.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use atoll_dataplane::{
    dns::{DnsServer, Table, Upstream, server::Questions},
    proto,
};
use hickory_proto::{
    op::ResponseCode,
    rr::{DNSClass, Name, RecordType},
};
use hickory_server::net::{
    client::{Client, ClientHandle},
    runtime::TokioRuntimeProvider,
    tcp::TcpClientStream,
    udp::UdpClientStream,
};
use tokio::{net::UdpSocket, sync::watch, task::AbortHandle};
use tokio_util::sync::CancellationToken;

/// A server that runs until it is dropped.
struct Running {
    address: SocketAddr,
    table: watch::Sender<Arc<Table>>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn table(records: &[(&str, &[&str])]) -> Arc<Table> {
    let record = |(name, addresses): &(&str, &[&str])| proto::DnsRecord {
        name: (*name).to_owned(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    };
    let records = records.iter().map(record).collect();
    let shapes = vec!["*.*.mesh.acme.corp".to_owned()];
    Arc::new(Table::default().after(proto::DnsTable { full: true, records, removed: Vec::new(), ttl_seconds: 7, shapes }))
}

async fn run(records: &[(&str, &[&str])], upstream: &str) -> Running {
    let server = DnsServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    let (table, receiver) = watch::channel(table(records));
    let upstream = Upstream::new(&[upstream.to_owned()], "", Some(address)).unwrap();
    tokio::spawn(server.serve(receiver, upstream, Questions::default(), stop.clone()));
    Running { address, table, stop }
}

/// What a client is told: the code, and each record as `TTL TYPE DATA`.
type Told = (ResponseCode, Vec<String>);

async fn ask(client: &mut Client<TokioRuntimeProvider>, name: &str, kind: RecordType) -> Told {
    let answer = client.query(Name::from_ascii(name).unwrap(), DNSClass::IN, kind).await.unwrap();
    let records = answer.answers.iter().map(|record| format!("{} {} {}", record.ttl, record.record_type(), record.data));
    (answer.metadata.response_code, records.collect())
}

fn udp(server: SocketAddr) -> Client<TokioRuntimeProvider> {
    let (client, background) = Client::from_sender(UdpClientStream::builder(server, TokioRuntimeProvider::default()).build());
    tokio::spawn(background);
    client
}

async fn tcp(server: SocketAddr) -> Client<TokioRuntimeProvider> {
    let (stream, sender) = TcpClientStream::new(server, None, None, TokioRuntimeProvider::new());
    let (client, background) = Client::new(stream.await.unwrap(), sender);
    tokio::spawn(background);
    client
}

async fn over_udp(server: SocketAddr, name: &str, kind: RecordType) -> Told {
    ask(&mut udp(server), name, kind).await
}

fn told(code: ResponseCode, records: &[&str]) -> Told {
    (code, records.iter().map(|record| (*record).to_owned()).collect())
}

const GATEWAY: &str = "api-gateway.gcp.mesh.acme.corp";

#[tokio::test]
async fn names_of_the_mesh_are_answered_over_udp_and_tcp_in_any_case() {
    let server = run(&[(GATEWAY, &["127.21.3.9"])], "none").await;
    let expected = told(ResponseCode::NoError, &["7 A 127.21.3.9"]);
    for name in ["api-gateway.gcp.mesh.acme.corp.", "API-Gateway.GCP.mesh.acme.corp."] {
        assert_eq!(over_udp(server.address, name, RecordType::A).await, expected);
        assert_eq!(ask(&mut tcp(server.address).await, name, RecordType::A).await, expected);
    }
}

#[tokio::test]
async fn a_name_without_the_family_exists_all_the_same() {
    let server = run(&[("v4.mesh", &["127.0.0.1"]), ("both.mesh", &["127.0.0.1", "::1"])], "none").await;
    let empty = told(ResponseCode::NoError, &[]);
    assert_eq!(over_udp(server.address, "v4.mesh.", RecordType::AAAA).await, empty);
    assert_eq!(over_udp(server.address, "v4.mesh.", RecordType::TXT).await, empty);
    assert_eq!(over_udp(server.address, "both.mesh.", RecordType::AAAA).await, told(ResponseCode::NoError, &["7 AAAA ::1"]));
}

#[tokio::test]
async fn a_name_appears_and_goes_with_the_table() {
    let server = run(&[], "none").await;
    let gone = told(ResponseCode::NXDomain, &[]);
    assert_eq!(over_udp(server.address, "a.mesh.", RecordType::A).await, gone);
    server.table.send_replace(table(&[("a.mesh", &["127.0.0.5"])]));
    assert_eq!(over_udp(server.address, "a.mesh.", RecordType::A).await, told(ResponseCode::NoError, &["7 A 127.0.0.5"]));
    server.table.send_replace(table(&[]));
    assert_eq!(over_udp(server.address, "a.mesh.", RecordType::A).await, gone);
}

#[tokio::test]
async fn other_names_are_the_upstreams() {
    let upstream = run(&[("www.example.org", &["192.0.2.1"])], "none").await;
    let server = run(&[("a.mesh", &["127.0.0.1"])], &upstream.address.to_string()).await;
    let expected = told(ResponseCode::NoError, &["7 A 192.0.2.1"]);
    assert_eq!(over_udp(server.address, "www.example.org.", RecordType::A).await, expected);
    assert_eq!(ask(&mut tcp(server.address).await, "www.example.org.", RecordType::A).await, expected);
    assert_eq!(over_udp(server.address, "absent.example.org.", RecordType::A).await, told(ResponseCode::NXDomain, &[]));
}

/// The code, and each record of the authority section.
async fn refused(server: SocketAddr, name: &str) -> (ResponseCode, Vec<String>) {
    let answer = udp(server).query(Name::from_ascii(name).unwrap(), DNSClass::IN, RecordType::A).await.unwrap();
    assert!(answer.answers.is_empty(), "{answer:?}");
    let records = answer.authorities.iter().map(|record| format!("{} {} {}", record.name, record.ttl, record.record_type()));
    (answer.metadata.response_code, records.collect())
}

#[tokio::test]
async fn an_unknown_name_of_the_meshs_shape_does_not_exist_whatever_the_upstream_is_like() {
    const ABSENT: &str = "absent.gcp.mesh.acme.corp.";
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let unreachable = run(&[], &silent.local_addr().unwrap().to_string()).await;
    let (nobody, knows_not) = (run(&[], "none").await, run(&[], "none").await);
    let asks = run(&[], &knows_not.address.to_string()).await;
    let expected = (ResponseCode::NXDomain, vec!["mesh.acme.corp. 5 SOA".to_owned()]);
    for server in [&unreachable, &nobody, &asks] {
        assert_eq!(refused(server.address, ABSENT).await, expected);
    }
    // Other names below the same domain are not the mesh's.
    assert_eq!(refused(unreachable.address, "intranet.acme.corp.").await, (ResponseCode::ServFail, vec![]));
}

#[tokio::test]
async fn a_name_of_the_meshs_shape_that_exists_outside_is_found_there() {
    const OUTSIDE: &str = "printer.office.mesh.acme.corp";
    let upstream = run(&[(OUTSIDE, &["192.0.2.7"])], "none").await;
    let server = run(&[], &upstream.address.to_string()).await;
    let name = format!("{OUTSIDE}.");
    assert_eq!(over_udp(server.address, &name, RecordType::A).await, told(ResponseCode::NoError, &["7 A 192.0.2.7"]));
    let empty = told(ResponseCode::NoError, &[]);
    assert_eq!(over_udp(server.address, &name, RecordType::AAAA).await, empty, "it exists, without this family");
}

#[tokio::test]
async fn a_silent_upstream_is_a_quick_failure_and_delays_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = run(&[("a.mesh", &["127.0.0.1"])], &silent.local_addr().unwrap().to_string()).await;
    let address = server.address;
    let lost = tokio::spawn(async move { over_udp(address, "www.example.org.", RecordType::A).await });
    let quick = tokio::time::timeout(Duration::from_secs(1), over_udp(address, "a.mesh.", RecordType::A)).await;
    assert_eq!(quick.unwrap(), told(ResponseCode::NoError, &["7 A 127.0.0.1"]));
    let lost = tokio::time::timeout(Duration::from_secs(4), lost).await.expect("no longer than that").unwrap();
    assert_eq!(lost, told(ResponseCode::ServFail, &[]));
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_a_datagram_is_whole_over_tcp() {
    let addresses: Vec<String> = (0..200).map(|i| format!("127.0.{}.{}", i / 250, i % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let server = run(&[("large.mesh", &addresses)], "none").await;
    let mut client = udp(server.address);
    let cut = client.query(Name::from_ascii("large.mesh.").unwrap(), DNSClass::IN, RecordType::A).await.unwrap();
    assert!(cut.metadata.truncation, "the client is told to come by TCP");
    assert_eq!(ask(&mut tcp(server.address).await, "large.mesh.", RecordType::A).await.1.len(), 200);
}

#[tokio::test]
async fn an_upstreams_forged_answer_is_not_believed() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = run(&[], &upstream.local_addr().unwrap().to_string()).await;
    let forger: AbortHandle = tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, peer) = upstream.recv_from(&mut buffer).await.unwrap();
            let mut forged = buffer[..length].to_vec();
            forged[0] ^= 0xff;
            forged[2] |= 0x80;
            upstream.send_to(&forged, peer).await.unwrap();
        }
    })
    .abort_handle();
    assert_eq!(over_udp(server.address, "www.example.org.", RecordType::A).await, told(ResponseCode::ServFail, &[]));
    forger.abort();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = run(&[], "none").await;
    let fault = DnsServer::bind(server.address).await.unwrap_err().to_string();
    assert!(fault.contains(&server.address.to_string()) && fault.contains("--dns-port"), "{fault}");
}
