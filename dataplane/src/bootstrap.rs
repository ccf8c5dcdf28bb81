//! Envoy's bootstrap: who it is, and where it gets everything else.
//!
//! It asks the zone for its listeners and clusters over one delta stream and waits for the first answer without a limit: an Envoy
//! that starts without its zone is not ready with nothing (it does not open a port until it knows what to do there).

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{credentials::ZONE_SERVER_NAME, proto};

/// Cluster of the zone's discovery service.
const ADS_CLUSTER: &str = "ads_cluster";
/// Name of the secret that holds the token.
const TOKEN_SECRET: &str = "dataplane_token";

/// What the zone says about the bootstrap; kept in the folder for a start without the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// `<mesh>.<name>`.
    pub node_id: String,
    /// The workload.
    pub cluster: String,
    /// The zone.
    pub zone: String,
    /// `host:port`; empty: where the runner dials.
    pub ads_address: String,
    /// Empty: [`ZONE_SERVER_NAME`].
    pub ads_server_name: String,
    /// Envoy's `--drain-time-s`.
    pub drain_seconds: u32,
}

impl From<proto::Bootstrap> for Parameters {
    fn from(bootstrap: proto::Bootstrap) -> Self {
        let proto::Bootstrap { node_id, cluster, zone, ads_address, ads_server_name, drain_seconds } = bootstrap;
        Self { node_id, cluster, zone, ads_address, ads_server_name, drain_seconds }
    }
}

/// Where Envoy's admin interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A socket that only this user may open.
    Unix(PathBuf),
    /// A port.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Admin::Unix(path) => write!(f, "unix:{}", path.display()),
            Admin::Tcp(address) => address.fmt(f),
        }
    }
}

/// What this machine adds.
#[derive(Clone, Debug)]
pub struct Local {
    /// `host:port` that the runner dials.
    pub dialled: String,
    /// PEM file of the zone's CA.
    pub ca_file: PathBuf,
    /// Discovery file of the token's secret, see [`token_secret`].
    pub token_secret_file: PathBuf,
    /// Admin interface.
    pub admin: Admin,
    /// Range for outbounds.
    pub bind_outbounds: Option<IpNet>,
    /// Most connections at a time.
    pub max_connections: u64,
}

/// The bootstrap. Equal inputs give equal bytes: a restarted runner compares them.
pub fn bootstrap(parameters: &Parameters, local: &Local) -> Vec<u8> {
    let document = json!({
        "node": node(parameters, local),
        "admin": admin(&local.admin),
        "dynamic_resources": dynamic_resources(),
        "static_resources": { "clusters": [ads_cluster(parameters, local)] },
        "overload_manager": overload_manager(local.max_connections),
        "layered_runtime": { "layers": [{ "name": "admin", "admin_layer": {} }] },
    });
    let mut bytes = serde_json::to_vec_pretty(&document).expect("a JSON value is always JSON");
    bytes.push(b'\n');
    bytes
}

/// The file through which Envoy reads the token: it follows the file's replacement, so a token can change under a running Envoy.
pub fn token_secret(token_file: &Path) -> Vec<u8> {
    let document = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": TOKEN_SECRET,
        "generic_secret": { "secret": { "filename": token_file } },
    }]});
    serde_json::to_vec_pretty(&document).expect("a JSON value is always JSON")
}

/// What the zone learns from Envoy's first request. No versions: a newer runner must not make a new Envoy.
fn node(parameters: &Parameters, local: &Local) -> Value {
    let mut metadata = json!({});
    if let Some(range) = local.bind_outbounds {
        metadata["bindOutbounds"] = json!(range.to_string());
    }
    json!({
        "id": parameters.node_id,
        "cluster": parameters.cluster,
        "locality": { "zone": parameters.zone },
        "metadata": metadata,
    })
}

fn admin(admin: &Admin) -> Value {
    let address = match admin {
        Admin::Unix(path) => json!({ "pipe": { "path": path, "mode": 0o600 } }),
        Admin::Tcp(address) => socket_address(&address.ip().to_string(), address.port()),
    };
    json!({ "address": address })
}

