//! What stands behind an inbound decides whether it takes traffic.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use atoll_dataplane::proto::from_runner;
use atoll_runtime::tls::{self, ClientAuth, ServerIdentity, TlsListener};
use support::{
    application, eventually, free_address,
    runner::{Place, until_ready},
    zone::{Script, Zone},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_stream::StreamExt;

/// A gateway that serves TLS and says of its catalog, by name, whether that is there. The catalog may be stopped.
struct Gateway {
    address: SocketAddr,
    asked: watch::Receiver<String>,
}

async fn gateway(catalog: SocketAddr) -> Gateway {
    tls::install_provider();
    let certificate = rcgen::generate_simple_self_signed(["api-gateway.mesh".to_owned()]).unwrap();
    let identity = ServerIdentity::new(&certificate.cert.pem(), &certificate.signing_key.serialize_pem()).unwrap();
    let config = tls::server_config(identity, ClientAuth::None, &[]).unwrap();
    let mut listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let (address, (sender, asked)) = (listener.local_addr(), watch::channel(String::new()));
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = listener.next().await {
            let mut buffer = vec![0; 1024];
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            sender.send_replace(String::from_utf8_lossy(&buffer[..length]).into_owned());
            let status = if TcpStream::connect(catalog).await.is_ok() { "200 OK" } else { "503 Service Unavailable" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    Gateway { address, asked }
}

/// Takes connections until it is stopped.
async fn catalog(at: SocketAddr) -> JoinHandle<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} })
}

/// What the zone knows last of the inbound.
fn known(zone: &Zone) -> Option<HashMap<String, bool>> {
    let health = |message| match message {
        from_runner::Message::InboundHealth(health) => Some(health.healthy.into_iter().collect()),
        from_runner::Message::Register(register) => register.inbound_health.map(|health| health.healthy.into_iter().collect()),
        _ => None,
    };
    zone.script.seen().into_iter().filter_map(health).next_back()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_stops_behind_a_gateway_that_runs_is_told() {
    let (at, zone) =
        (free_address(), Script::new(free_address(), application().await).serve("127.0.0.1:0".parse().unwrap()).await);
    let mut running = catalog(at).await;
    let gateway = gateway(at).await;
    let place = Place::new(&zone);
    let inbound = zone.script.listener.port().to_string();
    let start = || {
        let mut command = place.command(&zone);
        command.arg("--service-probe");
        command.arg(format!("{inbound}=https://api-gateway.mesh:{}/healthz?catalog", gateway.address.port()));
        place.start_with(command)
    };
    let runner = start();
    until_ready(&place).await;
    let is = async |healthy: bool| {
        let expected = HashMap::from([(inbound.clone(), healthy)]);
        eventually("the zone knows", || async { (known(&zone)? == expected).then_some(()) }).await;
    };
    is(true).await;
    let text = gateway.asked.borrow().clone();
    assert!(text.starts_with("GET /healthz?catalog ") && text.contains("host: api-gateway.mesh:"), "{text}");

    let began = Instant::now();
    running.abort();
    let _ = (&mut running).await;
    is(false).await;
    println!("told after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10));

    // A runner that is killed and comes back knows before it registers: nothing flaps.
    let _running = catalog(at).await;
    is(true).await;
    let seen = zone.script.registrations().len();
    runner.kill();
    let _runner = start();
    eventually("it registers again", || async { (zone.script.registrations().len() > seen).then_some(()) }).await;
    let health = zone.script.registrations()[seen].inbound_health.clone().unwrap();
    assert_eq!(health.healthy.into_iter().collect::<Vec<_>>(), [(inbound.clone(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_an_inbound_that_is_not_there_is_refused() {
    let zone = Script::new(free_address(), free_address()).serve("127.0.0.1:0".parse().unwrap()).await;
    let place = Place::new(&zone);
    let mut command = place.command(&zone);
    command.args(["--service-probe", "http=http://127.0.0.1/"]);
    let said = place.fails(command);
    assert!(said.contains("has no such inbound; it has ") && said.contains(&zone.script.listener.port().to_string()), "{said}");
}
