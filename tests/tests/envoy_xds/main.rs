//! What the zone's plane gives to real Envoys, and what these do with it.
//!
//! E1 to E14 are facts about Envoy that the plane is built on (see the documentation of `atoll-envoy` and of the discovery
//! session); these tests hold the plane to them.

mod access_log;
mod balancing;
#[path = "../../../common/envoy/tests/support/mod.rs"]
mod case;
mod envoy;
mod forger;
mod forgeries;
mod multi_zone;
mod passthrough;
mod pki;
mod plane;
mod rotation;
mod traffic;
mod trust;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use atoll_envoy::{Cache, Encoded, ResourceSet, ResourceType, secret};
use atoll_envoy_api::{envoy::config::listener::v3::Listener, json};
use atoll_mesh::trust::TrustBundles;
use case::Case;
use envoy::{DRAIN, Envoy};
use pki::Leaf;
use plane::Plane;
use prost::Message;
use traffic::{Connection, free, plain_works, tls_works};

const GCP: &str = "default.gcp.mesh.local";
const AZURE: &str = "default.azure.mesh.local";
/// A server name that rustls accepts too: it takes none that ends in a number.
const SNI: &str = "sni.msvc.default.gcp.api-gateway.main";

/// The resources of a case, with the secrets of a proxy that has an identity.
fn resources(yaml: &str, secrets: Option<(&Leaf, &TrustBundles)>) -> ResourceSet {
    let mut set = Case::parse(yaml).world().generate(&mut Cache::default());
    if let Some((leaf, bundles)) = secrets {
        // Another certificate is another version.
        let version = atoll_trust::Pin::of_spki(leaf.chain.as_bytes()).to_string();
        set.put(secret::identity("kri_mid_default___identity_", &leaf.chain, &leaf.key, &version));
        set.put(secret::trust_bundle(bundles));
    }
    set
}

/// The gateway's sidecar in gcp.
struct Gateway {
    listen: SocketAddr,
    app: SocketAddr,
    protocol: &'static str,
}

impl Gateway {
    async fn new() -> Self {
        Self { listen: free(), app: traffic::echo().await, protocol: "tcp" }
    }

    fn yaml(&self, policies: &str, epoch: u64) -> String {
        let Self { listen, app, protocol } = self;
        let policies = if policies.is_empty() { "  []" } else { policies };
        format!(
            "zone: gcp
proxy:
  name: gateway
  labels: {{kuma.io/workload: api-gateway}}
  identity: spiffe://{GCP}/workload/api-gateway
  networking:
    address: {ip}
    inbound: [{{port: {port}, name: main, serviceAddress: {app_ip}, servicePort: {app_port}, protocol: {protocol}}}]
chains: {{main: {epoch}}}
policies:
{policies}
",
            ip = listen.ip(),
            port = listen.port(),
            app_ip = app.ip(),
            app_port = app.port(),
        )
    }
}

fn allow(ids: &[&str]) -> String {
    let matches: Vec<_> = ids.iter().map(|id| format!("{{spiffeID: {{type: Exact, value: {id}}}}}")).collect();
    format!(
        "  - {{type: MeshTrafficPermission, name: allow, spec: {{rules: [{{default: {{allow: [{}]}}}}]}}}}\n",
        matches.join(", ")
    )
}

fn permissive() -> &'static str {
    "  - {type: MeshTLS, name: tls, spec: {rules: [{default: {mode: Permissive}}]}}\n"
}

