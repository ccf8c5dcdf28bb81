//! MeshPassthrough: where traffic may go that is not the mesh's.

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Violation,
    document::{Checked, check_spec},
    kinds::is_dns_name,
    schema::Schema,
    target_ref::{self, TargetRef},
    violation::Path,
};

/// The spec of a MeshPassthrough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshPassthrough {
    /// Which proxies; absent means the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "target_ref::top_shape")]
    pub target_ref: Option<TargetRef>,
    /// What holds there.
    #[serde(default)]
    pub default: Passthrough,
}

/// Where a proxy lets traffic go that is not the mesh's. Without any policy, everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Passthrough {
    /// Matched, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthrough_mode: Option<Mode>,
    /// The destinations of Matched. Those of all policies hold together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append_match: Vec<Match>,
}

/// How much a proxy lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Everything.
    All,
    /// What is listed.
    Matched,
    /// Nothing.
    None,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// How `value` is meant.
    #[serde(rename = "type")]
    pub kind: MatchKind,
    /// A domain (`example.com`, `*.example.com`, `*`), an address, or a range.
    pub value: String,
    /// One port, or all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// What is spoken.
    #[serde(default)]
    pub protocol: MatchProtocol,
}

/// How a destination is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MatchKind {
    /// A domain: the server name of TLS, or the host of HTTP.
    #[serde(rename = "Domain")]
    Domain,
    /// An address.
    Ip,
    /// A range of addresses.
    Cidr,
}

/// What is spoken with a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchProtocol {
    /// Bytes.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// gRPC.
    Grpc,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// MySQL: bytes, and the server speaks first.
    Mysql,
}

impl MatchProtocol {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            MatchProtocol::Tcp => "tcp",
            MatchProtocol::Tls => "tls",
            MatchProtocol::Grpc => "grpc",
            MatchProtocol::Http => "http",
            MatchProtocol::Http2 => "http2",
            MatchProtocol::Mysql => "mysql",
        }
    }

    /// Whether it is HTTP of some kind.
    pub fn is_http(self) -> bool {
        match self {
            MatchProtocol::Grpc | MatchProtocol::Http | MatchProtocol::Http2 => true,
            MatchProtocol::Tcp | MatchProtocol::Tls | MatchProtocol::Mysql => false,
        }
    }
}

