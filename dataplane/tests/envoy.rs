//! atoll-dp with a real Envoy.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use atoll_dataplane::{
    bootstrap::{self, Admin, Local, Parameters},
    proto::{self, from_runner, to_runner},
};
use hickory_proto::{
    op::ResponseCode,
    rr::{DNSClass, Name, RecordType},
};
use hickory_server::net::{
    client::{Client, ClientHandle},
    runtime::TokioRuntimeProvider,
    udp::UdpClientStream,
};
use nix::sys::signal::Signal;
use support::{
    application, echo, echo_on, eventually, free_address,
    load::Load,
    runner::{Place, envoy_of, is_alive, readiness, until_ready},
    zone::{Script, Zone},
};

async fn zone() -> Zone {
    Script::new(free_address(), application().await).serve("127.0.0.1:0".parse().unwrap()).await
}

async fn resolve(place: &Place, name: &str) -> Option<String> {
    let server = place.status()?.dns?.parse().ok()?;
    let stream = UdpClientStream::builder(server, TokioRuntimeProvider::default()).build();
    let (mut client, background) = Client::<TokioRuntimeProvider>::from_sender(stream);
    tokio::spawn(background);
    let answer = client.query(Name::from_ascii(name).ok()?, DNSClass::IN, RecordType::A).await.ok()?;
    match answer.metadata.response_code {
        ResponseCode::NoError => Some(answer.answers.first()?.data.to_string()),
        code => Some(code.to_string()),
    }
}

