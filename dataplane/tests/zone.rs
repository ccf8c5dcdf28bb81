//! atoll-dp and Envoys at a real zone plane.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use atoll_runtime::{shutdown::Shutdown, tls};
use atoll_zone_cp::{Config, Running};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_server::net::{client::ClientHandle, runtime::TokioRuntimeProvider, udp::UdpClientStream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, setfsuid},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use support::{
    application, echo, echo_on, eventually, free_address,
    load::Load,
    net::Host,
    runner::{Place, Runner, envoy_of, until_ready},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A stand-alone zone in this process, and its operator.
struct Plane {
    folder: tempfile::TempDir,
    running: Running,
    client: Client,
    token: String,
    _shutdown: Shutdown,
}

impl Plane {
    async fn start() -> Self {
        tls::install_provider();
        let (folder, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
        let mut args: Vec<_> = ["zone-cp", "--zone", "azure", "--data-dir"].map(Into::into).into();
        args.push(folder.path().into());
        for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--dp-listen"] {
            args.extend([flag, "127.0.0.1:0"].map(Into::into));
        }
        let running = atoll_zone_cp::run(Config::read(args).unwrap(), shutdown.clone()).await.unwrap();
        let text = std::fs::read_to_string(folder.path().join("operator.yaml")).unwrap();
        let operator: Value = serde_saphyr::from_str(&text).unwrap();
        let ca = reqwest::Certificate::from_pem(operator["ca"].as_str().unwrap().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([ca]).build().unwrap();
        let token = operator["token"].as_str().unwrap().to_owned();
        Self { folder, running, client, token, _shutdown: shutdown }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("https://{}{path}", self.running.addresses.rest_tls);
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// A runner's files, for a proxy whose networking this is.
    async fn place(&self, name: &str, workload: &str, networking: Value) -> Place {
        let place = Place::empty();
        let wish = json!({"mesh": "default", "workload": workload, "validFor": "1h"});
        let token = self.call(Method::POST, "/tokens/dataplane", Some(wish)).await;
        place.write("token", token.as_str().unwrap());
        place.write("ca.pem", &std::fs::read_to_string(self.folder.path().join("dp-ca.pem")).unwrap());
        let dataplane = json!({"type": "Dataplane", "mesh": "default", "name": name, "labels": {"kuma.io/workload": workload},
            "networking": networking});
        place.write("dataplane.yaml", &dataplane.to_string());
        place
    }

    /// Two proxies of one gateway, and the port at which both are reached.
    async fn two_gateways(&self) -> (Vec<Place>, Vec<Runner>, u16) {
        let (application, port) = (application().await, free_address().port());
        let (mut places, mut gateways) = (Vec::new(), Vec::new());
        for (name, address) in [("gateway-1", "127.0.0.1"), ("gateway-2", "127.0.0.2")] {
            let inbound = json!({"port": port, "serviceAddress": "127.0.0.1", "servicePort": application.port()});
            let place = self.place(name, "gateway", json!({"address": address, "inbound": [inbound]})).await;
            gateways.push(self.start_proxy(&place, &[]).await);
            places.push(place);
        }
        (places, gateways, port)
    }

    /// A client with its proxy, and where that leads to the one service that there is.
    async fn client(&self) -> (Place, Runner, IpAddr) {
        let client = self.place("client", "client", json!({"address": "127.0.0.1"})).await;
        let runner = self.start_proxy(&client, &["--bind-outbounds", "127.47.0.0/16"]).await;
        let name = async || {
            let names: Value = serde_json::from_slice(&std::fs::read(client.path("dir/names.json")).ok()?).ok()?;
            let text = names.to_string();
            let from = text.find("127.47.")?;
            text[from..].split('"').next()?.parse().ok()
        };
        let ip = eventually("the gateway has a name", name).await;
        (client, runner, ip)
    }

    async fn start_proxy(&self, place: &Place, more: &[&str]) -> Runner {
        let mut command = place.command_at(self.running.addresses.dataplanes);
        command.args(more);
        let runner = place.start_with(command);
        until_ready(place).await;
        runner
    }
}

/// A gateway in the mesh, whose application sends back what it gets, and a client with its proxy.
struct Scene {
    plane: Plane,
    catalog: SocketAddr,
    /// Where the client's proxy leads to the gateway.
    gateway: SocketAddr,
    runners: Vec<Runner>,
    _places: Vec<Place>,
}

impl Scene {
    async fn start() -> Self {
        let plane = Plane::start().await;
        let (catalog, application, at) = (free_address(), application().await, free_address());
        let serve = serve(catalog).await;
        let inbound = json!({"port": at.port(), "serviceAddress": "127.0.0.1", "servicePort": application.port()});
        let gateway = plane.place("gateway", "gateway", json!({"address": "127.0.0.1", "inbound": [inbound]})).await;
        let probe = format!("{}=http://{catalog}/healthz", at.port());
        let mut runners = vec![plane.start_proxy(&gateway, &["--service-probe", &probe]).await];
        serve.abort();
        let (client, runner, ip) = plane.client().await;
        runners.push(runner);
        Self { plane, catalog, gateway: SocketAddr::new(ip, at.port()), runners, _places: vec![gateway, client] }
    }

    /// Until a request through both proxies ends well, or until one does not.
    async fn until(&self, served: bool) -> Duration {
        let began = Instant::now();
        let seen = async || (echo(self.gateway).await.is_some() == served).then_some(());
        eventually(if served { "the gateway is reached" } else { "the gateway is not reached" }, seen).await;
        began.elapsed()
    }

    async fn state(&self) -> Value {
        let dataplane = self.plane.call(Method::GET, "/meshes/default/dataplanes/gateway", None).await;
        dataplane.pointer("/networking/inbound/0/state").cloned().unwrap_or_default()
    }
}

/// A catalog that answers everything with 200.
async fn serve(at: SocketAddr) -> JoinHandle<()> {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_stops_takes_the_gateway_out_until_it_is_back() {
    let scene = Scene::start().await;
    println!("out {:?} after the catalog stopped", scene.until(false).await);
    assert_eq!(scene.state().await, "NotReady");
    for _ in 0..2 {
        let mut catalog = serve(scene.catalog).await;
        println!("in again after {:?}", scene.until(true).await);
        assert_ne!(scene.state().await, "NotReady");
        catalog.abort();
        let _ = (&mut catalog).await;
        println!("out after {:?}", scene.until(false).await);
        assert_eq!(scene.state().await, "NotReady");
    }
    drop(scene.runners);
}

/// Sends once in a while on one connection; whether each came back.
async fn stream(to: SocketAddr, times: usize) -> bool {
    let Ok(mut stream) = TcpStream::connect(to).await else { return false };
    for _ in 0..times {
        if echo_on(&mut stream, "more").await.is_none() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_told_to_end_fails_no_request() {
    let plane = Plane::start().await;
    let (places, mut gateways, port) = plane.two_gateways().await;
    let (client, runner, ip) = plane.client().await;
    let to = SocketAddr::new(ip, port);
    eventually("the gateway is reached", async || echo(to).await).await;
    let load = Load::start(to);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let streams: Vec<_> = (0..20).map(|_| tokio::spawn(stream(to, 12))).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let began = Instant::now();
    let mut first = gateways.remove(0);
    first.signal(Signal::SIGTERM);
    assert_eq!(tokio::time::timeout(support::PATIENCE, first.ended()).await.unwrap().code(), Some(0));
    println!("ended after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (all, failed) = load.end().await;
    println!("{all} requests, {failed} failed");
    assert!(all > 300);
    assert_eq!(failed, 0, "of {all}");
    for stream in streams {
        assert!(stream.await.unwrap(), "a connection that was open could finish");
    }
    drop((gateways, runner, client, places));
}

/// As when its machine dies: nobody says goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_fails_requests_for_less_than_a_second() {
    let plane = Plane::start().await;
    let (places, mut gateways, port) = plane.two_gateways().await;
    let (client, runner, ip) = plane.client().await;
    let to = SocketAddr::new(ip, port);
    eventually("the gateway is reached", async || echo(to).await).await;
    let load = Load::start(to);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(load.last_failure(), None);
    let began = Instant::now();
    gateways.remove(0).kill();
    let envoy = Pid::from_raw(envoy_of(&places[0].path("dir")).unwrap());
    kill(envoy, Signal::SIGKILL).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let last = load.last_failure().map(|last| last - began);
    let (all, failed) = load.end().await;
    println!("{failed} of {all} requests failed, the last one {last:?} after the kill");
    assert!(last.is_none_or(|last| last < Duration::from_secs(1)), "{last:?}");
    drop((gateways, runner, client, places));
}

const PROGRAM: u32 = 1000;

/// Asks the machine's resolver, as a program of that user does.
fn resolve(host: &Host, name: &'static str) -> Option<IpAddr> {
    host.run(move || {
        setfsuid(Uid::from_raw(PROGRAM));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = UdpClientStream::builder("10.9.0.2:53".parse().unwrap(), TokioRuntimeProvider::default()).build();
            let (mut client, background) = hickory_server::net::client::Client::<TokioRuntimeProvider>::from_sender(stream);
            tokio::spawn(background);
            let answer = client.query(Name::from_ascii(name).unwrap(), DNSClass::IN, RecordType::A).await.ok()?;
            answer.answers.first()?.data.ip_addr()
        })
    })
}

/// A gateway and its proxy on a host that redirects: what the zone configures and what is installed fit together.
#[test]
fn a_redirected_host_reaches_the_mesh_by_name_and_is_reached_through_its_proxy() {
    let (here, there) = Host::pair();
    there.listen("0.0.0.0:80", "elsewhere", 0);
    here.tell_peers("0.0.0.0:8080");
    let runtime = here.run(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    // On the runtime's own threads, which are on that host.
    let starting = runtime.spawn(async {
        let plane = Plane::start().await;
        let probe = json!({"interval": "200ms", "tcp": {}});
        let inbound = json!([{"port": 8080, "serviceProbe": probe}, {"port": 8081, "serviceProbe": probe}]);
        let redirect = json!({"redirectPortInbound": 15006, "redirectPortOutbound": 15001});
        let networking = json!({"address": "10.9.0.1", "inbound": inbound, "transparentProxying": redirect});
        let place = plane.place("gateway", "gateway", networking).await;
        place.write("resolv.conf", "nameserver 10.9.0.2\n");
        let mut command = place.command_at(plane.running.addresses.dataplanes);
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let at = arguments.iter().position(|argument| argument == "--dns-port").unwrap();
        command = std::process::Command::new(command.get_program());
        command.args(&arguments[..=at]).arg("15053").args(&arguments[at + 2..]).stdin(std::process::Stdio::null());
        let runner = place.start_with(command);
        until_ready(&place).await;
        (plane, place, runner)
    });
    let (plane, place, runner) = runtime.block_on(starting).unwrap();
    let before = here.ruleset();
    let (resolv_conf, state) = (place.path("resolv.conf"), place.path("state.json"));
    let dp = |words: &[&str]| {
        let output = here.program(env!("CARGO_BIN_EXE_atoll-dp"), words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let (resolv_conf, state) = (resolv_conf.to_str().unwrap(), state.to_str().unwrap());
    let options = ["--dp-user", "0", "--redirect-dns", "--resolv-conf", resolv_conf, "--state-file", state];
    dp(&[&["install", "transparent-proxy"], &options[..]].concat());

    assert_eq!(here.dial(PROGRAM, "10.9.0.2:80"), "elsewhere", "what is not the mesh's passes through");
    assert_eq!(there.dial(0, "10.9.0.1:8080"), "127.0.0.6", "through the proxy");
    let began = Instant::now();
    let ip = loop {
        match resolve(&here, "gateway.svc.mesh.local.") {
            Some(ip) => break ip,
            None => assert!(began.elapsed() < support::PATIENCE, "the name"),
        }
    };
    assert!(ip.to_string().starts_with("241."), "{ip}");
    assert_eq!(here.dial(PROGRAM, &format!("{ip}:8080")), "127.0.0.6", "by the virtual address, and in at the front");
    let state_of = async |plane: &Plane| {
        let dataplane = plane.call(Method::GET, "/meshes/default/dataplanes/gateway", None).await;
        [0, 1].map(|at| dataplane.pointer(&format!("/networking/inbound/{at}/state")).cloned().unwrap_or_default())
    };
    // A few probes later.
    std::thread::sleep(Duration::from_millis(700));
    let plane = Arc::new(plane);
    let asked = plane.clone();
    let states = runtime.block_on(runtime.spawn(async move { state_of(&asked).await })).unwrap();
    assert_ne!(states[0], "NotReady");
    assert_eq!(states[1], "NotReady", "nothing listens there; the proxy, which takes every connection, is not asked");
    dp(&["uninstall", "transparent-proxy", "--drain-time", "0s", "--state-file", state]);
    assert_eq!(here.ruleset(), before);
    drop((runner, place));
    runtime.shutdown_background();
}