fn dynamic_resources() -> Value {
    // No limit for the first answer: without its zone Envoy waits instead of serving nothing.
    let from_ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    json!({
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": {
                "cluster_name": ADS_CLUSTER,
                "retry_policy": { "retry_back_off": { "base_interval": "0.25s", "max_interval": "5s" } },
            }}],
        },
        "lds_config": from_ads,
        "cds_config": from_ads,
    })
}

fn ads_cluster(parameters: &Parameters, local: &Local) -> Value {
    let address = if parameters.ads_address.is_empty() { &local.dialled } else { &parameters.ads_address };
    let (host, port) = split_address(address).unwrap_or((address, 5678));
    let kind = if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
    json!({
        "name": ADS_CLUSTER,
        "type": kind,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADS_CLUSTER,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(host, port) } }] }],
        },
        "upstream_connection_options": { "tcp_keepalive": { "keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5 } },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http_options(local) },
        "transport_socket": tls(parameters, local),
    })
}

/// HTTP/2 with keep-alive (a silent zone is noticed in 15 s), and the token on each stream.
fn http_options(local: &Local) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": { "connection_keepalive": { "interval": "10s", "timeout": "5s" } } },
        "http_filters": [
            { "name": "token", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                "overwrite": true,
                "credential": { "name": "generic", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                    "credential": { "name": TOKEN_SECRET, "sds_config": {
                        "resource_api_version": "V3",
                        "path_config_source": {
                            "path": local.token_secret_file,
                            "watched_directory": { "path": local.token_secret_file.parent().unwrap_or(Path::new("/")) },
                        },
                    }},
                }},
            }},
            { "name": "codec", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            }},
        ],
    })
}

fn tls(parameters: &Parameters, local: &Local) -> Value {
    let name = &parameters.ads_server_name;
    let name = if name.is_empty() { ZONE_SERVER_NAME } else { name };
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": name,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "validation_context": {
                "trusted_ca": { "filename": local.ca_file },
                "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": name } }],
            },
        },
    }})
}

fn overload_manager(max_connections: u64) -> Value {
    json!({ "resource_monitors": [{
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": max_connections,
        },
    }]})
}

fn socket_address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

/// Splits `host:port`; IPv6 addresses stand in brackets.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        Parameters {
            node_id: "default.gw-1".into(),
            cluster: "gw".into(),
            zone: "gcp".into(),
            ads_address: String::new(),
            ads_server_name: String::new(),
            drain_seconds: 10,
        }
    }

    fn local() -> Local {
        Local {
            dialled: "127.0.0.1:5678".into(),
            ca_file: "/d/zone-ca.pem".into(),
            token_secret_file: "/d/token.yaml".into(),
            admin: Admin::Unix("/d/admin.sock".into()),
            bind_outbounds: Some("127.21.0.0/16".parse().unwrap()),
            max_connections: 1000,
        }
    }

    fn value(parameters: &Parameters, local: &Local) -> Value {
        serde_json::from_slice(&bootstrap(parameters, local)).unwrap()
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        assert_eq!(bootstrap(&parameters(), &local()), bootstrap(&parameters(), &local()));
    }

    #[test]
    fn the_zone_is_where_the_runner_dials_unless_the_zone_says_otherwise() {
        let cluster = |parameters: &Parameters, dialled: &str| {
            let local = Local { dialled: dialled.into(), ..local() };
            let cluster = value(parameters, &local)["static_resources"]["clusters"][0].clone();
            let address = cluster.pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address").unwrap();
            format!("{} {}:{}", cluster["type"].as_str().unwrap(), address["address"].as_str().unwrap(), address["port_value"])
        };
        assert_eq!(cluster(&parameters(), "127.0.0.1:1"), "STATIC 127.0.0.1:1");
        assert_eq!(cluster(&parameters(), "[::1]:2"), "STATIC ::1:2");
        assert_eq!(cluster(&parameters(), "zone.example:3"), "STRICT_DNS zone.example:3");
        let elsewhere = Parameters { ads_address: "10.0.0.1:4".into(), ..parameters() };
        assert_eq!(cluster(&elsewhere, "127.0.0.1:1"), "STATIC 10.0.0.1:4");
    }

    #[test]
    fn no_secret_is_in_it() {
        let text = String::from_utf8(bootstrap(&parameters(), &local())).unwrap();
        assert!(!text.contains("initial_metadata"), "{text}");
        assert!(text.contains("127.21.0.0/16"));
    }
}
