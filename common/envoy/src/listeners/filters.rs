//! Network filters, and what listeners and filter chains have in common.

use atoll_envoy_api::envoy::{
    config::{
        core::v3::{HttpProtocolOptions, TypedExtensionConfig},
        listener::v3::{Filter, ListenerFilter, filter, listener_filter},
        route::v3::{Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action, route_match},
    },
    extensions::filters::{
        http::router::v3::Router,
        listener::tls_inspector::v3::TlsInspector,
        network::{
            http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter,
                http_connection_manager::{RouteSpecifier, UpgradeConfig},
                http_filter,
            },
            tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        },
    },
};
use prost::{Message, Name};

use super::access_log;
use crate::{
    address,
    encoded::{Encoded, ResourceType, pack},
    policies::mesh_timeout::Effective,
    source,
};

/// Forwards bytes to a cluster. Nothing limits how long a connection may live: that would cut in the middle of an exchange.
pub(super) fn tcp_proxy(stat_prefix: &str, cluster: &str, timeouts: &Effective) -> TcpProxy {
    TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        idle_timeout: Some(address::duration(timeouts.idle)),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    }
}

/// Forwards requests to a cluster, by a hash of what `hashed` says; `first` is asked before.
pub(super) fn http(
    stat_prefix: &str,
    cluster: &str,
    timeouts: &Effective,
    hashed: Vec<route_action::HashPolicy>,
    first: Option<HttpFilter>,
    logged: bool,
) -> HttpConnectionManager {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
        ..Default::default()
    };
    HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        http_filters: first.into_iter().chain([router]).collect(),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // The other side's pool decides when a connection is idle: closing it here would race with its next request.
            idle_timeout: Some(address::duration(atoll_model::duration::GoDuration(0))),
            ..Default::default()
        }),
        stream_idle_timeout: Some(address::duration(timeouts.stream_idle)),
        request_headers_timeout: (timeouts.request_headers.0 > 0).then(|| address::duration(timeouts.request_headers)),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        route_specifier: Some(RouteSpecifier::RouteConfig(catch_all(stat_prefix, cluster, timeouts, hashed))),
        access_log: if logged { access_log::requests() } else { Vec::new() },
        ..Default::default()
    }
}

fn catch_all(name: &str, cluster: &str, timeouts: &Effective, hashed: Vec<route_action::HashPolicy>) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(address::duration(timeouts.request)),
        hash_policy: hashed,
        ..Default::default()
    };
    let everything =
        RouteMatch { path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route = Route { r#match: Some(everything), action: Some(route::Action::Route(action)), ..Default::default() };
    let host = VirtualHost { name: name.to_owned(), domains: vec!["*".to_owned()], routes: vec![route], ..Default::default() };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], validate_clusters: Some(false), ..Default::default() }
}

/// A filter that stands in the listener itself.
pub(super) fn inline<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(pack(config))) }
}

/// A filter of type `M` that comes by extension discovery under its name.
pub(super) fn discovered<M: Name>(name: &str) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::ConfigDiscovery(source::extension::<M>())) }
}

/// An HTTP filter of type `M` that comes by extension discovery under its name.
pub(super) fn discovered_http<M: Name>(name: &str) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::ConfigDiscovery(source::extension::<M>())),
        ..Default::default()
    }
}

/// What extension discovery answers for the filter `name`.
pub(super) fn extension<M: Message + Name>(name: &str, config: &M) -> Encoded {
    let extension = TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack(config)) };
    Encoded::new(ResourceType::Extension, name, &extension)
}

/// Finds out whether a connection begins with TLS, and reads its server name and protocols.
pub(super) fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(&TlsInspector::default()))),
        ..Default::default()
    }
}

/// Never shared: two Envoys that bind one address would each get half of its connections, without an error. Without a socket
/// too, for Envoy refuses a listener in which this changes.
pub(super) const REUSE_PORT: Option<bool> = Some(false);

/// How long a connection may take to show how it begins.
pub(super) const INSPECTION: std::time::Duration = std::time::Duration::from_secs(5);

/// Names of the filters that stand in listeners themselves.
pub(super) const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
pub(super) const HTTP: &str = "envoy.filters.network.http_connection_manager";
