//! Which endpoints real Envoys choose.

use std::{collections::BTreeMap, net::SocketAddr};

use atoll_mesh::trust::TrustBundles;

use crate::{
    GCP,
    envoy::Envoy,
    pki::{self, Leaf},
    plane::Plane,
    resources,
    traffic::{self, free},
};

const HERE: [u8; 4] = [127, 0, 0, 1];

/// Applications that say their letter, behind one service of several zones, and a sidecar of gcp that calls it.
struct Service {
    endpoints: Vec<(char, SocketAddr, &'static str, &'static str)>,
    listen: SocketAddr,
    own: Leaf,
    bundles: TrustBundles,
    plane: Plane,
    _envoy: Envoy,
}

impl Service {
    /// Letter, zone and node of each endpoint; the caller is on node n1.
    async fn start(endpoints: &[(char, &'static str, &'static str)]) -> Self {
        let plane = Plane::start().await;
        let envoy = Envoy::start("web", &plane).await;
        let ca = pki::ca(GCP);
        let server = pki::server(&pki::leaf(&ca, "/workload/api"));
        let mut apps = Vec::new();
        for (letter, zone, node) in endpoints {
            apps.push((*letter, traffic::saying(*letter, server.clone()).await, *zone, *node));
        }
        let (own, bundles) = (pki::leaf(&ca, "/workload/web"), pki::bundles(&[(GCP, ca.cert_pem())]));
        Self { endpoints: apps, listen: free(), own, bundles, plane, _envoy: envoy }
    }

    /// Gives the sidecar a strategy and all endpoints but `gone`.
    async fn apply(&self, strategy: &str, gone: &str) {
        let there = self.endpoints.iter().filter(|(letter, ..)| !gone.contains(*letter));
        let endpoints: Vec<_> =
            there.map(|(_, at, zone, node)| format!("{{at: \"{at}\", zone: {zone}, labels: {{node: {node}}}}}")).collect();
        let yaml = format!(
            "zone: gcp
proxy:
  name: web
  labels: {{node: n1}}
  identity: spiffe://{GCP}/workload/web
  networking: {{address: 127.0.0.1, gateway: {{}}}}
services:
  - {{name: api, vip: 243.0.0.1, identities: [spiffe://{GCP}/workload/api], ports: [{{port: 80, name: main, others: [{}]}}]}}
bound: {{\"243.0.0.1:80\": \"{}\"}}
policies:
  - {{type: MeshLoadBalancingStrategy, name: lb, spec: {{to: [{{targetRef: {{kind: Mesh}}, default: {strategy}}}]}}}}
",
            endpoints.join(", "),
            self.listen
        );
        let status = self.plane.apply("web", resources(&yaml, Some((&self.own, &self.bundles)))).await;
        assert!(status.refused.is_empty(), "{:#?}", status.refused);
    }

    /// Who answered how often.
    async fn answers(&self, times: usize) -> BTreeMap<char, usize> {
        let mut answers = BTreeMap::new();
        for _ in 0..times {
            if let Some(letter) = traffic::heard(HERE, self.listen).await {
                *answers.entry(letter).or_default() += 1;
            }
        }
        answers
    }

    async fn who(&self) -> String {
        self.answers(30).await.into_keys().collect()
    }
}

/// The own zone comes first; who comes next is the strategy's to say.
#[tokio::test(flavor = "multi_thread")]
async fn zones_take_over_as_the_strategy_says() {
    let service = Service::start(&[('a', "gcp", "x"), ('b', "azure", "x"), ('c', "aws", "x")]).await;
    service.apply("{}", "").await;
    assert_eq!(service.who().await, "a");
    service.apply("{}", "a").await;
    assert_eq!(service.who().await, "bc");
    service.apply("{localityAwareness: {disabled: true}}", "").await;
    assert_eq!(service.who().await, "abc");

    let failover = |rules: &str| format!("{{localityAwareness: {{crossZone: {{failover: [{rules}]}}}}}}");
    let first_aws = failover("{to: {type: Only, zones: [aws]}}, {to: {type: Any}}");
    for (gone, expected) in [("", "a"), ("a", "c"), ("ac", "b")] {
        service.apply(&first_aws, gone).await;
        assert_eq!(service.who().await, expected, "without {gone:?}");
    }
    service.apply(&failover("{to: {type: AnyExcept, zones: [aws]}}"), "ab").await;
    assert_eq!(service.who().await, "", "the only zone that is left is not to take over");
    service.apply(&failover("{from: {zones: [azure]}, to: {type: Any}}"), "a").await;
    assert_eq!(service.who().await, "", "the rule is for callers of another zone");
}

/// What is near gets most of the traffic, and the rest of the zone the rest.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_near_gets_its_share() {
    let service = Service::start(&[('a', "gcp", "n1"), ('b', "gcp", "n2"), ('c', "gcp", "n2")]).await;
    service.apply("{localityAwareness: {localZone: {affinityTags: [{key: node}]}}}", "").await;
    let near = service.answers(200).await.get(&'a').copied().unwrap_or_default();
    assert!((160..200).contains(&near), "{near} of 200; nine in ten were to be");
    service.apply("{localityAwareness: {localZone: {affinityTags: [{key: node}]}}}", "a").await;
    assert_eq!(service.who().await, "bc");
}

/// A caller stays with its endpoint, callers are spread, and the others stay where they were when an endpoint goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_keeps_callers_where_they_are() {
    let service = Service::start(&[('a', "gcp", "x"), ('b', "gcp", "x"), ('c', "gcp", "x")]).await;
    let callers = async || {
        let mut heard = String::new();
        for host in 2..202 {
            heard.extend(traffic::heard([127, 0, 0, host], service.listen).await);
        }
        heard
    };
    for balancer in ["{type: RingHash, ringHash: {minRingSize: 4096}}", "{type: Maglev, maglev: {tableSize: 1009}}"] {
        let strategy =
            format!("{{loadBalancer: {balancer}, hashPolicies: [{{type: Connection, connection: {{sourceIP: true}}}}]}}");
        service.apply(&strategy, "").await;
        let before = callers().await;
        assert_eq!(callers().await, before, "{balancer}");
        assert!("abc".chars().all(|letter| before.contains(letter)), "{balancer}: {before}");
        service.apply(&strategy, "c").await;
        let after = callers().await;
        let stays: Vec<_> = before.chars().zip(after.chars()).filter(|(old, _)| *old != 'c').collect();
        let moved = stays.iter().filter(|(old, new)| old != new).count();
        // Envoy gives each of two endpoints more of the ring than each of three, so a sixth moves; without a hash half would.
        assert!(after.len() == before.len() && moved * 3 < stays.len(), "{balancer}: {before} became {after}");
    }
}
