//! The listener of an inbound: ends the mesh's TLS, judges who calls, forwards to the application.
//!
//! | proxy has | MeshTLS | chains |
//! | --- | --- | --- |
//! | no identity | any | everything, as it is |
//! | an identity | Strict | the mesh's TLS |
//! | an identity | Permissive | the mesh's TLS; other TLS, as it is; no TLS, as it is |
//!
//! What passes as it is, is not judged: its callers have no identity.

use std::net::SocketAddr;

use atoll_envoy_api::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener},
    },
    extensions::filters::{
        http::rbac::v3::Rbac as HttpRbac,
        network::{rbac::v3::Rbac, tcp_proxy::v3::TcpProxy},
    },
};
use atoll_mesh::snapshot::Protocol;
use atoll_model::{policies::mesh_tls::Tls, sni::ALPN};
use atoll_policy::PermissionSet;

use super::{
    access_log,
    filters::{self, HTTP, INSPECTION},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    name,
    policies::{mesh_timeout::Effective, mesh_tls, mesh_traffic_permission},
    tls,
};

/// One inbound, and what holds for it.
pub(crate) struct Inbound<'a> {
    /// Name of listener and cluster.
    pub(crate) name: &'a str,
    /// Where the proxy listens.
    pub(crate) at: SocketAddr,
    /// Whether it binds that address; redirected traffic gets there without a socket.
    pub(crate) bind: bool,
    /// What the application speaks.
    pub(crate) protocol: Protocol,
    /// How long things may take.
    pub(crate) timeouts: &'a Effective,
    /// Whether connections and requests are logged.
    pub(crate) logged: bool,
    /// The mesh's TLS, if the proxy has an identity.
    pub(crate) mesh_tls: Option<MeshTls<'a>>,
}

/// What an inbound needs to end the mesh's TLS.
pub(crate) struct MeshTls<'a> {
    /// Name of the secret with the proxy's certificate.
    pub(crate) secret: &'a str,
    /// Mode and versions.
    pub(crate) tls: &'a Tls,
    /// Who may call.
    pub(crate) permissions: &'a PermissionSet,
    /// Raised to judge open connections again.
    pub(crate) epoch: u64,
}

/// The listener, and the filters that it asks for.
pub(crate) fn resources(inbound: &Inbound<'_>) -> Vec<Encoded> {
    let name = inbound.name;
    let listener = Listener {
        name: name.to_owned(),
        address: Some(address::of(inbound.at)),
        stat_prefix: name.to_owned(),
        filter_chains: chains(inbound),
        // Always, with an identity: the mode of MeshTLS may then change without touching the chain of the mesh's TLS.
        listener_filters: inbound.mesh_tls.iter().map(|_| filters::tls_inspector()).collect(),
        listener_filters_timeout: inbound.mesh_tls.as_ref().map(|_| address::from_std(INSPECTION)),
        // Protocols in which the server speaks first show nothing until then.
        continue_on_listener_filters_timeout: inbound.mesh_tls.is_some(),
        traffic_direction: TrafficDirection::Inbound as i32,
        bind_to_port: (!inbound.bind).then_some(false),
        enable_reuse_port: filters::REUSE_PORT,
        tcp_keepalive: Some(address::keepalive()),
        access_log: if inbound.logged { access_log::connections() } else { Vec::new() },
        ..Default::default()
    };
    let mut resources = vec![Encoded::new(ResourceType::Listener, name, &listener).at(inbound.at)];
    if asks_for_tcp(inbound) {
        resources.push(filters::extension(&name::tcp(name), &filters::tcp_proxy(name, name, inbound.timeouts)));
    }
    resources.extend(inbound.mesh_tls.as_ref().map(|mesh| rbac(inbound, mesh)));
    resources
}

fn rbac(inbound: &Inbound<'_>, mesh: &MeshTls<'_>) -> Encoded {
    let name = inbound.name;
    match inbound.protocol {
        Protocol::Tcp => filters::extension(&name::rbac(name), &mesh_traffic_permission::network_filter(name, mesh.permissions)),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            filters::extension(&name::http_rbac(name), &mesh_traffic_permission::http_filter(mesh.permissions))
        }
    }
}

/// Bytes pass where the application speaks no HTTP, and where the application's own TLS passes.
fn asks_for_tcp(inbound: &Inbound<'_>) -> bool {
    let passes_tls = inbound.mesh_tls.as_ref().is_some_and(|mesh| mesh_tls::is_permissive(mesh.tls));
    inbound.protocol == Protocol::Tcp || passes_tls
}

fn chains(inbound: &Inbound<'_>) -> Vec<FilterChain> {
    let name = inbound.name;
    let Some(mesh) = &inbound.mesh_tls else {
        return vec![FilterChain { name: name.to_owned(), filters: unjudged(inbound), ..Default::default() }];
    };
    let mesh_chain = FilterChain {
        name: name::mtls_chain(name, mesh.epoch),
        filter_chain_match: Some(FilterChainMatch {
            transport_protocol: "tls".to_owned(),
            application_protocols: vec![ALPN.to_owned()],
            ..Default::default()
        }),
        filters: judged(inbound),
        transport_socket: Some(tls::downstream(mesh.secret, mesh.tls)),
        ..Default::default()
    };
    if !mesh_tls::is_permissive(mesh.tls) {
        return vec![mesh_chain];
    }
    let matching = |protocol: &str| Some(FilterChainMatch { transport_protocol: protocol.to_owned(), ..Default::default() });
    let other_tls = FilterChain {
        name: format!("{name}/tls"),
        filter_chain_match: matching("tls"),
        filters: vec![tcp(name)],
        ..Default::default()
    };
    let plain = FilterChain {
        name: format!("{name}/plain"),
        filter_chain_match: matching("raw_buffer"),
        filters: unjudged(inbound),
        ..Default::default()
    };
    vec![mesh_chain, other_tls, plain]
}

/// The filters of callers with an identity.
fn judged(inbound: &Inbound<'_>) -> Vec<Filter> {
    let name = inbound.name;
    match inbound.protocol {
        Protocol::Tcp => vec![filters::discovered::<Rbac>(&name::rbac(name)), tcp(name)],
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            let rbac = filters::discovered_http::<HttpRbac>(&name::http_rbac(name));
            vec![filters::inline(HTTP, &filters::http(name, name, inbound.timeouts, Vec::new(), Some(rbac), inbound.logged))]
        }
    }
}

/// The filters of callers without an identity.
fn unjudged(inbound: &Inbound<'_>) -> Vec<Filter> {
    let name = inbound.name;
    match inbound.protocol {
        Protocol::Tcp => vec![tcp(name)],
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            vec![filters::inline(HTTP, &filters::http(name, name, inbound.timeouts, Vec::new(), None, inbound.logged))]
        }
    }
}

fn tcp(inbound: &str) -> Filter {
    filters::discovered::<TcpProxy>(&name::tcp(inbound))
}
