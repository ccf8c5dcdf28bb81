//! Where a host's redirected traffic arrives: leads it to the listener at its original destination, or else there itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use atoll_envoy_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, Listener},
};

use super::{
    access_log,
    filters::{self, INSPECTION, TCP_PROXY},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    policies::{mesh_passthrough::Way, mesh_timeout::Effective},
};

mod condition;
pub(crate) mod matched;

/// The listener `name` on a port of every address, which leads to the cluster of that name.
pub(crate) fn open(name: &str, port: u16, direction: TrafficDirection, timeouts: &Effective, logged: bool) -> Encoded {
    let chain = FilterChain {
        name: name.to_owned(),
        filters: vec![filters::inline(TCP_PROXY, &filters::tcp_proxy(name, name, timeouts))],
        ..Default::default()
    };
    encoded(port, Listener { filter_chains: vec![chain], ..bare(name, port, direction, logged) })
}

/// The same for what goes out, to listed destinations only. Another list changes the chains of what was taken off it, and of nothing
/// else; from open to listed and back the listener is another one, whose connections end within the drain time.
pub(crate) fn listed(name: &str, port: u16, ways: &[Way], timeouts: &Effective, logged: bool) -> Encoded {
    let gate = matched::gate(name, ways, timeouts, logged);
    let inspects = !gate.inspectors.is_empty();
    let listener = Listener {
        filter_chains: gate.chains,
        filter_chain_matcher: gate.matcher,
        listener_filters: gate.inspectors,
        listener_filters_timeout: inspects.then(|| address::from_std(INSPECTION)),
        // Protocols in which the server speaks first show nothing until then.
        continue_on_listener_filters_timeout: inspects,
        ..bare(name, port, TrafficDirection::Outbound, logged)
    };
    encoded(port, listener)
}

fn bare(name: &str, port: u16, direction: TrafficDirection, logged: bool) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(address::of(place(port))),
        stat_prefix: name.to_owned(),
        use_original_dst: Some(true),
        traffic_direction: direction as i32,
        enable_reuse_port: filters::REUSE_PORT,
        access_log: if logged { access_log::connections() } else { Vec::new() },
        ..Default::default()
    }
}

fn place(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

fn encoded(port: u16, listener: Listener) -> Encoded {
    Encoded::new(ResourceType::Listener, &listener.name, &listener).at(place(port))
}
