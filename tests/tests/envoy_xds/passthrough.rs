//! What real Envoys let go that is not the mesh's.
//!
//! Nothing is redirected here. The listener takes what comes to its own port at two addresses, and where it would go on to
//! the original destination it goes to an application that echoes or answers.

use std::{net::SocketAddr, sync::Arc};

use atoll_envoy::{Encoded, ResourceSet, ResourceType};
use atoll_envoy_api::envoy::config::{
    cluster::v3::{Cluster, cluster},
    core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
    listener::v3::{AdditionalAddress, Listener},
};
use prost::Message;

use crate::{
    envoy::Envoy,
    pki,
    plane::Plane,
    resources,
    traffic::{self, Connection, free, plain_works, tls_works},
};

/// The resources of a sidecar at `port` with a policy; what it lets go arrives at `app`.
fn sidecar(port: u16, policy: &str, app: SocketAddr) -> ResourceSet {
    let policies = if policy.is_empty() {
        "[]".to_owned()
    } else {
        format!("[{{type: MeshPassthrough, name: out, spec: {{default: {policy}}}}}]")
    };
    let mut set = resources(
        &format!(
            "zone: gcp
proxy:
  name: web
  networking: {{address: 127.0.0.1, transparentProxying: {{redirectPortOutbound: {port}}}}}
policies: {policies}
"
        ),
        None,
    );
    // Not at every address: where the port's claim is kept, somebody has it.
    let listener = set.listeners.get("self_transparentproxy_passthrough_outbound_ipv4").expect("a listener");
    let mut message = Listener::decode(listener.body.clone()).expect("a listener");
    message.address = Some(address(to(2, port)));
    message.additional_addresses = vec![AdditionalAddress { address: Some(address(to(9, port))), ..Default::default() }];
    set.put(Encoded::new(ResourceType::Listener, "self_transparentproxy_passthrough_outbound_ipv4", &message));
    let clusters: Vec<_> = set.clusters.values().cloned().collect();
    for encoded in clusters {
        let mut cluster = Cluster::decode(encoded.body.clone()).expect("a cluster");
        cluster.cluster_discovery_type = Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static as i32));
        cluster.lb_policy = cluster::LbPolicy::RoundRobin as i32;
        cluster.load_assignment = Some(at(&encoded.name, app));
        set.put(Encoded::new(ResourceType::Cluster, &encoded.name, &cluster));
    }
    set
}

fn address(at: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

fn at(cluster: &str, app: SocketAddr) -> ClusterLoadAssignment {
    let host = HostIdentifier::Endpoint(Endpoint { address: Some(address(app)), ..Default::default() });
    let endpoint = LbEndpoint { host_identifier: Some(host), ..Default::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![locality], ..Default::default() }
}

fn to(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], port))
}

/// Closing is a policy: without one everything goes, and what a policy does not list is closed.
#[tokio::test(flavor = "multi_thread")]
async fn only_listed_destinations_are_reached() {
    let (app, port) = (traffic::echo().await, free().port());
    let plane = Plane::start().await;
    let _envoy = Envoy::start("web", &plane).await;
    let apply = async |policy: &str| {
        let status = plane.apply("web", sidecar(port, policy, app)).await;
        assert!(status.refused.is_empty(), "{policy}\n{:#?}", status.refused);
    };
    for (policy, one, other) in [
        ("", true, true),
        ("{passthroughMode: None}", false, false),
        ("{}", false, false),
        ("{passthroughMode: All}", true, true),
        ("{appendMatch: [{type: IP, value: 127.0.0.2}]}", true, false),
        (&format!("{{appendMatch: [{{type: CIDR, value: 127.0.0.0/30, port: {port}}}]}}"), true, false),
        ("{appendMatch: [{type: IP, value: 127.0.0.2, port: 1}]}", false, false),
        // What is listed twice, narrow and wide, and with something narrow at the same port that does not hold.
        ("{appendMatch: [{type: CIDR, value: 127.0.0.0/8}, {type: IP, value: 127.0.0.9, port: 1}]}", true, true),
    ] {
        apply(policy).await;
        assert_eq!((plain_works(to(2, port)).await, plain_works(to(9, port)).await), (one, other), "{policy}");
    }
}

/// What a list keeps goes on through a change of it; what it loses ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_cuts_only_what_it_takes_away() {
    let (app, port) = (traffic::echo().await, free().port());
    let plane = Plane::start().await;
    let _envoy = Envoy::start("web", &plane).await;
    let both = "{appendMatch: [{type: IP, value: 127.0.0.2}, {type: IP, value: 127.0.0.9}]}";
    plane.apply("web", sidecar(port, both, app)).await;
    let (mut kept, mut lost) = (Connection::plain(to(2, port)).await.unwrap(), Connection::plain(to(9, port)).await.unwrap());
    assert!(kept.works().await && lost.works().await);
    let one = "{appendMatch: [{type: IP, value: 127.0.0.2}, {type: IP, value: 127.0.0.3}]}";
    plane.apply("web", sidecar(port, one, app)).await;
    let grace = std::time::Duration::from_secs(crate::envoy::DRAIN + 2);
    let (one, other) = tokio::join!(kept.ends_within(grace), lost.ends_within(grace));
    assert!(!one && other && kept.works().await);
}

/// Domains are told apart by the server name of TLS.
#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_by_server_name() {
    let ca = pki::ca("default.gcp.mesh.local");
    let leaf = pki::leaf(&ca, "/workload/outside");
    let (app, port) = (traffic::tls_echo(pki::server(&leaf)).await, free().port());
    let client = pki::client(&leaf);
    let plane = Plane::start().await;
    let _envoy = Envoy::start("web", &plane).await;
    let matches = "{appendMatch: [{type: Domain, value: a.example.com, protocol: tls}, {type: Domain, value: '*.b.example.com', protocol: tls}]}";
    let status = plane.apply("web", sidecar(port, matches, app)).await;
    assert!(status.refused.is_empty(), "{:#?}", status.refused);
    for (name, reached) in [
        ("a.example.com", true),
        ("x.b.example.com", true),
        ("b.example.com", false),
        ("x.a.example.com", false),
        ("a.org", false),
    ] {
        assert_eq!(tls_works(to(2, port), &Arc::clone(&client), name).await, reached, "{name}");
    }
    assert!(!plain_works(to(2, port)).await);
}

/// Hosts of HTTP are told apart by request; a host that is not listed is told so.
#[tokio::test(flavor = "multi_thread")]
async fn http_goes_by_host() {
    let (app, port) = (traffic::http().await, free().port());
    let plane = Plane::start().await;
    let _envoy = Envoy::start("web", &plane).await;
    let listed = |host: &str| format!("{{appendMatch: [{{type: Domain, value: {host}, port: {port}, protocol: http}}]}}");
    // The client asks for the host `a`.
    for (host, status) in [("a", 200), ("b", 503), ("'*'", 200)] {
        let refused = plane.apply("web", sidecar(port, &listed(host), app)).await.refused;
        assert!(refused.is_empty(), "{refused:#?}");
        assert_eq!(Connection::plain(to(2, port)).await.unwrap().get().await, Some(status), "{host}");
    }
}