/// E7: filters that come by extension discovery change without cutting anything; a renamed chain ends its own connections.
#[tokio::test(flavor = "multi_thread")]
async fn changes_cut_nothing_and_withdrawals_cut_what_they_withdraw() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let (a, b) = (format!("spiffe://{AZURE}/workload/a"), format!("spiffe://{AZURE}/workload/b"));
    let client = pki::client(&pki::leaf(&azure, "/workload/a"));
    let gateway = Gateway::new().await;
    let set = |policies: &str, epoch: u64| resources(&gateway.yaml(policies, epoch), Some((&own, &bundles)));

    let plane = Plane::start().await;
    let _envoy = Envoy::start("gateway", &plane).await;
    plane.apply("gateway", set(&(allow(&[&a]) + permissive()), 0)).await;
    let mut open = Connection::tls(gateway.listen, Arc::clone(&client), SNI).await.unwrap();
    let mut plain = Connection::plain(gateway.listen).await.unwrap();
    assert!(open.works().await && plain.works().await);

    // Another caller is allowed and a timeout changes: nothing that is open notices, now or after the drain time.
    let timeout = "  - {type: MeshTimeout, name: in, spec: {rules: [{default: {idleTimeout: 1h}}]}}\n";
    plane.apply("gateway", set(&(allow(&[&a, &b]) + permissive() + timeout), 0)).await;
    let grace = Duration::from_secs(DRAIN + 1);
    let (one, other) = tokio::join!(open.ends_within(grace), plain.ends_within(grace));
    assert!(!one && !other, "a change of filters cut a connection");
    assert!(open.works().await && plain.works().await);

    // The permission is withdrawn: new connections are refused at once, the open one ends within the drain time.
    plane.apply("gateway", set(&(allow(&[&b]) + permissive() + timeout), 1)).await;
    assert!(!tls_works(gateway.listen, &client, SNI).await);
    assert!(open.ends_within(Duration::from_secs(DRAIN + 3)).await, "a withdrawn permission left a connection open");
    assert!(plain.works().await, "connections of other chains live on");
}

/// HTTP is judged by request: a withdrawn permission needs no connection to end.
#[tokio::test(flavor = "multi_thread")]
async fn http_is_judged_by_request() {
    let gcp = pki::ca(GCP);
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem())]);
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let me = allow(&[&format!("spiffe://{GCP}/workload/api-gateway")]);
    let gateway = Gateway { app: traffic::http().await, protocol: "http", ..Gateway::new().await };
    let set = |policies: &str| resources(&gateway.yaml(policies, 0), Some((&own, &bundles)));

    let plane = Plane::start().await;
    let _envoy = Envoy::start("gateway", &plane).await;
    plane.apply("gateway", set(&(me + permissive()))).await;
    let mut open = Connection::tls(gateway.listen, pki::client(&own), SNI).await.unwrap();
    let mut plain = Connection::plain(gateway.listen).await.unwrap();
    assert_eq!((open.get().await, plain.get().await), (Some(200), Some(200)));
    plane.apply("gateway", set(permissive())).await;
    assert_eq!((open.get().await, plain.get().await), (Some(403), Some(200)));
}

/// Whatever is generated, Envoy takes it.
#[tokio::test(flavor = "multi_thread")]
async fn every_golden_case_is_accepted() {
    let gcp = pki::ca(GCP);
    let (bundles, own) = (pki::bundles(&[(GCP, gcp.cert_pem())]), pki::leaf(&gcp, "/workload/x"));
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../common/envoy/tests/golden");
    let plane = Plane::start().await;
    let _envoy = Envoy::start("any", &plane).await;
    let mut cases = 0;
    for case in std::fs::read_dir(golden).unwrap() {
        let input = std::fs::read_to_string(case.unwrap().path().join("in.yaml")).unwrap();
        let mut set = resources(&input, Some((&own, &bundles)));
        // The cases' addresses are not this machine's.
        let listeners: Vec<_> = set.listeners.values().cloned().collect();
        for listener in listeners {
            let mut message = Listener::decode(listener.body.clone()).unwrap();
            message.bind_to_port = Some(false);
            set.put(Encoded::new(ResourceType::Listener, &listener.name, &message));
        }
        let status = plane.apply("any", set).await;
        assert!(status.refused.is_empty(), "{input}\n{:#?}", status.refused);
        cases += 1;
    }
    assert!(cases > 10);
}

