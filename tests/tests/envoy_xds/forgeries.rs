//! F40, P34: certificates that somebody forged to pass for a workload of another zone, against both ends of a real Envoy's TLS.

use std::net::SocketAddr;

use atoll_mesh::trust::TrustBundles;
use atoll_trust::ca::WorkloadCa;
use chrono::TimeDelta;
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

use crate::{
    AZURE, GCP, Gateway, SNI,
    envoy::Envoy,
    forger::{Draft, Signer},
    pki::{self, Leaf, dns, uri},
    plane::Plane,
    resources,
    traffic::{self, free, plain_works, tls_works},
    web,
};

/// The zone that was taken over.
const AWS: &str = "default.aws.mesh.local";
/// A trust domain of somebody outside, whose CA has no constraints.
const OUTSIDE: &str = "other.mesh";

/// Every path by which somebody might pass for `path` of `domain`: with a zone of one's own, with what leaked from `domain`, or with
/// nothing but keys made at home.
struct Forger {
    domain: &'static str,
    /// The CA that may sign for `domain`.
    real: WorkloadCa,
    /// The CA of a zone that lies. It is trusted, for its own domain.
    liar: WorkloadCa,
    outside: (Signer, String),
}

impl Forger {
    fn new(domain: &'static str) -> Self {
        Self { domain, real: pki::ca(domain), liar: pki::ca(AWS), outside: Signer::unconstrained() }
    }

    fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.domain)
    }

    /// What a zone that trusts all three believes, and its own CA.
    fn bundles(&self, own: &WorkloadCa) -> TrustBundles {
        let own_domain = own.trust_domain().as_str().to_owned();
        pki::bundles(&[
            (&own_domain, own.cert_pem()),
            (self.domain, self.real.cert_pem()),
            (AWS, self.liar.cert_pem()),
            (OUTSIDE, &self.outside.1),
        ])
    }

    /// Made by the same hands as the forgeries, and right: if these are not accepted, the others prove nothing.
    fn controls(&self, path: &str) -> [(&'static str, Leaf); 2] {
        let real = Signer::ca(&self.real);
        [("the zone's own", pki::leaf(&self.real, path)), ("the recipe", Draft::of(&self.id(path)).signed_by(&real))]
    }

    fn forgeries(&self, path: &str) -> Vec<(&'static str, Leaf)> {
        let mut all = self.with_another_key(path);
        all.extend(self.with_the_right_key(path));
        all
    }

    /// Without the key of the domain's CA.
    fn with_another_key(&self, path: &str) -> Vec<(&'static str, Leaf)> {
        let (id, own) = (self.id(path), format!("spiffe://{AWS}/workload/x"));
        let (real, liar) = (Signer::ca(&self.real), Signer::ca(&self.liar));
        let (stranger, twin) = (Signer::ca(&pki::other_ca(self.domain)), Signer::ca(&pki::ca(self.domain)));
        let below = Draft::sub_ca(self.domain, 0).as_signer(&liar);
        let deeper = Draft::sub_ca(self.domain, 0).as_signer(&Draft::sub_ca(self.domain, 1).as_signer(&liar));
        let workload = Draft::of(&self.id("/workload/other")).as_signer(&real);
        let hidden = format!("https://{AWS}/?spiffe://{}{path}", self.domain);
        vec![
            ("another zone's identity", Draft::of(&id).signed_by(&liar)),
            ("another zone's identity behind its own", Draft::named(&[uri(&own), uri(&id)]).signed_by(&liar)),
            ("another zone's identity before its own", Draft::named(&[uri(&id), uri(&own)]).signed_by(&liar)),
            ("another zone's identity inside a URI of its own", Draft::named(&[uri(&hidden)]).signed_by(&liar)),
            ("an unknown CA with the recipe of the right one", Draft::of(&id).signed_by(&stranger)),
            ("an unknown CA with the name of the right one, too", Draft::of(&id).signed_by(&twin)),
            ("a CA without constraints, trusted for another domain", Draft::of(&id).signed_by(&self.outside.0)),
            ("no CA at all", Draft::of(&id).self_signed()),
            ("a CA for the other domain below its own", Draft::of(&id).signed_by(&below)),
            ("two CAs below its own", Draft::of(&id).signed_by(&deeper)),
            ("a workload of the zone that signs", Draft::of(&id).signed_by(&workload)),
        ]
    }

    /// What Envoy does not refuse of the domain's own CA. Who has its key speaks for the whole domain anyway, and no proxy gets any
    /// of this signed: no request of a proxy is signed at all.
    fn of_the_right_zone(&self, path: &str) -> [(&'static str, Leaf); 3] {
        let (id, real) = (self.id(path), Signer::ca(&self.real));
        let below = Draft::sub_ca(self.domain, 0).as_signer(&real);
        [
            ("two identities of the right zone", Draft::named(&[uri(&id), uri(&self.id("/workload/other"))]).signed_by(&real)),
            ("a CA below the right one", Draft::of(&id).signed_by(&below)),
            ("for another purpose", Draft::of(&id).purposes(&[ExtendedKeyUsagePurpose::CodeSigning]).signed_by(&real)),
        ]
    }

    /// As if the domain's own CA had been made to sign what it never should.
    fn with_the_right_key(&self, path: &str) -> Vec<(&'static str, Leaf)> {
        let id = self.id(path);
        let real = Signer::ca(&self.real);
        let (minute, hour, year) = (TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::days(365));
        let names = |names: &[SanType]| Draft::named(names).signed_by(&real);
        vec![
            ("expired a minute ago", Draft::of(&id).lives(-hour, -minute).signed_by(&real)),
            ("expired a year ago", Draft::of(&id).lives(-year - hour, -year).signed_by(&real)),
            ("not yet valid", Draft::of(&id).lives(hour, hour * 2).signed_by(&real)),
            ("no name", names(&[])),
            ("the service's DNS name alone", names(&[dns(SNI)])),
            ("the service's DNS name beside the identity", names(&[uri(&id), dns(SNI)])),
            ("an address beside the identity", names(&[uri(&id), SanType::IpAddress([127, 0, 0, 1].into())])),
            ("a URI that is no SPIFFE id", names(&[uri(&format!("https://{}{path}", self.domain))])),
            ("the domain alone", names(&[uri(&self.id(""))])),
            ("a leaf that is a CA", Draft::of(&id).claims_to_be_a_ca().signed_by(&real)),
            ("a leaf that may sign certificates", Draft::of(&id).used_for(&[KeyUsagePurpose::KeyCertSign]).signed_by(&real)),
        ]
    }
}

/// The inbound of a sidecar: every identity that is proved is allowed, so that TLS alone refuses what is refused.
#[tokio::test(flavor = "multi_thread")]
async fn no_forged_client_is_let_in() {
    let (forger, gcp) = (Forger::new(AZURE), pki::ca(GCP));
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let gateway = Gateway::new().await;
    let everybody = "  - {type: MeshTrafficPermission, name: allow, spec: {rules: [{default: {allow: [{spiffeID: {type: Prefix, value: \"spiffe://\"}}]}}]}}\n";
    let set = |bundles: &TrustBundles| resources(&gateway.yaml(everybody, 0), Some((&own, bundles)));
    let plane = Plane::start().await;
    let _envoy = Envoy::start("gateway", &plane).await;
    plane.apply("gateway", set(&forger.bundles(&gcp))).await;

    let accepted = async |leaf: &Leaf| tls_works(gateway.listen, &pki::client(leaf), SNI).await;
    let (controls, forgeries) = (forger.controls("/workload/a"), forger.forgeries("/workload/a"));
    for (what, leaf) in &controls {
        assert!(accepted(leaf).await, "{what} is not accepted");
    }
    let mut let_in = Vec::new();
    for (what, leaf) in &forgeries {
        if accepted(leaf).await {
            let_in.push(what);
        }
    }
    assert!(let_in.is_empty(), "{} of {} were let in: {let_in:#?}", let_in.len(), forgeries.len());
    for (what, leaf) in &forger.of_the_right_zone("/workload/a") {
        assert!(accepted(leaf).await, "{what} is refused now: put it to the forgeries");
    }
    assert!(accepted(&controls[0].1).await, "the real one is accepted after all that");

    // The domain's trust is withdrawn: what was right is a forgery now.
    plane.apply("gateway", set(&pki::bundles(&[(GCP, gcp.cert_pem())]))).await;
    for (what, leaf) in &controls {
        assert!(!accepted(leaf).await, "{what} is accepted without trust");
    }
}

/// The other end: a sidecar calls a service of another zone, and a forger answers.
#[tokio::test(flavor = "multi_thread")]
async fn no_forged_server_is_believed() {
    let (forger, azure) = (Forger::new(GCP), pki::ca(AZURE));
    let own = pki::leaf(&azure, "/workload/web");
    let bundles = forger.bundles(&azure);
    let plane = Plane::start().await;
    let _envoy = Envoy::start("web", &plane).await;
    let listen = free();
    let accepted = async |leaf: &Leaf, bundles: &TrustBundles| {
        let at: SocketAddr = traffic::tls_echo(pki::server(leaf)).await;
        plane.apply("web", resources(&web("port: 8443, name: main", &[at], listen), Some((&own, bundles)))).await;
        plain_works(listen).await
    };
    let path = "/workload/api-gateway";
    let (controls, forgeries) = (forger.controls(path), forger.forgeries(path));
    for (what, leaf) in &controls {
        assert!(accepted(leaf, &bundles).await, "{what} is not accepted");
    }
    assert!(!accepted(&pki::leaf(&forger.real, "/workload/b"), &bundles).await, "another service of the zone");
    let mut believed = Vec::new();
    for (what, leaf) in &forgeries {
        if accepted(leaf, &bundles).await {
            believed.push(what);
        }
    }
    assert!(believed.is_empty(), "{} of {} were believed: {believed:#?}", believed.len(), forgeries.len());
    for (what, leaf) in &forger.of_the_right_zone(path) {
        assert!(accepted(leaf, &bundles).await, "{what} is refused now: put it to the forgeries");
    }
    assert!(accepted(&controls[0].1, &bundles).await, "the real one is accepted after all that");
    let withdrawn = pki::bundles(&[(AZURE, azure.cert_pem())]);
    assert!(!accepted(&controls[0].1, &withdrawn).await, "the real one is accepted without trust");
}
