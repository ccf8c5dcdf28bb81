//! The listener of a zone ingress: routes the mesh's TLS by server name, and never ends it.

use std::net::SocketAddr;

use atoll_envoy_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};

use super::filters::{self, INSPECTION, TCP_PROXY};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    policies::mesh_timeout::Effective,
};

/// Leads a server name to a cluster.
pub(crate) fn chain(sni: &str, cluster: &str, timeouts: &Effective) -> FilterChain {
    FilterChain {
        name: cluster.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".to_owned(),
            server_names: vec![sni.to_owned()],
            ..Default::default()
        }),
        filters: vec![filters::inline(TCP_PROXY, &filters::tcp_proxy(cluster, cluster, timeouts))],
        ..Default::default()
    }
}

/// The listener. What matches no chain, or does not show a server name in time, is closed.
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
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, name, &listener).at(at)
}
