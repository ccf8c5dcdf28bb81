use std::net::SocketAddr;

use atoll_trust::ca::{LEAF_LIFE, WorkloadCa};
use chrono::TimeDelta;
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::*;

const ID: &str = "spiffe://default.gcp.mesh.local/workload/api";

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn ca(domain: &str) -> WorkloadCa {
    WorkloadCa::generate(&domain.parse().unwrap(), now(), &mut rand::rng()).unwrap()
}

fn expected(ca: &WorkloadCa, identities: &[&str]) -> Expected {
    Expected {
        service: "api".into(),
        sni: "sni.msvc.default.gcp.api.8443".to_owned(),
        identities: identities.iter().map(|id| id.parse().unwrap()).collect(),
        trust: [(ca.trust_domain().to_string(), ca.cert_pem().to_owned())].into(),
    }
}

fn leaf(ca: &WorkloadCa, id: &str) -> Vec<u8> {
    let leaf = ca.issue(&id.parse().unwrap(), LEAF_LIFE, now(), &mut rand::rng()).unwrap();
    x509::chain(&leaf.chain_pem).unwrap()[0].to_vec()
}

#[test]
fn only_the_service_s_own_certificate_counts() {
    let (gcp, forged, azure) = (ca("default.gcp.mesh.local"), ca("default.gcp.mesh.local"), ca("default.azure.mesh.local"));
    let der = leaf(&gcp, ID);
    assert_eq!(judge(&expected(&gcp, &[ID]), &der, now()), Ok(ID.to_owned()));
    assert_eq!(judge(&expected(&gcp, &[]), &der, now()), Ok(ID.to_owned()));
    let refused = |expected: &Expected, der: &[u8], now, part: &str| {
        let why = judge(expected, der, now).unwrap_err();
        assert!(why.contains(part), "{why}");
    };
    refused(&expected(&gcp, &["spiffe://default.gcp.mesh.local/workload/web"]), &der, now(), "other identities");
    refused(&expected(&gcp, &[ID]), &leaf(&forged, ID), now(), "signed by no CA");
    refused(&expected(&gcp, &[]), &leaf(&azure, "spiffe://default.azure.mesh.local/workload/api"), now(), "not the service's");
    refused(&expected(&gcp, &[ID]), &der, now() + TimeDelta::days(2), "valid from");
    refused(&expected(&gcp, &[ID]), b"", now(), "certificate");
}

fn target(address: Option<SocketAddr>, expected: Option<Expected>) -> Target {
    let port = address.map_or(1, |address| address.port());
    Target { mesh: "default".into(), zone: "gcp".into(), host: "127.0.0.1".to_owned(), port, address, expected }
}

/// Takes connections and reads, says nothing, and closes after `hold`.
async fn listener(hold: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                tokio::time::sleep(hold).await;
            });
        }
    });
    address
}

/// A server with a workload's certificate. Its name ends in a word: the server of this test takes no other.
async fn workload(ca: &WorkloadCa, id: &str) -> SocketAddr {
    tls::install_provider();
    let leaf = ca.issue(&id.parse().unwrap(), LEAF_LIFE, now(), &mut rand::rng()).unwrap();
    let identity = tls::ServerIdentity::new(&leaf.chain_pem, leaf.key_pem.expose()).unwrap();
    let config = tls::server_config(identity, tls::ClientAuth::None, &[b"kuma"]).unwrap();
    let listener = tls::TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr();
    // It serves as long as the test runs.
    std::mem::forget(listener);
    address
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart_within_its_time() {
    let (gcp, azure) = (ca("default.gcp.mesh.local"), ca("default.azure.mesh.local"));
    let by_name = |ca: &WorkloadCa| Some(Expected { sni: "sni.msvc.default.gcp.api.web".to_owned(), ..expected(ca, &[]) });
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (silent, closing) = (listener(Duration::from_secs(60)).await, listener(Duration::ZERO).await);
    let (good, other) = (workload(&gcp, ID).await, workload(&azure, "spiffe://default.azure.mesh.local/workload/api").await);
    let cases = [
        (Some(good), by_name(&gcp), Outcome::Reachable, ID),
        (Some(other), by_name(&gcp), Outcome::OtherCertificate, "default.azure.mesh.local"),
        (Some(nobody), by_name(&gcp), Outcome::Refused, "refused"),
        (Some(silent), by_name(&gcp), Outcome::Silent, "no certificate within 2 s"),
        (Some(closing), by_name(&gcp), Outcome::Closed, "closed"),
        (Some(closing), None, Outcome::Opened, ""),
        (None, by_name(&gcp), Outcome::Unresolved, ""),
    ];
    let targets = cases.iter().map(|(address, expected, ..)| target(*address, expected.clone())).collect();
    let start = Instant::now();
    let probes = all(targets, now()).await;
    assert!(
        (STEP..STEP * 2).contains(&start.elapsed()),
        "all at once, and the silent one ends by its time: {:?}",
        start.elapsed()
    );
    for (probe, (.., outcome, seen)) in probes.iter().zip(&cases) {
        assert_eq!(probe.outcome, *outcome, "{probe:?}");
        assert!(probe.seen.contains(seen), "{probe:?}");
        let shown = probe.shown();
        assert_eq!(shown["reachable"], matches!(outcome, Outcome::Reachable | Outcome::Opened));
        assert_eq!(shown["advice"].is_null(), *outcome == Outcome::Reachable, "{shown}");
        assert_eq!(shown["address"], format!("127.0.0.1:{}", probe.target.port));
    }
}

#[tokio::test]
async fn a_round_ends_in_time_and_names_what_it_left_out() {
    let gcp = ca("default.gcp.mesh.local");
    let silent = listener(Duration::from_secs(60)).await;
    let targets = (0..AT_ONCE * 6).map(|_| target(Some(silent), Some(expected(&gcp, &[])))).collect();
    let start = Instant::now();
    let probes = all(targets, now()).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(probes.len(), AT_ONCE * 6);
    assert_eq!(probes.first().map(|probe| probe.outcome), Some(Outcome::Silent));
    assert_eq!(probes.last().map(|probe| probe.outcome), Some(Outcome::Untried));
}
