//! MeshPassthrough: which destinations a proxy lets traffic go to, in the order in which they are tried.
//!
//! Envoy's own way of choosing a filter chain does not turn back: with a chain for port 443, one for every port of an address is
//! never tried there. So chains are chosen by a list of conditions of which the first that holds decides: addresses before
//! domains, the narrower before the wider.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use atoll_model::policies::mesh_passthrough::{Match, MatchKind, MatchProtocol, Mode, Passthrough};

/// What a proxy lets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Openness {
    /// Everything.
    Everything,
    /// What one of these takes; the first decides.
    Only(Vec<Way>),
}

/// Destinations with the same filter chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Name of the chain, and of its cluster if it has one.
    pub(crate) name: String,
    /// What is spoken there.
    pub(crate) protocol: MatchProtocol,
    /// One port, or all.
    pub(crate) port: Option<u16>,
    /// Where.
    pub(crate) to: To,
}

/// Destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Addresses: the first, and the length of what they share.
    Range(IpAddr, u8),
    /// A server name of TLS: itself, or all below it (`*.example.com`), or all (`*`).
    ServerName(String),
    /// Hosts of HTTP, in the same forms, each with its cluster.
    Hosts(Vec<(String, String)>),
}

/// What a policy lets go; nothing is said: everything.
pub(crate) fn openness(policy: Option<&Passthrough>) -> Openness {
    let Some(policy) = policy else { return Openness::Everything };
    match policy.passthrough_mode.unwrap_or(Mode::Matched) {
        Mode::All => Openness::Everything,
        Mode::None => Openness::Only(Vec::new()),
        Mode::Matched => Openness::Only(ways(&policy.append_match)),
    }
}

fn ways(matches: &[Match]) -> Vec<Way> {
    let mut seen = BTreeSet::new();
    let mut ways = Vec::new();
    let mut hosts: BTreeMap<(MatchProtocol, Option<u16>), BTreeMap<String, String>> = BTreeMap::new();
    for one in matches {
        // Policies of several authors may say the same.
        let value = one.value.to_ascii_lowercase();
        let Some(port) = one.port.map(u16::try_from).transpose().ok() else { continue };
        let name = name(one.protocol, &value, port);
        let to = match (one.kind, one.range()) {
            (MatchKind::Ip | MatchKind::Cidr, Some((ip, length))) => To::Range(ip, length),
            (MatchKind::Domain, _) if one.protocol.is_http() => {
                hosts.entry((one.protocol, port)).or_default().insert(value, name);
                continue;
            }
            (MatchKind::Domain, _) => To::ServerName(value),
            (MatchKind::Ip | MatchKind::Cidr, None) => continue,
        };
        if seen.insert(name.clone()) {
            ways.push(Way { name, protocol: one.protocol, port, to });
        }
    }
    ways.extend(hosts.into_iter().map(|((protocol, port), hosts)| Way {
        name: format!("{PREFIX}_{}_{}", protocol.name(), shown(port)),
        protocol,
        port,
        to: To::Hosts(hosts.into_iter().collect()),
    }));
    ways.sort_by_cached_key(rank);
    ways
}

/// Kuma's names.
const PREFIX: &str = "meshpassthrough";

fn name(protocol: MatchProtocol, value: &str, port: Option<u16>) -> String {
    format!("{PREFIX}_{}_{value}_{}", protocol.name(), shown(port))
}

fn shown(port: Option<u16>) -> String {
    port.map_or_else(|| "*".to_owned(), |port| port.to_string())
}

/// Addresses before domains, the narrower first; one port before all; HTTP and TLS before bytes; then by name.
fn rank(way: &Way) -> (bool, Reverse<usize>, bool, u8, String) {
    let (is_domain, narrow) = match &way.to {
        To::Range(_, length) => (false, usize::from(*length)),
        To::ServerName(name) => (true, narrowness(name)),
        To::Hosts(_) => (true, 0),
    };
    let protocol = match way.protocol {
        MatchProtocol::Tls => 0,
        MatchProtocol::Http | MatchProtocol::Http2 | MatchProtocol::Grpc => 1,
        MatchProtocol::Tcp | MatchProtocol::Mysql => 2,
    };
    (is_domain, Reverse(narrow), way.port.is_none(), protocol, way.name.clone())
}

/// A name before all names below it, a longer one before a shorter one.
fn narrowness(name: &str) -> usize {
    let labels = name.split('.').count();
    if name.starts_with('*') { labels } else { labels + usize::from(u8::MAX) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn order(policy: Value) -> Vec<String> {
        let policy: Passthrough = serde_json::from_value(policy).expect("a policy");
        match openness(Some(&policy)) {
            Openness::Everything => vec!["everything".to_owned()],
            Openness::Only(ways) => ways.into_iter().map(|way| way.name).collect(),
        }
    }

    #[test]
    fn the_mode_decides_and_is_matched_unless_set() {
        let matches = json!([{"type": "IP", "value": "10.0.0.1", "protocol": "tcp"}]);
        assert_eq!(openness(None), Openness::Everything);
        assert_eq!(order(json!({"passthroughMode": "All", "appendMatch": matches})), ["everything"]);
        assert_eq!(order(json!({"passthroughMode": "None", "appendMatch": matches})), [""; 0]);
        assert_eq!(order(json!({"appendMatch": matches})), ["meshpassthrough_tcp_10.0.0.1_*"]);
        assert_eq!(order(json!({})), [""; 0]);
    }

    #[test]
    fn the_narrower_is_tried_first_and_hosts_of_one_port_share_a_chain() {
        let one = |kind: &str, value: &str, port: Option<u16>, protocol: &str| json!({"type": kind, "value": value, "port": port, "protocol": protocol});
        let matches = json!([
            one("Domain", "*.Example.com", Some(443), "tls"),
            one("Domain", "example.com", Some(80), "http"),
            one("Domain", "other.com", Some(80), "http"),
            one("Domain", "api.example.com", None, "tls"),
            one("CIDR", "10.0.0.0/8", None, "tcp"),
            one("IP", "10.0.0.1", None, "tcp"),
            one("IP", "10.0.0.1", Some(443), "tls"),
            one("IP", "10.0.0.1", None, "tcp"),
        ]);
        let expected = [
            "meshpassthrough_tls_10.0.0.1_443",
            "meshpassthrough_tcp_10.0.0.1_*",
            "meshpassthrough_tcp_10.0.0.0/8_*",
            "meshpassthrough_tls_api.example.com_*",
            "meshpassthrough_tls_*.example.com_443",
            "meshpassthrough_http_80",
        ];
        assert_eq!(order(json!({"appendMatch": matches})), expected);
    }
}
