//! Passthrough to listed destinations only.

use atoll_envoy_api::{
    envoy::{
        config::{
            core::v3::{DataSource, data_source},
            listener::v3::{
                Filter, FilterChain, ListenerFilter, ListenerFilterChainMatchPredicate,
                listener_filter::ConfigType,
                listener_filter_chain_match_predicate::{MatchSet, Rule},
            },
            route::v3::{
                DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action,
                route_match,
            },
        },
        extensions::filters::{
            listener::{http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector},
            network::{direct_response::v3 as direct, http_connection_manager::v3::http_connection_manager::RouteSpecifier},
        },
        r#type::v3::Int32Range,
    },
    xds::r#type::matcher::v3::Matcher,
};
use atoll_model::policies::mesh_passthrough::MatchProtocol;
use prost::{Message, Name};

use super::condition;
use crate::{
    address,
    clusters::passthrough as clusters,
    encoded::{Encoded, pack},
    listeners::filters::{self, HTTP, TCP_PROXY},
    policies::{
        mesh_passthrough::{To, Way},
        mesh_timeout::Effective,
    },
};

/// What a listener needs to let only some traffic go.
pub(super) struct Gate {
    pub(super) chains: Vec<FilterChain>,
    pub(super) matcher: Option<Matcher>,
    pub(super) inspectors: Vec<ListenerFilter>,
}

/// The gate `name` with these ways. What takes none of them is closed.
pub(super) fn gate(name: &str, ways: &[Way], timeouts: &Effective, logged: bool) -> Gate {
    if ways.is_empty() {
        return Gate { chains: vec![closed(name)], matcher: None, inspectors: Vec::new() };
    }
    Gate {
        chains: ways.iter().map(|way| chain(way, timeouts, logged)).collect(),
        matcher: Some(condition::first_of(ways)),
        inspectors: inspectors(ways),
    }
}

/// The clusters of all ways.
pub(crate) fn clusters(ways: &[Way], timeouts: &Effective) -> Vec<Encoded> {
    let of_way = |way: &Way| match &way.to {
        To::Hosts(hosts) => hosts.iter().map(|(_, cluster)| cluster.clone()).collect(),
        To::Range(..) | To::ServerName(_) => vec![way.name.clone()],
    };
    ways.iter().flat_map(|way| of_way(way).into_iter().map(|name| clusters::matched(&name, way.protocol, timeouts))).collect()
}

fn closed(name: &str) -> FilterChain {
    let filter = filters::inline("envoy.filters.network.direct_response", &direct::Config::default());
    FilterChain { name: format!("{name}/closed"), filters: vec![filter], ..Default::default() }
}

fn chain(way: &Way, timeouts: &Effective, logged: bool) -> FilterChain {
    FilterChain { name: way.name.clone(), filters: vec![filter(way, timeouts, logged)], ..Default::default() }
}

fn filter(way: &Way, timeouts: &Effective, logged: bool) -> Filter {
    if !way.protocol.is_http() {
        return filters::inline(TCP_PROXY, &filters::tcp_proxy(&way.name, &way.name, timeouts));
    }
    let mut manager = filters::http(&way.name, &way.name, timeouts, Vec::new(), None, logged);
    if let To::Hosts(hosts) = &way.to {
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes(way, hosts, timeouts)));
    }
    filters::inline(HTTP, &manager)
}

const UNLISTED: &str = "No MeshPassthrough lets requests to this host go.\n";

fn routes(way: &Way, hosts: &[(String, String)], timeouts: &Effective) -> RouteConfiguration {
    let mut virtual_hosts: Vec<_> = hosts
        .iter()
        .map(|(host, cluster)| {
            let action = RouteAction {
                cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.clone())),
                timeout: Some(address::duration(timeouts.request)),
                ..Default::default()
            };
            virtual_host(host, domains(host, way.port), route::Action::Route(action))
        })
        .collect();
    if hosts.iter().all(|(host, _)| host != "*") {
        let body =
            DataSource { specifier: Some(data_source::Specifier::InlineString(UNLISTED.to_owned())), ..Default::default() };
        let answer = DirectResponseAction { status: 503, body: Some(body), ..Default::default() };
        virtual_hosts.push(virtual_host("unlisted", vec!["*".to_owned()], route::Action::DirectResponse(answer)));
    }
    RouteConfiguration { name: way.name.clone(), virtual_hosts, validate_clusters: Some(false), ..Default::default() }
}