/// MeshTLS Strict takes the mesh's TLS alone, and going there leaves its connections alone.
#[tokio::test(flavor = "multi_thread")]
async fn strict_refuses_what_is_not_the_meshs_tls() {
    let gcp = pki::ca(GCP);
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem())]);
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let client = pki::client(&own);
    let me = allow(&[&format!("spiffe://{GCP}/workload/api-gateway")]);
    let gateway = Gateway::new().await;
    let set = |policies: &str| resources(&gateway.yaml(policies, 0), Some((&own, &bundles)));

    let plane = Plane::start().await;
    let _envoy = Envoy::start("gateway", &plane).await;
    plane.apply("gateway", set(&(me.clone() + permissive()))).await;
    let mut open = Connection::tls(gateway.listen, Arc::clone(&client), SNI).await.unwrap();
    assert!(open.works().await && plain_works(gateway.listen).await);

    plane.apply("gateway", set(&me)).await;
    assert!(!plain_works(gateway.listen).await);
    assert!(!open.ends_within(Duration::from_secs(DRAIN + 1)).await && open.works().await);
    assert!(tls_works(gateway.listen, &client, SNI).await);
}

/// A sidecar in azure that calls a port of the gateway in gcp through `endpoints`.
fn web(port: &str, endpoints: &[SocketAddr], listen: SocketAddr) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    format!(
        "zone: azure
proxy:
  name: web
  identity: spiffe://{AZURE}/workload/web
  networking: {{address: 127.0.0.1, gateway: {{}}}}
services:
  - name: api-gateway
    zone: gcp
    vip: 241.0.0.2
    identities: [spiffe://{GCP}/workload/api-gateway]
    ports: [{{{port}, endpoints: [{}]}}]
bound: {{\"241.0.0.2:8443\": \"{listen}\"}}
",
        endpoints.join(", ")
    )
}

/// The ingress of gcp, which leads two server names to the gateway.
fn ingress(at: SocketAddr, gateway: SocketAddr) -> String {
    format!(
        "zone: gcp
proxy:
  name: ingress
  networking: {{address: 127.0.0.1, listeners: [{{type: ZoneIngress, address: {}, port: {}}}]}}
services:
  - {{name: api-gateway, zone: gcp, tlsReady: true, ports: [{{port: 8443, endpoints: [\"{gateway}\"]}}, {{port: 9443, name: main, endpoints: [\"{gateway}\"]}}]}}
",
        at.ip(),
        at.port(),
    )
}

/// The path: application, sidecar in azure, ingress in gcp, sidecar in gcp, application.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_crosses_zones_by_server_name() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let (server, caller) = (pki::leaf(&gcp, "/workload/api-gateway"), pki::leaf(&azure, "/workload/web"));
    let (gateway, at, listen) = (Gateway::new().await, free(), free());
    let allowed = allow(&[&format!("spiffe://{AZURE}/workload/web")]);
    let plane = Plane::start().await;
    let (_a, _b, _c) =
        tokio::join!(Envoy::start("gateway", &plane), Envoy::start("ingress", &plane), Envoy::start("web", &plane));
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&server, &bundles)))).await;
    plane.apply("ingress", resources(&ingress(at, gateway.listen), None)).await;
    plane.apply("web", resources(&web("port: 8443", &[at], listen), Some((&caller, &bundles)))).await;
    assert!(plain_works(listen).await);

    // Who asks for nothing, or for somebody else, is closed by the ingress.
    assert!(!plain_works(at).await);
    let direct = pki::client(&caller);
    assert!(tls_works(at, &direct, SNI).await);
    assert!(!tls_works(at, &direct, "sni.msvc.default.gcp.other.main").await);

    plane.apply("gateway", resources(&gateway.yaml("", 1), Some((&server, &bundles)))).await;
    assert!(!plain_works(listen).await, "nobody is allowed any more");
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 1), Some((&server, &bundles)))).await;
    assert!(plain_works(listen).await);

    // Nobody is trusted any more: an empty bundle, since Envoy ignores that a secret is gone.
    let nobody = TrustBundles::default();
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 2), Some((&server, &nobody)))).await;
    assert!(!plain_works(listen).await);
}

