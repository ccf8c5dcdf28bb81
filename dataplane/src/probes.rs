//! Probing the application behind each inbound that asks for it (`serviceProbe`).

use std::{collections::BTreeMap, time::Duration};

use atoll_model::{
    duration::GoDuration,
    kinds::{
        Dataplane,
        dataplane::{Inbound, Networking},
    },
};
use atoll_runtime::tasks::Tasks;
use tokio::{net::TcpStream, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Section → whether the application behind it answers.
pub type Health = BTreeMap<String, bool>;

/// How one inbound is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Probe {
    section: String,
    address: String,
    interval: Duration,
    timeout: Duration,
    unhealthy_after: u32,
    healthy_after: u32,
}

/// Starts to probe; every probed inbound is unhealthy until it answered.
pub fn start(dataplane: &Dataplane, tasks: &Tasks, stop: &CancellationToken) -> watch::Receiver<Health> {
    let probes = probes(dataplane);
    let (sender, receiver) = watch::channel(probes.iter().map(|probe| (probe.section.clone(), false)).collect());
    let sender = std::sync::Arc::new(sender);
    for probe in probes {
        let (sender, stop) = (sender.clone(), stop.clone());
        tasks.spawn("probe", async move {
            tokio::select! {
                () = run(probe, &sender) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    receiver
}

fn probes(dataplane: &Dataplane) -> Vec<Probe> {
    let Some(networking) = &dataplane.networking else { return Vec::new() };
    networking.inbound.iter().filter_map(|inbound| probe(networking, inbound)).collect()
}

fn probe(networking: &Networking, inbound: &Inbound) -> Option<Probe> {
    let probe = inbound.service_probe.as_ref()?;
    probe.tcp.as_ref()?;
    let address = inbound.service_address.as_ref().or(inbound.address.as_ref()).unwrap_or(&networking.address);
    let port = inbound.service_port.filter(|port| *port != 0).unwrap_or(inbound.port);
    let address = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let time = |set: Option<GoDuration>, otherwise: u64| {
        set.and_then(|duration| u64::try_from(duration.0).ok()).map_or(Duration::from_secs(otherwise), Duration::from_nanos)
    };
    Some(Probe {
        section: inbound.section(),
        address,
        interval: time(probe.interval, 1),
        timeout: time(probe.timeout, 2),
        unhealthy_after: probe.unhealthy_threshold.unwrap_or(1),
        healthy_after: probe.healthy_threshold.unwrap_or(1),
    })
}

async fn run(probe: Probe, health: &watch::Sender<Health>) {
    let (mut healthy, mut against) = (false, 0);
    loop {
        let answered = matches!(tokio::time::timeout(probe.timeout, TcpStream::connect(&probe.address)).await, Ok(Ok(_)));
        against = if answered == healthy { 0 } else { against + 1 };
        if against >= if healthy { probe.unhealthy_after } else { probe.healthy_after } && answered != healthy {
            (healthy, against) = (answered, 0);
            let word = if healthy { "answers" } else { "does not answer" };
            info!(section = probe.section, "the application at {} {word}", probe.address);
            health.send_modify(|health| {
                health.insert(probe.section.clone(), healthy);
            });
        }
        tokio::time::sleep(probe.interval).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dataplane(address: &str, port: u16) -> Dataplane {
        let probe = json!({"interval": "10ms", "timeout": "1s", "unhealthyThreshold": 2, "tcp": {}});
        let inbound = json!({"port": 80, "name": "http", "serviceAddress": address, "servicePort": port, "serviceProbe": probe});
        serde_json::from_value(json!({"networking": {"address": "127.0.0.1", "inbound": [inbound, {"port": 81}]}})).unwrap()
    }

    #[tokio::test]
    async fn an_application_that_comes_and_goes_is_seen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut health = start(&dataplane("127.0.0.1", address.port()), &Tasks::new(), &stop);
        let wait = async |health: &mut watch::Receiver<Health>, healthy: bool| {
            let expected = Health::from([("http".to_owned(), healthy)]);
            let wait = health.wait_for(|health| *health == expected);
            tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time").unwrap();
        };
        wait(&mut health, true).await;
        drop(listener);
        wait(&mut health, false).await;
        let _listener = tokio::net::TcpListener::bind(address).await.unwrap();
        wait(&mut health, true).await;
        stop.cancel();
    }

    #[test]
    fn only_inbounds_that_ask_are_probed() {
        let found = probes(&dataplane("::1", 8080));
        assert_eq!(found.iter().map(|probe| probe.address.as_str()).collect::<Vec<_>>(), ["[::1]:8080"]);
    }
}
