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
use atoll_model::policies::mesh_load_balancing_strategy::Strategy;

use super::{
    access_log,
    filters::{self, HTTP},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    name as names,
    policies::{mesh_load_balancing_strategy, mesh_timeout::Effective},
};

/// Where an outbound listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Bound.
    Bound(SocketAddr),
    /// At the virtual address; redirected traffic gets there without a socket.
    Virtual(SocketAddr),
}

/// What a listener does with what it takes.
pub(crate) struct Conduct<'a> {
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// How long things may take.
    pub(crate) timeouts: &'a Effective,
    /// How requests are spread.
    pub(crate) strategy: &'a Strategy,
    /// Whether connections and requests are logged.
    pub(crate) logged: bool,
}

/// The listener `name`, which leads to the cluster of that name, and the filter that it asks for: a changed timeout must not cut
/// what runs, and a changed filter chain would.
pub(crate) fn resources(name: &str, place: Place, conduct: &Conduct<'_>) -> Vec<Encoded> {
    let mut resources = vec![listener(name, place, conduct)];
    if conduct.protocol == Protocol::Tcp {
        let hash_policy = mesh_load_balancing_strategy::of_connections(conduct.strategy);
        let filter = TcpProxy { hash_policy, ..filters::tcp_proxy(name, name, conduct.timeouts) };
        resources.push(filters::extension(&names::tcp(name), &filter));
    }
    resources
}

fn listener(name: &str, place: Place, conduct: &Conduct<'_>) -> Encoded {
    let (at, bound) = match place {
        Place::Bound(at) => (at, true),
        Place::Virtual(at) => (at, false),
    };
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address::of(at)),
        stat_prefix: name.to_owned(),
        filter_chains: vec![FilterChain { name: name.to_owned(), filters: vec![filter(name, conduct)], ..Default::default() }],
        traffic_direction: TrafficDirection::Outbound as i32,
        bind_to_port: (!bound).then_some(false),
        enable_reuse_port: filters::REUSE_PORT,
        access_log: if conduct.logged { access_log::connections() } else { Vec::new() },
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, name, &listener).at(at)
}

fn filter(name: &str, conduct: &Conduct<'_>) -> Filter {
    match conduct.protocol {
        Protocol::Tcp => filters::discovered::<TcpProxy>(&names::tcp(name)),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            let hashed = mesh_load_balancing_strategy::of_requests(conduct.strategy);
            filters::inline(HTTP, &filters::http(name, name, conduct.timeouts, hashed, None, conduct.logged))
        }
    }
}