/// What a cloud may drop without a word is kept alive: no socket of the path from zone to zone is without a timer of the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn every_socket_between_zones_is_kept_alive() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let (server, caller) = (pki::leaf(&gcp, "/workload/api-gateway"), pki::leaf(&azure, "/workload/web"));
    let (gateway, at, listen) = (Gateway::new().await, free(), free());
    let allowed = allow(&[&format!("spiffe://{AZURE}/workload/web")]);
    let plane = Plane::start().await;
    let (_a, _b, _c) =
        tokio::join!(Envoy::start("gateway", &plane), Envoy::start("ingress", &plane), Envoy::start("web", &plane));
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&server, &bundles)))).await;
    plane.apply("ingress", resources(&ingress(at, gateway.listen), None)).await;
    plane.apply("web", resources(&web("port: 8443", &[at], listen), Some((&caller, &bundles)))).await;
    let mut open = Connection::plain(listen).await.unwrap();
    assert!(open.works().await);

    // Bytes in flight have another timer for a moment.
    let start = std::time::Instant::now();
    loop {
        let timers = [traffic::timers(at), traffic::timers(gateway.listen)].concat();
        let kept = timers.iter().filter(|timer| **timer == traffic::KEEP_ALIVE).count();
        if (timers.len(), kept) == (4, 4) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "timers of the four ends: {timers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sidecar without an identity that calls a service of its own zone.
fn local(endpoints: &[SocketAddr], listen: SocketAddr, connect: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|at| format!("\"{at}\"")).collect();
    format!(
        "zone: gcp
proxy:
  name: web
  networking: {{address: 127.0.0.1, gateway: {{}}}}
services:
  - {{name: api, zone: gcp, vip: 241.0.0.1, ports: [{{port: 80, endpoints: [{}]}}]}}
bound: {{\"241.0.0.1:80\": \"{listen}\"}}
policies:
  - {{type: MeshTimeout, name: out, spec: {{to: [{{targetRef: {{kind: Mesh}}, default: {{connectionTimeout: {connect}}}}}]}}}}
",
        endpoints.join(", ")
    )
}

const API: &str = "kri_msvc_default_gcp__api_80";

/// E9: a changed cluster does not wait for endpoints that did not change.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cluster_is_usable_at_once() {
    let (app, listen) = (traffic::echo().await, free());
    let plane = Plane::start().await;
    let envoy = Envoy::start("web", &plane).await;
    plane.apply("web", resources(&local(&[app], listen, "1s"), None)).await;
    assert!(plain_works(listen).await);
    for connect in ["2s", "3s", "4s"] {
        let start = std::time::Instant::now();
        plane.apply("web", resources(&local(&[app], listen, connect), None)).await;
        assert!(start.elapsed() < Duration::from_secs(3), "the cluster warmed for {:?}", start.elapsed());
        assert!(plain_works(listen).await);
        assert_eq!(envoy.hosts(API).await, Some(vec![app.to_string()]));
    }
}

/// E12: endpoints that are gone are gone.
#[tokio::test(flavor = "multi_thread")]
async fn removed_endpoints_are_gone() {
    let (app, listen) = (traffic::echo().await, free());
    let plane = Plane::start().await;
    let envoy = Envoy::start("web", &plane).await;
    let full = resources(&local(&[app], listen, "1s"), None);
    plane.apply("web", full.clone()).await;
    plane.apply("web", resources(&local(&[], listen, "1s"), None)).await;
    assert_eq!(envoy.hosts(API).await, Some(Vec::new()));
    plane.apply("web", full.clone()).await;
    assert_eq!(envoy.hosts(API).await, Some(vec![app.to_string()]));
    // Not even in the set: what Envoy would acknowledge and ignore.
    let mut without = full;
    without.remove(ResourceType::Endpoints, API);
    plane.apply("web", without).await;
    assert_eq!(envoy.hosts(API).await, Some(Vec::new()));
}

/// Listeners move, begin to be bound, and take each other's places, and Envoy refuses nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_move_and_replace_each_other() {
    let (app, first, second) = (traffic::echo().await, free(), free());
    let plane = Plane::start().await;
    let envoy = Envoy::start("web", &plane).await;
    let yaml = local(&[app], first, "1s");
    let unbound = yaml.lines().filter(|line| !line.starts_with("bound")).collect::<Vec<_>>().join("\n");
    let other = yaml.replace("name: api,", "name: renamed,");
    let moved = local(&[app], second, "1s");
    for (what, yaml, at) in [
        ("redirected", &unbound, None),
        ("bound", &yaml, Some(first)),
        ("moved", &moved, Some(second)),
        ("moved back", &yaml, Some(first)),
        ("another service at the same place", &other, Some(first)),
        ("the first again", &yaml, Some(first)),
    ] {
        let status = plane.apply("web", resources(yaml, None)).await;
        assert!(status.refused.is_empty() && status.nacks == 0, "{what}: {status:#?}");
        if let Some(at) = at {
            assert!(plain_works(at).await, "{what}");
        }
    }
    assert_eq!(envoy.listeners().await, [API]);
}

