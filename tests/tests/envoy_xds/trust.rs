//! E13: who may say which CAs speak for a trust domain, from the MeshTrusts of three zones to what an Envoy of one of them accepts.

use std::sync::Arc;

use atoll_mesh::{IndexConfig, MeshIndex, TrustAcceptance, trust::TrustBundles};
use atoll_model::{
    Change, ContentHash, Kind, Labels, Name, Owner, Resource, ResourceKey, Revision, Timestamp, ZoneUid,
    kinds::{MeshIdentity, MeshTrust},
    labels::Viewpoint,
    resource::canonical_json,
    spiffe::TrustDomain,
};
use atoll_trust::ca::WorkloadCa;
use serde_json::{Value, json};

use crate::{
    AZURE, GCP, Gateway, SNI, allow,
    case::owner,
    envoy::Envoy,
    pki::{self, Leaf},
    plane::Plane,
    resources,
    traffic::tls_works,
};

/// The zone that lies.
const AWS: &str = "default.aws.mesh.local";

/// The index of gcp's plane.
struct Index(MeshIndex);

impl Index {
    /// With what global recorded: each zone's domain.
    fn new(acceptance: impl TrustAcceptance + 'static) -> Self {
        let viewpoint = Viewpoint::Zone { name: "gcp".into(), uid: uid_of("gcp"), federated: true };
        let mut index = Self(MeshIndex::new(viewpoint, IndexConfig::default(), Arc::new(acceptance)));
        let recorded =
            ["gcp", "azure", "aws"].map(|zone| (uid_of(zone).to_string(), json!(format!("default.{zone}.mesh.local"))));
        index.put(Kind::Mesh, "", "default", Owner::Global, &json!({}));
        let provider = json!({"type": "Bundled", "bundled": {"autogenerate": {"enabled": true}}});
        let domains: serde_json::Map<String, Value> = recorded.into_iter().collect();
        let identity = json!({"selector": {"dataplane": {}}, "provider": provider, "trustDomains": domains});
        index.put(Kind::MeshIdentity, "default", "identity", Owner::Global, &identity);
        index
    }

    fn put(&mut self, kind: Kind, mesh: &str, name: &str, owner: Owner, spec: &Value) {
        let spec = canonical_json(spec);
        let resource = Resource {
            hash: ContentHash::of(&Labels::new(), &spec),
            key: ResourceKey::new(kind, mesh, name, owner),
            revision: Revision(1),
            version: 1,
            generation: 1,
            labels: Labels::new(),
            spec,
            computed: None,
            created: Timestamp::UNIX_EPOCH,
            modified: Timestamp::UNIX_EPOCH,
        };
        self.0.apply([&Change::Put(Arc::new(resource))]);
    }

    /// A zone publishes its MeshTrust `name`.
    fn publish(&mut self, zone: &str, name: &str, domain: &str, cas: &[&WorkloadCa]) {
        let bundles: Vec<_> = cas.iter().map(|ca| json!({"type": "Pem", "pem": {"value": ca.cert_pem()}})).collect();
        self.put(Kind::MeshTrust, "default", name, owner(zone), &json!({"trustDomain": domain, "caBundles": bundles}));
    }

    fn bundles(&mut self) -> Arc<TrustBundles> {
        Arc::clone(&self.0.snapshots()["default"].trust)
    }
}

fn uid_of(zone: &str) -> ZoneUid {
    let Owner::Zone(uid) = owner(zone) else { panic!("a zone") };
    uid
}

/// A plane without the rule: a MeshTrust holds for the domain that it names.
fn believing(
    _: &Name,
    _: ZoneUid,
    trust: &MeshTrust,
    _: &std::collections::BTreeMap<Name, MeshIdentity>,
) -> Result<TrustDomain, String> {
    trust.trust_domain.parse().map_err(|_| "no domain".to_owned())
}

/// E13: a CA that aws makes for azure's domain makes nobody of aws one of azure, in whichever MeshTrust it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_fills_no_bundle_but_its_own() {
    let (gcp, azure, aws) = (pki::ca(GCP), pki::ca(AZURE), pki::ca(AWS));
    // Made by aws, and by the recipe: Envoy has nothing against it but that it is not azure's.
    let forged = pki::other_ca(AZURE);
    let own = pki::leaf(&gcp, "/workload/api-gateway");
    let (real, liar) = (pki::leaf(&azure, "/workload/a"), pki::leaf(&forged, "/workload/a"));
    let (honest, gateway) = (pki::leaf(&aws, "/workload/a"), Gateway::new().await);
    let allowed = allow(&[&format!("spiffe://{AZURE}/workload/a"), &format!("spiffe://{AWS}/workload/a")]);
    let plane = Plane::start().await;
    let _envoy = Envoy::start("gateway", &plane).await;
    let accepted = async |leaf: &Leaf| tls_works(gateway.listen, &pki::client(leaf), SNI).await;
    let publish = |index: &mut Index| {
        index.publish("gcp", "identity", GCP, &[&gcp]);
        index.publish("azure", "identity", AZURE, &[&azure]);
        index.publish("aws", "identity", AWS, &[&aws]);
    };

    // Without the rule the attack works: Envoy alone does not stop it.
    let mut index = Index::new(believing);
    publish(&mut index);
    index.publish("aws", "more", AZURE, &[&forged]);
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&own, &index.bundles())))).await;
    assert!(accepted(&real).await && accepted(&liar).await, "the forgery is a good one");

    type Attack<'a> = (&'a str, &'a str, &'a str, Vec<&'a WorkloadCa>);
    let attacks: [Attack; 4] = [
        ("beside its own MeshTrust", "more", AZURE, vec![&forged]),
        ("in the place of its own", "identity", AZURE, vec![&forged]),
        ("in its own, for its own domain", "identity", AWS, vec![&forged]),
        ("behind its own CA", "identity", AWS, vec![&aws, &forged]),
    ];
    for (what, name, domain, cas) in attacks {
        let mut index = Index::new(atoll_zone_cp::identity::acceptance());
        publish(&mut index);
        plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&own, &index.bundles())))).await;
        assert!(accepted(&real).await && accepted(&honest).await, "{what}: before");
        index.publish("aws", name, domain, &cas);
        plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&own, &index.bundles())))).await;
        assert!(!accepted(&liar).await, "{what}: aws passes for azure");
        assert!(accepted(&real).await, "{what}: it costs azure its own place");
    }
}
