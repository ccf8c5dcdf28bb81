//! The listener of a service's port: where the applications of this proxy's host reach it.

use std::net::SocketAddr;

use atoll_envoy_api::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{Filter, FilterChain, Listener},
    },
    extensions::filters::network::tcp_proxy::v3::TcpProxy,
};
use atoll_mesh::snapshot::Protocol;

use super::{
    access_log,
    filters::{self, HTTP},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    name as names,
    policies::mesh_timeout::Effective,
};

/// Where an outbound listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bound.
    Bound(SocketAddr),
    /// At the virtual address; redirected traffic gets there without a socket.
    Virtual(SocketAddr),
}

/// The listener `name`, which leads to the cluster of that name, and the filter that it asks for: a changed timeout must not cut
/// what runs, and a changed filter chain would.
pub(crate) fn resources(name: &str, place: Place, protocol: Protocol, timeouts: &Effective, logged: bool) -> Vec<Encoded> {
    let mut resources = vec![listener(name, place, protocol, timeouts, logged)];
    if protocol == Protocol::Tcp {
        resources.push(filters::extension(&names::tcp(name), &filters::tcp_proxy(name, name, timeouts)));
    }
    resources
}

fn listener(name: &str, place: Place, protocol: Protocol, timeouts: &Effective, logged: bool) -> Encoded {
    let (at, bound) = match place {
        Place::Bound(at) => (at, true),
        Place::Virtual(at) => (at, false),
    };
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address::of(at)),
        stat_prefix: name.to_owned(),
        filter_chains: vec![FilterChain {
            name: name.to_owned(),
            filters: vec![filter(name, protocol, timeouts, logged)],
            ..Default::default()
        }],
        traffic_direction: TrafficDirection::Outbound as i32,
        bind_to_port: (!bound).then_some(false),
        enable_reuse_port: filters::REUSE_PORT,
        access_log: if logged { access_log::connections() } else { Vec::new() },
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, name, &listener).at(at)
}

fn filter(name: &str, protocol: Protocol, timeouts: &Effective, logged: bool) -> Filter {
    match protocol {
        Protocol::Tcp => filters::discovered::<TcpProxy>(&names::tcp(name)),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            filters::inline(HTTP, &filters::http(name, name, timeouts, None, logged))
        }
    }
}
