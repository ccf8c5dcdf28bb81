//! The static configuration of a gateway: an ordinary Envoy as a reverse proxy, which knows nothing of the mesh.
//!
//! It serves HTTPS with one wildcard certificate, routes by Host and adds `Via`. What it verifies it verifies fully: nothing
//! here switches a check off.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{certificates::Pair, layout::GATEWAY_PORT};

const TLS_OF_SERVER: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const TLS_OF_CLIENT: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const HTTP_OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const ACCESS_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const TLS_INSPECTOR: &str = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const CARES: &str = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
const DNS_CLUSTER: &str = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster";

/// One gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// What it writes into `Via`.
    pub name: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its admin interface.
    pub admin: SocketAddr,
    /// The mesh DNS of its sidecar.
    pub dns: SocketAddr,
    /// Its certificate.
    pub certificate: Pair,
    /// CA of the gateways that it calls.
    pub ca: std::path::PathBuf,
    /// Where its access log goes.
    pub access_log: std::path::PathBuf,
    /// What it serves.
    pub routes: Vec<Route>,
}

/// What one set of names leads to.
#[derive(Clone, Debug)]
pub struct Route {
    /// The cluster's name.
    pub name: String,
    /// The host names.
    pub hosts: Vec<String>,
    /// Where requests go.
    pub upstream: Upstream,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether over TLS, verified against the lab's CA and the host name.
    pub tls: bool,
}

impl Upstream {
    /// Another zone's gateway, by its mesh hostname.
    pub fn gateway_of(zone: &str) -> Self {
        Self { host: mesh_name("api-gateway", zone), port: GATEWAY_PORT, tls: true }
    }

    /// A plain HTTP server.
    pub fn plain(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), tls: false }
    }

    /// Reads `http://host[:port]` or `https://host[:port]`.
    pub fn parse(url: &str) -> Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("{url:?} must begin with http:// or https://"),
        };
        if uri.path_and_query().is_some_and(|path| path != "/") {
            bail!("{url:?} must not have a path: requests keep theirs");
        }
        let host = uri.host().with_context(|| format!("{url:?} names no host"))?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, tls })
    }
}

/// The mesh hostname of a workload, as `deploy/lab/10-hostnames.yaml` makes it.
pub fn mesh_name(workload: &str, zone: &str) -> String {
    format!("{workload}.{zone}.mesh.acme.corp")
}

impl Gateway {
    /// Envoy's bootstrap.
    pub fn bootstrap(&self) -> Value {
        json!({
            "node": {"id": self.name, "cluster": self.name},
            "admin": {"address": socket(&self.admin.ip().to_string(), self.admin.port())},
            "static_resources": {
                "listeners": [self.listener()],
                "clusters": self.routes.iter().map(|route| self.cluster(route)).collect::<Vec<_>>(),
            },
        })
    }

    fn listener(&self) -> Value {
        json!({
            "name": "https",
            "address": socket(&self.listen.ip().to_string(), self.listen.port()),
            // Two gateways at one address would share its requests without an error.
            "enable_reuse_port": false,
            // So that the access log knows the server name that the client asked for.
            "listener_filters": [{"name": "tls_inspector", "typed_config": {"@type": TLS_INSPECTOR}}],
            "filter_chains": [{
                "transport_socket": {"name": "tls", "typed_config": {
                    "@type": TLS_OF_SERVER,
                    "common_tls_context": {
                        "alpn_protocols": ["h2", "http/1.1"],
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                        "tls_certificates": [{
                            "certificate_chain": {"filename": self.certificate.certificate},
                            "private_key": {"filename": self.certificate.key},
                        }],
                    },
                }},
                "filters": [{"name": "http", "typed_config": self.http()}],
            }],
        })
    }

    fn http(&self) -> Value {
        let hosts = self.routes.iter().map(|route| {
            json!({
                "name": route.name,
                "domains": route.hosts,
                // Streams of the lab outlive the default of 15 s.
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": route.name, "timeout": "0s"}}],
            })
        });
        json!({
            "@type": HTTP,
            "stat_prefix": "https",
            "via": self.name,
            "strip_any_host_port": true,
            "generate_request_id": true,
            "preserve_external_request_id": true,
            "always_set_request_id_in_response": true,
            "route_config": {"name": "routes", "virtual_hosts": hosts.collect::<Vec<_>>()},
            "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
            "access_log": [{"name": "file", "typed_config": {
                "@type": ACCESS_LOG, "path": self.access_log, "log_format": {"json_format": access_log_format()},
            }}],
        })
    }