/// The header may name the port, too.
fn domains(host: &str, port: Option<u16>) -> Vec<String> {
    if host == "*" {
        return vec![host.to_owned()];
    }
    let with_port = port.map_or_else(|| format!("{host}:*"), |port| format!("{host}:{port}"));
    vec![host.to_owned(), with_port]
}

fn virtual_host(name: &str, domains: Vec<String>, action: route::Action) -> VirtualHost {
    let everything =
        RouteMatch { path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route = Route { r#match: Some(everything), action: Some(action), ..Default::default() };
    VirtualHost { name: name.to_owned(), domains, routes: vec![route], ..Default::default() }
}

/// Inspectors wait for the caller's first bytes. They look only at ports where somebody asked for them, so that a server that
/// speaks first is not kept waiting elsewhere.
fn inspectors(ways: &[Way]) -> Vec<ListenerFilter> {
    let tls = scope(ways, |protocol| protocol == MatchProtocol::Tls);
    let http = scope(ways, MatchProtocol::is_http);
    let destination = inspector("envoy.filters.listener.original_dst", &OriginalDst::default(), None);
    let tls = tls.map(|scope| inspector("envoy.filters.listener.tls_inspector", &TlsInspector::default(), scope.disabled()));
    let http = http.map(|scope| inspector("envoy.filters.listener.http_inspector", &HttpInspector::default(), scope.disabled()));
    [destination].into_iter().chain(tls).chain(http).collect()
}

fn inspector<M: Message + Name>(name: &str, config: &M, disabled: Option<ListenerFilterChainMatchPredicate>) -> ListenerFilter {
    ListenerFilter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(pack(config))), filter_disabled: disabled }
}

/// Ports at which an inspector looks.
enum Scope {
    Only(Vec<u16>),
    AllBut(Vec<u16>),
}

fn scope(ways: &[Way], asks: impl Fn(MatchProtocol) -> bool) -> Option<Scope> {
    let asking: Vec<_> = ways.iter().filter(|way| asks(way.protocol)).collect();
    let mut ports: Vec<u16> = asking.iter().filter_map(|way| way.port).collect();
    ports.sort_unstable();
    ports.dedup();
    if asking.is_empty() {
        return None;
    }
    if asking.iter().all(|way| way.port.is_some()) {
        return Some(Scope::Only(ports));
    }
    let speaks_first = ways.iter().filter(|way| way.protocol == MatchProtocol::Mysql).filter_map(|way| way.port);
    let mut silent: Vec<u16> = speaks_first.filter(|port| !ports.contains(port)).collect();
    silent.sort_unstable();
    silent.dedup();
    Some(Scope::AllBut(silent))
}

impl Scope {
    fn disabled(self) -> Option<ListenerFilterChainMatchPredicate> {
        match self {
            Scope::Only(ports) => any_of(ports).map(|ports| predicate(Rule::NotMatch(Box::new(ports)))),
            Scope::AllBut(ports) => any_of(ports),
        }
    }
}

fn any_of(ports: Vec<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let port = |port: u16| {
        let start = i32::from(port);
        predicate(Rule::DestinationPortRange(Int32Range { start, end: start + 1 }))
    };
    let mut rules: Vec<_> = ports.into_iter().map(port).collect();
    // Envoy wants at least two alternatives.
    if rules.len() > 1 { Some(predicate(Rule::OrMatch(MatchSet { rules }))) } else { rules.pop() }
}

fn predicate(rule: Rule) -> ListenerFilterChainMatchPredicate {
    ListenerFilterChainMatchPredicate { rule: Some(rule) }
}
