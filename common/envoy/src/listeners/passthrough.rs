//! Where a host's redirected traffic arrives: leads it to the listener at its original destination, or else there itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use atoll_envoy_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, Listener},
};

use super::{
    access_log,
    filters::{self, TCP_PROXY},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    policies::mesh_timeout::Effective,
};

/// The listener `name` on a port of every address, which leads to the cluster of that name.
pub(crate) fn listener(name: &str, port: u16, direction: TrafficDirection, timeouts: &Effective, logged: bool) -> Encoded {
    let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address::of(at)),
        stat_prefix: name.to_owned(),
        filter_chains: vec![FilterChain {
            name: name.to_owned(),
            filters: vec![filters::inline(TCP_PROXY, &filters::tcp_proxy(name, name, timeouts))],
            ..Default::default()
        }],
        use_original_dst: Some(true),
        traffic_direction: direction as i32,
        enable_reuse_port: filters::REUSE_PORT,
        access_log: if logged { access_log::connections() } else { Vec::new() },
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, name, &listener).at(at)
}