impl Match {
    /// The addresses that an address or a range means, as the first of them and the length of what they share. None for domains.
    pub fn range(&self) -> Option<(IpAddr, u8)> {
        match self.kind {
            MatchKind::Domain => None,
            MatchKind::Ip => {
                let ip: IpAddr = self.value.parse().ok()?;
                Some((ip, bits(ip)))
            }
            MatchKind::Cidr => {
                let (ip, length) = self.value.split_once('/')?;
                let (ip, length): (IpAddr, u8) = (ip.parse().ok()?, length.parse().ok()?);
                (length <= bits(ip)).then_some((ip, length))
            }
        }
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshPassthrough>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshPassthrough>(&SCHEMA, spec, |policy, path| {
        let mut faults = target_ref::check_top(policy.target_ref.as_ref(), &path.field("targetRef"), false);
        let path = path.field("default").field("appendMatch");
        let mut earlier = Earlier::default();
        for (i, one) in policy.default.append_match.iter().enumerate() {
            let path = path.index(i);
            faults.extend(check_port(one, &path.field("port")));
            faults.extend(earlier.check(one, &path));
            faults.extend(check_value(one, &path));
        }
        faults
    })
}

fn check_port(one: &Match, path: &Path) -> Option<Violation> {
    let is_wildcard = one.kind == MatchKind::Domain && one.value.starts_with('*');
    match one.port {
        None if one.protocol == MatchProtocol::Mysql => Some(path.violation("port must be defined for Mysql protocol")),
        None if is_wildcard && one.protocol.is_http() => {
            Some(path.violation("wildcard domains doesn't work for all ports and layer 7 protocol"))
        }
        Some(0 | 65_536..) => Some(path.violation("port must be a valid (1-65535)")),
        None | Some(_) => None,
    }
}

/// The matches before one.
#[derive(Default)]
struct Earlier<'a> {
    values: BTreeSet<(Option<u32>, MatchProtocol, &'a str)>,
    http: BTreeSet<(Option<u32>, MatchProtocol)>,
}

impl<'a> Earlier<'a> {
    fn check(&mut self, one: &'a Match, path: &Path) -> Vec<Violation> {
        let mut faults = Vec::new();
        if one.protocol.is_http() {
            let clashes = self.http.iter().any(|(port, protocol)| *port == one.port && *protocol != one.protocol);
            if clashes {
                let message = "using the same port in multiple matches requires the same protocol for the following protocols: [grpc http http2]";
                faults.push(path.field("port").violation(message));
            }
            self.http.insert((one.port, one.protocol));
        }
        if !self.values.insert((one.port, one.protocol, &one.value)) && one.port.is_some() {
            faults.push(
                path.field("value").violation(format!("value {} is already defined for this port and protocol", one.value)),
            );
        }
        faults
    }
}

fn check_value(one: &Match, path: &Path) -> Vec<Violation> {
    let value = path.field("value");
    match one.kind {
        MatchKind::Ip if one.range().is_none() => vec![value.violation("provided IP has incorrect value")],
        MatchKind::Cidr if one.range().is_none() => vec![value.violation("provided CIDR has incorrect value")],
        MatchKind::Ip | MatchKind::Cidr => Vec::new(),
        MatchKind::Domain => {
            let mut faults = Vec::new();
            if matches!(one.protocol, MatchProtocol::Tcp | MatchProtocol::Mysql) {
                let message = format!("protocol {} is not supported for a domain", one.protocol.name());
                faults.push(path.field("protocol").violation(message));
            }
            let name = one.value.strip_prefix("*.").unwrap_or(&one.value);
            if name.starts_with('*') && one.value != "*" {
                let message = "provided DNS has incorrect value, partial wildcard is currently not supported";
                faults.push(value.violation(message));
            } else if one.value != "*" && !is_dns_name(name) {
                faults.push(value.violation("provided DNS has incorrect value"));
            }
            faults
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(matches: Value) -> Vec<String> {
        let faults = check(&json!({"default": {"appendMatch": matches}})).violations.into_iter();
        let fields = faults.map(|fault| fault.field);
        fields.map(|field| field.strip_prefix("spec.default.appendMatch").map(str::to_owned).unwrap_or(field)).collect()
    }

    #[test]
    fn what_is_valid() {
        let matches = json!([
            {"type": "IP", "value": "192.168.1.1", "port": 8000},
            {"type": "IP", "value": "fd00::1", "protocol": "http"},
            {"type": "CIDR", "value": "1.2.3.4/24", "port": 9900, "protocol": "tcp"},
            {"type": "IP", "value": "172.1.1.1", "port": 3306, "protocol": "mysql"},
            {"type": "Domain", "value": "example.com", "protocol": "tls"},
            {"type": "Domain", "value": "*.example.com", "protocol": "tls"},
            {"type": "Domain", "value": "*", "port": 443, "protocol": "tls"},
            {"type": "Domain", "value": "*.example.com", "port": 9090, "protocol": "http"},
        ]);
        assert_eq!(fields(matches), [""; 0]);
        assert_eq!(check(&json!({})), Checked::default());
        assert_eq!(
            check(&json!({"targetRef": {"kind": "Dataplane"}, "default": {"passthroughMode": "None"}})),
            Checked::default()
        );
    }

    #[test]
    fn faults_are_named_by_their_path() {
        let domain = |value: &str, port: Value, protocol: &str| json!({"type": "Domain", "value": value, "port": port, "protocol": protocol});
        assert_eq!(fields(json!([domain("1.2.3.4", json!(1), "tcp")])), ["[0].protocol", "[0].value"]);
        assert_eq!(
            fields(json!([{"type": "IP", "value": "a.b", "port": 0}, {"type": "CIDR", "value": "1.2.3.4/33"}])),
            ["[0].port", "[0].value", "[1].value"]
        );
        let http = json!([domain("a.b", json!(80), "http"), domain("c.d", json!(80), "grpc"), domain("a.b", json!(80), "http")]);
        assert_eq!(fields(http), ["[1].port", "[2].port", "[2].value"]);
        assert_eq!(fields(json!([domain("*w.example.com", json!(80), "http")])), ["[0].value"]);
        let wildcard = json!([{"type": "Domain", "value": "*.a.b", "protocol": "http"}]);
        assert_eq!(fields(wildcard), ["[0].port"]);
        assert_eq!(fields(json!([{"type": "IP", "value": "1.2.3.4", "protocol": "mysql"}])), ["[0].port"]);
        assert_eq!(fields(json!([{"type": "Name", "value": "a", "protocol": "udp"}])), ["[0].protocol", "[0].type"]);
    }
}
