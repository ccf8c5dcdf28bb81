//! What does not work says so once, says what to do, and exits with 1.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use atoll_model::Clock;
use atoll_runtime::clock::SystemClock;
use atoll_trust::ca::ZoneCa;
use support::{
    free_address,
    runner::{Place, until_ready},
    zone::{Script, Zone},
};

async fn zone() -> Zone {
    Script::new(free_address(), support::application().await).serve("127.0.0.1:0".parse().unwrap()).await
}

/// The place's command line with one flag's value replaced, or the flag taken away.
fn with(place: &Place, zone: &Zone, flag: &str, value: Option<&str>) -> Command {
    let original = place.command(zone);
    let mut arguments: Vec<String> = original.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == flag) {
        arguments.drain(at..at + 2);
    }
    if let Some(value) = value {
        arguments.extend([flag.to_owned(), value.to_owned()]);
    }
    let mut command = Command::new(original.get_program());
    command.args(arguments).env_remove("ENVOY").env("PATH", "/nonexistent");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_old_envoy() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let said = place.fails(with(&place, &zone, "--binary-path", None));
    assert_eq!(said, "atoll-dp: no Envoy found: give --binary-path, set ENVOY, or put `envoy` into PATH (version 1.36 or later)");
    let said = place.fails(with(&place, &zone, "--binary-path", Some("/absent/envoy")));
    assert!(said.contains("--binary-path names /absent/envoy"), "{said}");
    let old = place.program("old", "echo 'envoy  version: abc/1.30.1/Clean/RELEASE/BoringSSL'");
    let said = place.fails(with(&place, &zone, "--binary-path", old.to_str()));
    assert!(said.ends_with("is Envoy 1.30.1; 1.36 or later is needed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--dns-port", "--readiness-port", "--envoy-admin-port"] {
        let said = place.fails(with(&place, &zone, flag, Some(&port)));
        assert!(said.contains(flag) && said.contains(&port), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token() {
    let zone = zone().await;
    let place = Place::new(&zone);
    place.write("token", "another.token");
    let said = place.fails(place.command(&zone));
    assert_eq!(said, "atoll-dp: the zone refuses this dataplane: the token is for another");
    let said = place.fails(with(&place, &zone, "--dataplane-token-file", None));
    assert!(said.contains("--dataplane-token-file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_somebody_else_is_told_nothing() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let other = ZoneCa::generate("other", SystemClock.now(), &mut rand::rng()).unwrap();
    place.write("ca.pem", other.cert_pem());
    let said = place.fails(place.command(&zone));
    assert!(said.contains("is not the zone"), "{said}");
    place.write("token", &other.pin().append_to(&zone.script.token));
    let said = place.fails(with(&place, &zone, "--ca-cert-file", None));
    assert!(said.contains("is not the zone"), "{said}");
    assert!(zone.script.seen().is_empty(), "nothing was said, no token was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_enough() {
    let zone = zone().await;
    let place = Place::new(&zone);
    place.write("token", &zone.script.ca.pin().append_to(&zone.script.token));
    let mut command = with(&place, &zone, "--ca-cert-file", None);
    let _runner = place.start_with({
        command.stdin(std::process::Stdio::null());
        command
    });
    until_ready(&place).await;
    assert_eq!(zone.script.tokens_of_envoy.lock().unwrap().first(), Some(&zone.script.token), "without the pin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_runner_uses() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let _runner = place.start(&zone);
    until_ready(&place).await;
    let said = place.fails(place.command(&zone));
    assert!(said.contains("another atoll-dp runs in") && said.contains("--config-dir"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document() {
    let zone = zone().await;
    let place = Place::new(&zone);
    place.write("dataplane.yaml", "type: Dataplane\nname: {{ name }}\nnetworking: {address: 127.0.0.1}\n");
    assert!(place.fails(place.command(&zone)).contains("--dataplane-var name="));
    place.write("dataplane.yaml", "type: Dataplane\nname: a\nnetworking: {address: 0.0.0.0, inbound: [{port: 0}]}\n");
    let said = place.fails(place.command(&zone));
    assert!(said.contains("networking.address: must not be 0.0.0.0") && said.contains("networking.inbound[0].port"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_cannot_live() {
    let zone = zone().await;
    let place = Place::new(&zone);
    let script = "[ \"$1\" = --version ] && echo 'envoy  version: abc/1.40.0/Clean/RELEASE/BoringSSL' && exit\n\
                  echo 'no room in this machine' >&2; exit 1";
    let broken = place.program("broken", script);
    let output = with(&place, &zone, "--binary-path", broken.to_str()).stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Envoy ended 3 times before it was ready") && said.contains("no room in this machine"), "{said}");
}