#[test]
fn envoy_accepts_the_bootstrap() {
    let folder = tempfile::tempdir().unwrap();
    let ca = rcgen::generate_simple_self_signed(["zone-cp.atoll.internal".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("zone-ca.pem"), ca.cert.pem()).unwrap();
    std::fs::write(path("token"), "a.b.c").unwrap();
    std::fs::write(path("token.yaml"), bootstrap::token_secret(&path("token"))).unwrap();
    let parameters = Parameters {
        node_id: "default.gw-1".into(),
        cluster: "gw".into(),
        zone: "gcp".into(),
        ads_address: String::new(),
        ads_server_name: String::new(),
        drain_seconds: 10,
    };
    for admin in [Admin::Unix(path("admin.sock")), Admin::Tcp("127.0.0.1:9901".parse().unwrap())] {
        for dialled in ["127.0.0.1:5678", "zone.example:5678"] {
            let local = Local {
                dialled: dialled.into(),
                ca_file: path("zone-ca.pem"),
                token_secret_file: path("token.yaml"),
                admin: admin.clone(),
                bind_outbounds: Some("127.21.0.0/16".parse().unwrap()),
                max_connections: 1000,
            };
            std::fs::write(path("bootstrap.json"), bootstrap::bootstrap(&parameters, &local)).unwrap();
            let mut command = Command::new(support::envoy());
            command
                .args(["--mode", "validate", "--disable-hot-restart", "--log-level", "warning", "-c"])
                .arg(path("bootstrap.json"));
            let output = command.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            assert!(!said.contains("[warning]"), "nothing to complain about: {said}");
        }
    }
}

/// The lines go where they are told to, and the zone hears that they are wanted, not where they go.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_its_place() {
    for (wanted, file) in [(None, "dir/access.log"), (Some("requests.json"), "requests.json"), (Some("-"), "stdout")] {
        let zone = zone().await;
        let place = Place::new(&zone);
        let mut command = place.command(&zone);
        if let Some(wanted) = wanted {
            let wanted = if wanted == "-" { wanted.into() } else { place.path(wanted) };
            command.arg("--access-log").arg(wanted).stdout(std::fs::File::create(place.path("stdout")).unwrap());
        }
        let _runner = place.start_with(command);
        until_ready(&place).await;
        assert_eq!(echo(zone.script.listener).await.as_deref(), Some("hello"));
        let line = || async { std::fs::read_to_string(place.path(file)).ok().filter(|text| text.ends_with('\n')) };
        assert_eq!(eventually(file, line).await, "{\"bytes\":5}\n");
        let register = zone.script.registrations().remove(0);
        assert_eq!(register.access_log, wanted.is_some());
        assert!(!format!("{register:?}").contains("requests.json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_registers_and_serves() {
    let zone = zone().await;
    zone.script.names.lock().unwrap().insert("api.mesh".into(), "127.21.3.9".into());
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    until_ready(&place).await;
    assert_eq!(echo(zone.script.listener).await.as_deref(), Some("hello"));
    eventually("the zone hears that Envoy is ready", || async { zone.script.envoy_is_ready().then_some(()) }).await;
    assert_eq!(zone.script.tokens_of_envoy.lock().unwrap().first(), Some(&zone.script.token));
    assert_eq!(resolve(&place, "API.mesh.").await.as_deref(), Some("127.21.3.9"));
    let admin = std::fs::metadata(place.path("dir/admin.sock")).unwrap().permissions().mode();
    assert_eq!(admin & 0o777, 0o600);
    assert!(!std::fs::read_to_string(place.path("dir/bootstrap.json")).unwrap().contains(&zone.script.token));

    let record = proto::DnsRecord { name: "new.mesh".into(), addresses: vec!["127.21.0.7".into()] };
    let change = proto::DnsTable {
        full: false,
        records: vec![record],
        removed: vec!["api.mesh".into()],
        ttl_seconds: 5,
        shapes: Vec::new(),
    };
    zone.script.push(to_runner::Message::DnsTable(change)).await;
    let address = async || resolve(&place, "new.mesh.").await.filter(|answer| answer == "127.21.0.7");
    eventually("the new name", address).await;
    assert_eq!(resolve(&place, "api.mesh.").await.as_deref(), Some("Non-Existent Domain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_not_ready_with_nothing() {
    let zone = zone().await;
    zone.script.answers_envoy.send_replace(false);
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    let waits = async || readiness(&place).await.filter(|text| text.contains("waits for its zone's first answer"));
    let text = eventually("Envoy waits", waits).await;
    assert!(text.starts_with("503"), "{text}");
    assert!(!zone.script.envoy_is_ready());
    zone.script.answers_envoy.send_replace(true);
    until_ready(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_outlives_its_runner_and_is_adopted() {
    let zone = zone().await;
    zone.script.names.lock().unwrap().insert("api.mesh".into(), "127.21.3.9".into());
    let place = Place::new(&zone);
    let runner = place.start(&zone);
    until_ready(&place).await;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let mut open = tokio::net::TcpStream::connect(zone.script.listener).await.unwrap();
    assert_eq!(echo_on(&mut open, "before").await.as_deref(), Some("before"));
    eventually("the names are kept", || async { place.path("dir/names.json").exists().then_some(()) }).await;

    runner.kill();
    assert_eq!(echo_on(&mut open, "alone").await.as_deref(), Some("alone"));
    assert_eq!(echo(zone.script.listener).await.as_deref(), Some("hello"));
    let began = Instant::now();
    let _runner = place.start(&zone);
    until_ready(&place).await;
    println!("ready again after {:?}", began.elapsed());
    eventually("it registers again", || async { (zone.script.registrations().len() == 2).then_some(()) }).await;
    assert_eq!(envoy_of(&place.path("dir")), Some(envoy), "the same Envoy");
    assert_eq!(echo_on(&mut open, "after").await.as_deref(), Some("after"), "the connection was never touched");
    assert_eq!(zone.script.tokens_of_envoy.lock().unwrap().len(), 1, "its discovery stream was never touched");
    let registrations = zone.script.registrations();
    assert_eq!(registrations[0].instance, registrations[1].instance);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_runner_needs_no_zone() {
    let zone = zone().await;
    zone.script.names.lock().unwrap().insert("api.mesh".into(), "127.21.3.9".into());
    let place = Place::new(&zone);
    let runner = place.start(&zone);
    until_ready(&place).await;
    eventually("the names are kept", || async { place.path("dir/names.json").exists().then_some(()) }).await;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let (script, address) = (zone.script.clone(), zone.address);
    let command = place.command(&zone);
    drop(zone);
    runner.kill();
    let _runner = place.start_with(command);
    until_ready(&place).await;
    assert_eq!(envoy_of(&place.path("dir")), Some(envoy));
    assert_eq!(resolve(&place, "api.mesh.").await.as_deref(), Some("127.21.3.9"));
    assert_eq!(echo(script.listener).await.as_deref(), Some("hello"));
    let before = script.registrations().len();
    let _zone = script.serve(address).await;
    eventually("it registers when the zone is back", || async { (script.registrations().len() > before).then_some(()) }).await;
    assert!(script.registrations()[before].envoy.as_ref().unwrap().ready, "with its readiness, so nothing flaps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_token_reaches_the_running_envoy() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    until_ready(&place).await;
    let envoy = envoy_of(&place.path("dir"));
    place.write("token", "new.token");
    let passed = async || std::fs::read_to_string(place.path("dir/token")).ok().filter(|token| token == "new.token");
    eventually("the token is passed on", passed).await;
    let (script, address) = (Script { token: "new.token".into(), ..zone.script.clone() }, zone.address);
    drop(zone);
    let _zone = script.serve(address).await;
    let last = async || script.tokens_of_envoy.lock().unwrap().last().cloned().filter(|token| token == "new.token");
    eventually("Envoy shows it", last).await;
    eventually("so does the runner", || async { (script.registrations().len() == 2).then_some(()) }).await;
    assert_eq!(envoy_of(&place.path("dir")), envoy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_envoy_is_started_again() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    until_ready(&place).await;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let began = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(envoy), Signal::SIGKILL).unwrap();
    let back = async || envoy_of(&place.path("dir")).filter(|pid| *pid != envoy);
    eventually("another Envoy", back).await;
    eventually("it serves", || async { echo(zone.script.listener).await }).await;
    println!("served again after {:?}", began.elapsed());
    until_ready(&place).await;
    let states = zone.script.seen().into_iter().filter_map(|message| match message {
        from_runner::Message::Envoy(state) => Some(state.ready),
        _ => None,
    });
    assert!(states.collect::<Vec<_>>().windows(2).any(|pair| pair == [true, false]), "the zone was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_withdraws_then_drains_then_ends() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let mut runner = place.start(&zone);
    until_ready(&place).await;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let mut open = tokio::net::TcpStream::connect(zone.script.listener).await.unwrap();
    assert_eq!(echo_on(&mut open, "before").await.as_deref(), Some("before"));
    let began = Instant::now();
    runner.signal(Signal::SIGTERM);
    let told =
        async || zone.script.seen().iter().any(|message| matches!(message, from_runner::Message::Draining(_))).then_some(());
    eventually("the zone is told", told).await;
    assert_eq!(readiness(&place).await.as_deref(), Some("503 not ready: terminating"));
    assert_eq!(echo_on(&mut open, "during").await.as_deref(), Some("during"), "what is open may finish");
    let status = tokio::time::timeout(support::PATIENCE, runner.ended()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2), "the drain time, because a connection stayed open");
    assert!(!is_alive(envoy));
    assert_eq!(echo_on(&mut open, "after").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_connections_draining_is_short_and_a_second_signal_cuts_it() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let mut command = place.command(&zone);
    command.args(["--drain-time", "60s"]);
    // The last of a repeated flag would be refused: build the line again.
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut command = Command::new(command.get_program());
    let short = arguments.iter().position(|argument| argument == "--drain-time").unwrap();
    command.args(arguments.iter().enumerate().filter(|(i, _)| *i != short && *i != short + 1).map(|(_, argument)| argument));
    command.stdin(Stdio::null());
    let lines: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let again = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-dp"));
        command.args(&lines).stdin(Stdio::null());
        command
    };

    let mut runner = place.start_with(again());
    until_ready(&place).await;
    runner.signal(Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(10), runner.ended()).await.expect("no connection, no wait");
    assert_eq!(status.code(), Some(0));

    let mut runner = place.start_with(again());
    until_ready(&place).await;
    let mut open = tokio::net::TcpStream::connect(zone.script.listener).await.unwrap();
    echo_on(&mut open, "before").await.unwrap();
    runner.signal(Signal::SIGTERM);
    eventually("it drains", || async { readiness(&place).await.filter(|text| text.contains("terminating")) }).await;
    runner.signal(Signal::SIGTERM);
    tokio::time::timeout(Duration::from_secs(10), runner.ended()).await.expect("told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_drain_ends_it() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let mut runner = place.start(&zone);
    until_ready(&place).await;
    let order =
        proto::Order { action: proto::Action::Drain.into(), reason: "the gateway leaves the mesh".into(), bootstrap: None };
    zone.script.push(to_runner::Message::Order(order)).await;
    assert_eq!(tokio::time::timeout(support::PATIENCE, runner.ended()).await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_bootstrap_replaces_envoy() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    until_ready(&place).await;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let bootstrap = proto::Bootstrap {
        node_id: "default.gw-1".into(),
        cluster: "renamed".into(),
        zone: "test".into(),
        drain_seconds: 2,
        ..proto::Bootstrap::default()
    };
    let order = proto::Order { action: proto::Action::Rebootstrap.into(), reason: String::new(), bootstrap: Some(bootstrap) };
    let load = Load::start(zone.script.listener);
    zone.script.push(to_runner::Message::Order(order)).await;
    let other = async || envoy_of(&place.path("dir")).filter(|pid| *pid != envoy);
    eventually("another Envoy", other).await;
    eventually("it serves", || async { echo(zone.script.listener).await }).await;
    eventually("the other one is gone", || async { (!is_alive(envoy)).then_some(()) }).await;
    assert!(std::fs::read_to_string(place.path("dir/bootstrap.json")).unwrap().contains("renamed"));
    let (all, failed) = load.end().await;
    assert_eq!(failed, 0, "of {all}");
}

/// As after an upgrade of the package: the runner is started anew and finds another Envoy.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_envoy_takes_over_without_a_failed_request() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let runner = place.start(&zone);
    until_ready(&place).await;
    let to = zone.script.listener;
    let envoy = envoy_of(&place.path("dir")).unwrap();
    let mut open = tokio::net::TcpStream::connect(to).await.unwrap();
    assert_eq!(echo_on(&mut open, "before").await.as_deref(), Some("before"));
    let load = Load::start(to);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let version = "[ \"$1\" = --version ] && echo 'envoy  version: abc/1.99.0/Clean/RELEASE/BoringSSL' && exit";
    let newer = place.program("newer", &format!("{version}\nexec {} \"$@\"", support::envoy().display()));
    runner.kill();
    let mut command = place.command(&zone);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let at = arguments.iter().position(|argument| argument == "--binary-path").unwrap();
    command = Command::new(command.get_program());
    command.args(&arguments[..=at]).arg(newer).args(&arguments[at + 2..]).stdin(Stdio::null());
    let mut runner = place.start_with(command);
    eventually("another Envoy", async || envoy_of(&place.path("dir")).filter(|pid| *pid != envoy)).await;
    until_ready(&place).await;
    println!("{}", std::fs::read_to_string(place.path("log")).unwrap());
    println!("{}", std::fs::read_to_string(place.path("dir/envoy.log")).unwrap());
    assert_eq!(echo_on(&mut open, "during").await.as_deref(), Some("during"), "what is open may finish");
    eventually("the old one is gone", || async { (!is_alive(envoy)).then_some(()) }).await;
    let (all, failed) = load.end().await;
    println!("{all} requests, {failed} failed");
    assert!(all > 500);
    assert_eq!(failed, 0, "of {all}");
    let ready = zone.script.seen().into_iter().filter_map(|message| match message {
        from_runner::Message::Envoy(state) => Some(state.ready),
        from_runner::Message::Register(register) => register.envoy.map(|state| state.ready),
        _ => None,
    });
    assert!(ready.skip_while(|ready| !ready).all(|ready| ready), "the zone never heard that it is not ready");
    runner.signal(Signal::SIGTERM);
    tokio::time::timeout(support::PATIENCE, runner.ended()).await.unwrap();
}