/// A listener that closes what connects.
fn listener(name: &str, at: SocketAddr, stat_prefix: &str) -> Encoded {
    let value = serde_json::json!({
        "name": name,
        "address": {"socket_address": {"address": at.ip(), "port_value": at.port()}},
        "stat_prefix": stat_prefix,
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "s", "cluster": API
        }}]}]
    });
    Encoded::new(ResourceType::Listener, name, &json::from_json::<Listener>(value).expect("a listener"))
}

/// One that Envoy refuses: it has no filter chain.
fn bad(name: &str, at: SocketAddr) -> Encoded {
    let value = serde_json::json!({
        "name": name,
        "address": {"socket_address": {"address": at.ip(), "port_value": at.port()}}
    });
    Encoded::new(ResourceType::Listener, name, &json::from_json::<Listener>(value).expect("a listener"))
}

/// E4, E11: a refusal costs the refused resource alone, and what Envoy says after a reconnect is not believed.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_refusal_and_a_reconnect_the_set_is_right() {
    let (app, listen) = (traffic::echo().await, free());
    let at = [free(), free(), free()];
    let base = resources(&local(&[app], listen, "1s"), None);
    let with = |listeners: &[Encoded]| {
        let mut set = base.clone();
        listeners.iter().cloned().for_each(|listener| set.put(listener));
        set
    };
    let plane = Plane::start().await;
    let envoy = Envoy::start("web", &plane).await;
    plane.apply("web", with(&[listener("l1", at[0], "first"), listener("l2", at[1], "first")])).await;
    assert_eq!(envoy.listeners().await, [API, "l1", "l2"]);

    // A bad change of l1, the removal of l2 and a new l3.
    let status = plane.apply("web", with(&[bad("l1", at[0]), listener("l3", at[2], "first")])).await;
    assert_eq!(envoy.listeners().await, [API, "l1", "l3"]);
    assert!(envoy.listener("l1").await.contains("first"), "l1 keeps what it had");
    let [refusal] = &status.refused[..] else { panic!("one refusal: {:?}", status.refused) };
    assert_eq!(&*refusal.name, "l1");
    assert!(refusal.reason.contains("no filter chains specified"), "{}", refusal.reason);

    // The stream breaks; meanwhile l1 is good again and l3 is not wanted any more.
    let revision = plane.set("web", with(&[listener("l1", at[0], "second")]));
    plane.cut("web");
    plane.applied("web", revision).await;
    assert_eq!(envoy.listeners().await, [API, "l1"]);
    assert!(envoy.listener("l1").await.contains("second"));
    assert!(plain_works(listen).await);
}

/// E11 at its worst: the stream breaks between a refusal and the acknowledgement of its repetition.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_right_after_a_refusal_leaves_nothing_wrong() {
    let (app, listen) = (traffic::echo().await, free());
    let base = resources(&local(&[app], listen, "1s"), None);
    let plane = Plane::start().await;
    let envoy = Envoy::start("web", &plane).await;
    plane.apply("web", base.clone()).await;
    for round in 0..10 {
        let mut set = base.clone();
        set.put(bad("l1", free()));
        set.put(listener("l2", free(), "x"));
        let revision = plane.set("web", set);
        plane.status("web", |status| status.nacks > 0 || status.applied == Some(revision)).await;
        plane.cut("web");
        plane.apply("web", base.clone()).await;
        assert_eq!(envoy.listeners().await, [API], "round {round}");
    }
}

/// A proxy without a token gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_authenticated() {
    use atoll_envoy_api::envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest};
    use atoll_zone_cp::xds::service::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
    let plane = Plane::start().await;
    let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{}", plane.address)).await.unwrap();
    let first = DeltaDiscoveryRequest { node: Some(Node { id: "web".to_owned(), ..Default::default() }), ..Default::default() };
    let mut stream = client.delta_aggregated_resources(tokio_stream::iter([first])).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unauthenticated);
}
