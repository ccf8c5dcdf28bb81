use atoll_model::{
    Timestamp,
    kinds::{
        mesh_identity::{Autogenerate, Bundled, CaSource, Provider, SpiffeIdTemplate},
        mesh_trust::{CaBundle, CaBundleKind, Pem},
    },
};
use rand::{SeedableRng, rngs::StdRng};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, GeneralSubtree, IsCa, KeyPair, NameConstraints};
use uuid::Uuid;

use super::*;
use crate::ca::{WorkloadCa, name_constraints, tlv};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn uid(id: u128) -> ZoneUid {
    ZoneUid(Uuid::from_u128(id))
}

const AZURE: u128 = 1;
const GCP: u128 = 2;

fn bundled(template: Option<&str>) -> MeshIdentity {
    let provider = Provider {
        kind: ProviderKind::Bundled,
        bundled: Some(Bundled { autogenerate: Some(Autogenerate { enabled: true }), ..Bundled::default() }),
        spire: None,
        extension: None,
    };
    let spiffe_id = template.map(|text| SpiffeIdTemplate { trust_domain: Some(text.to_owned()), path: None });
    MeshIdentity { spiffe_id, provider: Some(provider), ..MeshIdentity::default() }
}

fn with_operators_ca(mut identity: MeshIdentity) -> MeshIdentity {
    let bundled = Bundled { ca: Some(CaSource::default()), ..Bundled::default() };
    identity.provider = identity.provider.map(|provider| Provider { bundled: Some(bundled), ..provider });
    identity
}

/// One MeshIdentity, recorded for both zones.
fn identities() -> BTreeMap<Name, MeshIdentity> {
    let mut identity = bundled(None);
    identity.trust_domains =
        [(uid(AZURE).to_string(), "azure.mesh".to_owned()), (uid(GCP).to_string(), "gcp.mesh".to_owned())].into();
    [("identity".into(), identity)].into()
}

fn ca(domain: &str) -> String {
    let ca = WorkloadCa::generate(&domain.parse().unwrap(), now(), &mut StdRng::seed_from_u64(1)).unwrap();
    ca.cert_pem().to_owned()
}

