//! The listener of a zone ingress: routes the mesh's TLS by server name, and never ends it.

use std::net::SocketAddr;

use atoll_envoy_api::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{FilterChain, FilterChainMatch, Listener},
    },
    extensions::filters::network::tcp_proxy::v3::TcpProxy,
};

use super::{
    access_log,
    filters::{self, INSPECTION},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    name,
    policies::mesh_timeout::Effective,
};

/// Leads a server name to a cluster. The filter comes by extension discovery: a changed timeout must not cut what runs.
pub(crate) fn chain(sni: &str, cluster: &str) -> FilterChain {
    FilterChain {
        name: cluster.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".to_owned(),
            server_names: vec![sni.to_owned()],
            ..Default::default()
        }),
        filters: vec![filters::discovered::<TcpProxy>(&name::tcp(cluster))],
        ..Default::default()
    }
}

/// The filter that a chain asks for.
pub(crate) fn filter(cluster: &str, timeouts: &Effective) -> Encoded {
    filters::extension(&name::tcp(cluster), &filters::tcp_proxy(cluster, cluster, timeouts))
}

/// The listener. What matches no chain, or does not show a server name in time, is closed. It stands where anybody may knock, so
/// each connection is logged, also one that no chain took.
pub(crate) fn listener(name: &str, at: SocketAddr, chains: Vec<FilterChain>) -> Encoded {
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address::of(at)),
        stat_prefix: name.to_owned(),
        filter_chains: chains,
        listener_filters: vec![filters::tls_inspector()],
        listener_filters_timeout: Some(address::from_std(INSPECTION)),
        traffic_direction: TrafficDirection::Inbound as i32,
        enable_reuse_port: filters::REUSE_PORT,
        tcp_keepalive: Some(address::keepalive()),
        access_log: access_log::connections(),
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, name, &listener).at(at)
}