    fn cluster(&self, route: &Route) -> Value {
        let upstream = &route.upstream;
        let is_address = upstream.host.parse::<std::net::IpAddr>().is_ok();
        let mut cluster = json!({
            "name": route.name,
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": route.name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket(&upstream.host, upstream.port)}},
            ]}]},
            // One request a connection: each request then shows in every hop's counters, and feels a changed permission at once.
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP_OPTIONS,
                "common_http_protocol_options": {"max_requests_per_connection": 1},
                "explicit_http_config": {"http_protocol_options": {}},
            }},
        });
        if !is_address {
            cluster["cluster_type"] = json!({"name": "envoy.clusters.dns", "typed_config": self.mesh_dns()});
        } else {
            cluster["type"] = json!("STATIC");
        }
        if upstream.tls {
            cluster["transport_socket"] = self.verified_tls(&upstream.host);
        }
        cluster
    }

    /// Names are asked of the sidecar's DNS, and asked again as soon as its answers may have changed.
    fn mesh_dns(&self) -> Value {
        let resolver = json!({"@type": CARES, "resolvers": [socket_udp(self.dns)], "dns_resolver_options": {"no_default_search_domain": true}});
        json!({
            "@type": DNS_CLUSTER,
            "dns_lookup_family": "V4_ONLY",
            "dns_refresh_rate": "1s",
            "respect_dns_ttl": true,
            "dns_failure_refresh_rate": {"base_interval": "0.2s", "max_interval": "0.5s"},
            "typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": resolver},
        })
    }

    fn verified_tls(&self, host: &str) -> Value {
        let name = json!({"san_type": "DNS", "matcher": {"exact": host}});
        json!({"name": "tls", "typed_config": {
            "@type": TLS_OF_CLIENT,
            "sni": host,
            // A resumed session would hide the server's certificate from the access log.
            "max_session_keys": 0,
            "common_tls_context": {
                "alpn_protocols": ["http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {"trusted_ca": {"filename": self.ca}, "match_typed_subject_alt_names": [name]},
            },
        }})
    }
}

/// What `atoll lab trace` reads.
fn access_log_format() -> Value {
    json!({
        "start": "%START_TIME%",
        "request_id": "%REQUEST_HEADER(X-REQUEST-ID)%",
        "method": "%REQUEST_HEADER(:METHOD)%",
        "path": "%REQUEST_HEADER(:PATH)%",
        "host": "%REQUEST_HEADER(:AUTHORITY)%",
        "via": "%REQUEST_HEADER(VIA)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "wire_sent": "%DOWNSTREAM_WIRE_BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "first_byte_ms": "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)%",
        "connect_ms": "%COMMON_DURATION(US_CX_BEG:US_CX_END:ms)%",
        "handshake_ms": "%COMMON_DURATION(US_CX_END:US_HS_END:ms)%",
        "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
        "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
        "sni": "%REQUESTED_SERVER_NAME%",
        "tls_version": "%DOWNSTREAM_TLS_VERSION%",
        "own_names": "%DOWNSTREAM_LOCAL_DNS_SAN%",
        "upstream": "%UPSTREAM_REMOTE_ADDRESS%",
        "upstream_local": "%UPSTREAM_LOCAL_ADDRESS%",
        "upstream_cluster": "%UPSTREAM_CLUSTER%",
        "upstream_tls": "%UPSTREAM_TLS_VERSION%",
        "upstream_names": "%UPSTREAM_PEER_DNS_SAN%",
        "upstream_subject": "%UPSTREAM_PEER_SUBJECT%",
        "upstream_issuer": "%UPSTREAM_PEER_ISSUER%",
        "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    })
}

fn socket(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn socket_udp(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port(), "protocol": "UDP"}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: Option<(&str, u16, bool)>) {
        let got = Upstream::parse(url).ok();
        let expected = expected.map(|(host, port, tls)| Upstream { host: host.to_owned(), port, tls });
        assert_eq!(got, expected, "{url}");
    }

    #[test]
    fn upstreams() {
        check("http://127.0.0.1:3000", Some(("127.0.0.1", 3000, false)));
        check("http://127.0.0.1:3000/", Some(("127.0.0.1", 3000, false)));
        check("https://api.gcp.mesh.acme.corp:8443", Some(("api.gcp.mesh.acme.corp", 8443, true)));
        check("https://localhost", Some(("localhost", 443, true)));
        check("http://[::1]:80", Some(("::1", 80, false)));
        check("127.0.0.1:3000", None);
        check("http://localhost:3000/path", None);
        check("ftp://localhost", None);
    }

    #[test]
    fn a_real_envoy_takes_the_configuration() {
        let project = crate::lab::layout::project().unwrap();
        let envoy = crate::lab::admin::program(&project).expect("this test needs Envoy: run `make envoy`");
        let folder = tempfile::tempdir().unwrap();
        let ca = crate::lab::certificates::ensure_ca(&folder.path().join("ca")).unwrap();
        let names = crate::lab::certificates::gateway_names("azure");
        let gateway = Gateway {
            name: "azure-gateway".into(),
            listen: "127.0.0.1:8443".parse().unwrap(),
            admin: "127.0.0.1:9901".parse().unwrap(),
            dns: "127.0.0.1:15053".parse().unwrap(),
            certificate: crate::lab::certificates::issue(&ca, &names, folder.path()).unwrap(),
            ca: ca.certificate,
            access_log: folder.path().join("access.log"),
            routes: vec![
                Route { name: "catalog".into(), hosts: vec!["catalog.acme.corp".into()], upstream: Upstream::gateway_of("gcp") },
                Route {
                    name: "orders".into(),
                    hosts: vec!["orders.acme.corp".into()],
                    upstream: Upstream::parse("http://127.0.0.1:8080").unwrap(),
                },
            ],
        };
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, gateway.bootstrap().to_string()).unwrap();
        let output = std::process::Command::new(envoy)
            .args(["--mode", "validate", "--disable-hot-restart", "--config-path"])
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("eprecated"), "{said}");
    }
}
