//! Whether this proxy takes traffic.
//!
//! Ready means: Envoy is live, has heard from its zone, and listens where the Dataplane's inbounds are. An Envoy that started
//! while its zone was away is not ready with nothing.

use std::{collections::BTreeSet, net::SocketAddr};

use atoll_model::kinds::{
    Dataplane,
    dataplane::{InboundState, Networking},
};
use atoll_runtime::diagnostics::Readiness;

use crate::{bootstrap::Admin, envoy::admin::AdminError};

/// A port that stands for "no service": Kuma's reserved one, it has no listener.
const NO_SERVICE_PORT: u32 = 49151;

/// Where Envoy must listen before the proxy is ready. Zone proxies open their listeners when there is something to expose.
pub fn expected(dataplane: &Dataplane) -> BTreeSet<SocketAddr> {
    let Some(networking) = &dataplane.networking else { return BTreeSet::new() };
    let listens = |port: u32, state: Option<InboundState>| port != NO_SERVICE_PORT && state != Some(InboundState::Ignored);
    let inbounds = networking.inbound.iter().filter(|inbound| listens(inbound.port, inbound.state));
    inbounds.filter_map(|inbound| socket(networking, inbound.address.as_deref(), inbound.port)).collect()
}

/// None for a host name: the zone resolves it, we do not know to what.
fn socket(networking: &Networking, address: Option<&str>, port: u32) -> Option<SocketAddr> {
    let address = address.unwrap_or(&networking.address).parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

/// Whether one Envoy has heard from its zone; once it has, it need not be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard(bool);

/// Asks Envoy whether it is ready.
pub async fn look(admin: &Admin, expected: &BTreeSet<SocketAddr>, heard: &mut Heard) -> Readiness {
    match ask(admin, expected, heard).await {
        Ok(readiness) => readiness,
        Err(error) => Readiness::NotReady(error.to_string()),
    }
}

async fn ask(admin: &Admin, expected: &BTreeSet<SocketAddr>, heard: &mut Heard) -> Result<Readiness, AdminError> {
    let state = admin.server_info().await?.state;
    if state != "LIVE" {
        let hint = if state.ends_with("INITIALIZING") { ": it waits for its zone's first answer" } else { "" };
        return Ok(Readiness::NotReady(format!("Envoy is {state}{hint}")));
    }
    if !heard.0 && admin.updates().await? == 0 {
        return Ok(Readiness::NotReady("Envoy has heard nothing from its zone yet".to_owned()));
    }
    *heard = Heard(true);
    if expected.is_empty() {
        return Ok(Readiness::Ready);
    }
    let listeners = admin.listeners().await?;
    let missing: Vec<String> = expected.difference(&listeners).map(SocketAddr::to_string).collect();
    if missing.is_empty() {
        return Ok(Readiness::Ready);
    }
    Ok(Readiness::NotReady(format!("Envoy does not listen yet at {}", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_inbound_that_has_a_listener_is_expected() {
        let dataplane = json!({"networking": {"address": "127.0.0.1", "inbound": [
            {"port": 80}, {"port": 81, "address": "127.0.0.2"}, {"port": 82, "state": "Ignored"}, {"port": 49151},
            {"port": 83, "state": "NotReady"}, {"port": 84, "address": "a.host"}
        ], "listeners": [{"type": "ZoneIngress", "address": "127.0.0.1", "port": 10001}]}});
        let found = expected(&serde_json::from_value(dataplane).unwrap());
        let found: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["127.0.0.1:80", "127.0.0.1:83", "127.0.0.2:81"]);
    }
}