/// A CA as an attacker makes it.
fn forged_ca(edit: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    edit(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn constrained(der: Vec<u8>, critical: bool) -> String {
    forged_ca(|params| {
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der);
        extension.set_criticality(critical);
        params.custom_extensions.push(extension);
    })
}

/// Names as they stand in name constraints.
const DNS: (u8, &[u8]) = (0x82, b"");
const IPV4: (u8, &[u8]) = (0x87, &[0; 8]);
const IPV6: (u8, &[u8]) = (0x87, &[0; 32]);

fn uri(host: &str) -> (u8, &[u8]) {
    (0x86, host.as_bytes())
}

/// A CA with critical name constraints as an attacker writes them.
fn permitting(permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> String {
    let trees = |tag: u8, names: &[(u8, &[u8])]| match names {
        [] => Vec::new(),
        names => tlv(tag, &names.iter().map(|(tag, name)| tlv(0x30, &tlv(*tag, name))).collect::<Vec<_>>().concat()),
    };
    constrained(tlv(0x30, &[trees(0xa0, permitted), trees(0xa1, excluded)].concat()), true)
}

fn trust(domain: &str, cas: impl IntoIterator<Item = String>) -> MeshTrust {
    let bundle = |value| CaBundle { kind: CaBundleKind::Pem, pem: Pem { value } };
    let ca_bundles = cas.into_iter().map(bundle).collect();
    MeshTrust { trust_domain: domain.to_owned(), ca_bundles, acknowledged: Vec::new(), rotation: None }
}

fn judged(zone: u128, trust: &MeshTrust) -> Result<String, Refusal> {
    judge(&"identity".into(), uid(zone), trust, &identities()).map(|domain| domain.to_string())
}

fn fault(pem: String) -> CaFault {
    match judged(AZURE, &trust("azure.mesh", [pem])) {
        Err(Refusal::Ca { index: 0, fault }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_zone_speaks_for_its_own_domain() {
    assert_eq!(judged(AZURE, &trust("azure.mesh", [ca("azure.mesh")])), Ok("azure.mesh".to_owned()));
    assert_eq!(judged(GCP, &trust("gcp.mesh", [ca("gcp.mesh"), ca("gcp.mesh")])), Ok("gcp.mesh".to_owned()));
}

#[test]
fn a_zone_does_not_speak_for_another() {
    // A CA made by gcp for azure's domain: Envoy would take gcp for azure.
    let expected = Refusal::OtherDomain { zone: uid(GCP), recorded: "gcp.mesh".to_owned(), claimed: "azure.mesh".to_owned() };
    assert_eq!(judged(GCP, &trust("azure.mesh", [ca("azure.mesh")])), Err(expected));
    // For its own domain, but with a CA for azure's, alone or behind a good one.
    let expected = |index| Refusal::OtherCa { index, constrained: "azure.mesh".to_owned(), claimed: "gcp.mesh".to_owned() };
    assert_eq!(judged(GCP, &trust("gcp.mesh", [ca("azure.mesh")])), Err(expected(0)));
    assert_eq!(judged(GCP, &trust("gcp.mesh", [ca("gcp.mesh"), ca("azure.mesh")])), Err(expected(1)));
}

#[test]
fn a_zone_that_global_does_not_know_speaks_for_nothing() {
    let trust = trust("azure.mesh", [ca("azure.mesh")]);
    assert_eq!(judged(3, &trust), Err(Refusal::NotRecorded { identity: "identity".to_owned(), zone: uid(3) }));
    let elsewhere = judge(&"other".into(), uid(AZURE), &trust, &identities());
    assert_eq!(elsewhere, Err(Refusal::NoIdentity("other".to_owned())));
}

#[test]
fn a_domain_of_two_zones_is_nobodys_unless_the_operator_brings_the_ca() {
    let mut identity = bundled(Some("shared.mesh"));
    identity.trust_domains = [AZURE, GCP].map(|zone| (uid(zone).to_string(), "shared.mesh".to_owned())).into();
    let judge = |identity: MeshIdentity| {
        judge(&"i".into(), uid(AZURE), &trust("shared.mesh", [ca("shared.mesh")]), &[("i".into(), identity)].into())
    };
    let expected = Refusal::SharedDomain { domain: "shared.mesh".to_owned(), zone: uid(AZURE), other: uid(GCP) };
    assert_eq!(judge(identity.clone()), Err(expected));
    assert!(judge(with_operators_ca(identity)).is_ok());
}

#[test]
fn a_ca_without_the_recipe_is_refused() {
    let recipe = |domain: &str| name_constraints(&domain.parse().unwrap());
    assert_eq!(fault(forged_ca(|params| params.is_ca = IsCa::ExplicitNoCa)), CaFault::NotACa);
    assert_eq!(fault(forged_ca(|_| ())), CaFault::NoConstraints);
    assert_eq!(fault(constrained(recipe("azure.mesh"), false)), CaFault::NotCritical);
    let dns_only = NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("azure.mesh".to_owned())],
        excluded_subtrees: Vec::new(),
    };
    let pem = forged_ca(|params| params.name_constraints = Some(dns_only));
    assert_eq!(fault(pem), CaFault::Permitted(vec!["dns:azure.mesh".to_owned()]));
}

#[test]
fn a_ca_for_two_domains_or_a_subtree_is_refused() {
    let permitting = |permitted: &[(u8, &[u8])]| fault(permitting(permitted, &[DNS, IPV4, IPV6]));
    let two = ["uri:azure.mesh".to_owned(), "uri:gcp.mesh".to_owned()];
    assert_eq!(permitting(&[uri("azure.mesh"), uri("gcp.mesh")]), CaFault::Permitted(two.into()));
    // Every domain below it.
    assert_eq!(permitting(&[uri(".mesh")]), CaFault::Permitted(vec!["uri:.mesh".to_owned()]));
    assert_eq!(permitting(&[uri("")]), CaFault::Permitted(vec!["uri:".to_owned()]));
    assert_eq!(permitting(&[uri("AZURE.mesh")]), CaFault::Permitted(vec!["uri:AZURE.mesh".to_owned()]));
    assert_eq!(permitting(&[]), CaFault::Permitted(Vec::new()));
}

#[test]
fn a_ca_that_may_name_hosts_or_addresses_is_refused() {
    let excluding = |excluded: &[(u8, &[u8])]| fault(permitting(&[uri("azure.mesh")], excluded));
    assert_eq!(excluding(&[]), CaFault::Excluded("DNS names"));
    assert_eq!(excluding(&[(0x82, b"mesh"), IPV4, IPV6]), CaFault::Excluded("DNS names"));
    assert_eq!(excluding(&[DNS, IPV6]), CaFault::Excluded("IPv4 addresses"));
    assert_eq!(excluding(&[DNS, IPV4]), CaFault::Excluded("IPv6 addresses"));
    // Half of the addresses: 0.0.0.0/1.
    assert_eq!(excluding(&[DNS, (0x87, &[0, 0, 0, 0, 0x80, 0, 0, 0]), IPV6]), CaFault::Excluded("IPv4 addresses"));
}

#[test]
fn nothing_hides_beside_a_ca() {
    let good = ca("azure.mesh");
    let evil = forged_ca(|_| ());
    let unreadable =
        |pem: String| matches!(judged(AZURE, &trust("azure.mesh", [pem])), Err(Refusal::Unreadable { index: 0, .. }));
    assert!(unreadable(format!("{good}{evil}")));
    // Envoy reads these labels too.
    for label in ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"] {
        assert!(unreadable(format!("{good}{}", evil.replace("CERTIFICATE", label))), "{label}");
    }
    assert!(unreadable(format!("{good}{}", KeyPair::generate().unwrap().serialize_pem())));
    assert!(unreadable(format!("subject=/CN=x\n{good}")));
    assert!(unreadable(String::new()));
    assert!(unreadable(good.replace("-----BEGIN", "----BEGIN")));
    // Other line ends and lengths are the same certificate.
    assert!(judged(AZURE, &trust("azure.mesh", [format!("\n{}\n", good.replace('\n', "\r\n"))])).is_ok());
}

#[test]
fn a_bundle_has_bounds() {
    assert_eq!(judged(AZURE, &trust("azure.mesh", [])), Err(Refusal::Count(0)));
    let many = vec![ca("azure.mesh"); MOST_CAS + 1];
    assert_eq!(judged(AZURE, &trust("azure.mesh", many)), Err(Refusal::Count(MOST_CAS + 1)));
}

fn zones(all: &[(u128, &str)]) -> BTreeMap<ZoneUid, Name> {
    all.iter().map(|(id, name)| (uid(*id), Name::from(*name))).collect()
}

fn recorded(identity: &MeshIdentity, zones_: &[(u128, &str)]) -> Recording {
    record(&[("identity".into(), identity.clone())].into(), "default", &zones(zones_))
}

fn domains(pairs: &[(u128, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(id, domain)| (uid(*id).to_string(), (*domain).to_owned())).collect()
}

#[test]
fn each_zone_gets_its_domain_once_and_for_ever() {
    let both = [(AZURE, "azure"), (GCP, "gcp")];
    let mut identity = bundled(None);
    let recording = recorded(&identity, &both);
    let expected = domains(&[(AZURE, "default.azure.mesh.local"), (GCP, "default.gcp.mesh.local")]);
    assert_eq!(recording.changed.get("identity"), Some(&expected));
    identity.trust_domains = expected;
    assert_eq!(recorded(&identity, &both), Recording::default());
    // The author changes the template: what was recorded stays.
    identity.spiffe_id = Some(SpiffeIdTemplate { trust_domain: Some("{{ .Zone }}.new".to_owned()), path: None });
    assert_eq!(recorded(&identity, &both), Recording::default());
}

#[test]
fn a_zone_that_is_gone_frees_its_domain() {
    let mut identity = bundled(None);
    identity.trust_domains = domains(&[(AZURE, "default.azure.mesh.local")]);
    // Another zone under the old name, while the old one is still there: refused.
    let both = recorded(&identity, &[(AZURE, "azure"), (3, "azure")]);
    let taken = DomainFault::Taken { domain: "default.azure.mesh.local".to_owned(), holder: uid(AZURE) };
    assert_eq!(both, Recording { changed: BTreeMap::new(), refused: vec![("identity".into(), uid(3), taken)] });
    let after = recorded(&identity, &[(3, "azure")]);
    assert_eq!(after.changed.get("identity"), Some(&domains(&[(3, "default.azure.mesh.local")])));
}

#[test]
fn one_domain_for_every_zone_is_refused_unless_the_operator_brings_the_ca() {
    let shared = bundled(Some("corp.example"));
    let refused = DomainFault::SameInEveryZone("corp.example".to_owned());
    assert_eq!(separates_zones(&shared, "default"), Err(refused.clone()));
    let recording = recorded(&shared, &[(AZURE, "azure")]);
    assert_eq!(recording, Recording { changed: BTreeMap::new(), refused: vec![("identity".into(), uid(AZURE), refused)] });
    let brought = with_operators_ca(shared);
    assert_eq!(separates_zones(&brought, "default"), Ok(()));
    let recording = recorded(&brought, &[(AZURE, "azure"), (GCP, "gcp")]);
    assert_eq!(recording.changed.get("identity"), Some(&domains(&[(AZURE, "corp.example"), (GCP, "corp.example")])));
    assert_eq!(separates_zones(&bundled(None), "default"), Ok(()));
}

#[test]
fn two_identities_do_not_give_two_zones_one_domain() {
    // In azure the first gives what the second gives in gcp.
    let first = bundled(Some("{{ .Zone }}.mesh"));
    let second = bundled(Some("{{ if eq .Zone \"gcp\" }}azure{{ else }}{{ .Zone }}-2{{ end }}.mesh"));
    let both = [("a".into(), first), ("b".into(), second)].into();
    let recording = record(&both, "default", &zones(&[(AZURE, "azure"), (GCP, "gcp")]));
    assert_eq!(recording.refused.len(), 1, "{recording:?}");
    // Two identities of one zone may have one domain: it is the same zone that speaks.
    let twins = [("a".into(), bundled(None)), ("b".into(), bundled(None))].into();
    let recording = record(&twins, "default", &zones(&[(AZURE, "azure")]));
    assert_eq!((recording.changed.len(), recording.refused.len()), (2, 0));
}
