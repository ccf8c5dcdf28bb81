//! The workloads' PKI, which Envoy judges: one CA per MeshIdentity and zone.

use std::fmt;

use atoll_model::{
    Timestamp,
    spiffe::{SpiffeId, TrustDomain},
};
use chrono::TimeDelta;
use rand::RngCore;
use rcgen::ExtendedKeyUsagePurpose;

use super::{
    CaError, WORKLOAD_CA_LIFE,
    authority::{Authority, CaProfile, params, uri},
};
use crate::{Pin, PrivateKey, SecretText, acceptance};

/// The CA of one MeshIdentity in one zone. Its certificate tells every verifier that it speaks for one trust domain only.
pub struct WorkloadCa {
    authority: Authority,
    domain: TrustDomain,
}

/// The certificate of one workload, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadLeaf {
    /// The certificate.
    pub chain_pem: String,
    /// Its key.
    pub key_pem: SecretText,
    /// Start of its life, as far as renewal counts: when it was made.
    pub issued: Timestamp,
    /// End of its life.
    pub not_after: Timestamp,
}

impl WorkloadCa {
    /// Makes a CA for a trust domain.
    ///
    /// # Errors
    /// When the operating system gives no key.
    pub fn generate(domain: &TrustDomain, now: Timestamp, rng: &mut impl RngCore) -> Result<Self, CaError> {
        let mut number = [0; 8];
        rng.fill_bytes(&mut number);
        let number: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
        let profile = CaProfile {
            // Two CAs of one domain must differ by name, or verifiers try the wrong one first.
            common_name: format!("atoll workload CA {number}"),
            life: WORKLOAD_CA_LIFE,
            path_len: 0,
            name_constraints: Some(name_constraints(domain)),
        };
        let authority = Authority::generate(profile, now, rng)?;
        Ok(Self { authority, domain: domain.clone() })
    }

    /// Reads what [`WorkloadCa::cert_pem`] and [`WorkloadCa::key_pem`] gave; its trust domain is the one that its constraints permit.
    ///
    /// # Errors
    /// When they cannot be read, do not belong together, or are not made by the recipe.
    pub fn load(certificate: &str, key: &str) -> Result<Self, CaError> {
        let authority = Authority::load(certificate, key)?;
        let domain = acceptance::domain_of(authority.facts()).map_err(|fault| CaError::NotThisCa(fault.to_string()))?;
        Ok(Self { authority, domain })
    }

    /// Its certificate.
    pub fn cert_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Its key, which never leaves the zone.
    pub fn key_pem(&self) -> SecretText {
        self.authority.key_pem()
    }

    /// The pin of its key, which also names it.
    pub fn pin(&self) -> Pin {
        self.authority.pin()
    }

    /// The only trust domain for which it can sign.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// When it may be used from.
    pub fn not_before(&self) -> Timestamp {
        self.authority.facts().not_before
    }

    /// End of its life.
    pub fn not_after(&self) -> Timestamp {
        self.authority.facts().not_after
    }

    /// Makes key and certificate of a workload. `id` was derived from the authenticated proxy; it is the certificate's only name.
    ///
    /// # Errors
    /// When the id lies in another trust domain or names no workload, or the CA expired.
    pub fn issue(&self, id: &SpiffeId, life: TimeDelta, now: Timestamp, rng: &mut impl RngCore) -> Result<WorkloadLeaf, CaError> {
        let name = id.to_string();
        if id.trust_domain != self.domain || name.parse().as_ref() != Ok(id) || id.path.is_empty() {
            return Err(CaError::ForeignId { id: id.clone(), domain: self.domain.to_string() });
        }
        let not_after = self.authority.end_of(life, now)?;
        let key = PrivateKey::generate()?;
        let mut params = params(now, not_after, rng);
        params.subject_alt_names = vec![uri(&name)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.authority.sign(&params, key.pair())?;
        Ok(WorkloadLeaf { chain_pem: certificate.pem(), key_pem: key.to_pem(), issued: now, not_after })
    }
}

impl fmt::Debug for WorkloadCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkloadCa({}, {:?})", self.domain, self.pin())
    }
}

/// The name constraints of a workload CA in DER: permitted is the URI host `domain`; DNS names, addresses and mail addresses are
/// excluded altogether. Written by hand, since rcgen has no URI there.
///
/// OpenSSL and BoringSSL do not read an empty mail host as "all"; that only mail at `invalid` is permitted, they do.
pub fn name_constraints(domain: &TrustDomain) -> Vec<u8> {
    const RFC822: u8 = 0x81;
    const DNS: u8 = 0x82;
    const URI: u8 = 0x86;
    const IP: u8 = 0x87;
    let subtree = |tag: u8, name: &[u8]| tlv(0x30, &tlv(tag, name));
    let permitted = [subtree(URI, domain.as_str().as_bytes()), subtree(RFC822, b"invalid")].concat();
    // An address constraint is address and mask: all zero means every address.
    let excluded = [subtree(RFC822, b""), subtree(DNS, b""), subtree(IP, &[0; 8]), subtree(IP, &[0; 32])].concat();
    tlv(0x30, &[tlv(0xa0, &permitted), tlv(0xa1, &excluded)].concat())
}

/// Tag, length, value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match value.len() {
        0..0x80 => out.push(significant.first().copied().unwrap_or(0)),
        _ => {
            // At most eight bytes of length.
            out.push(0x80 | significant.len() as u8);
            out.extend(significant);
        }
    }
    out.extend(value);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::x509::{Constraints, Facts};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn ca(domain: &str) -> WorkloadCa {
        WorkloadCa::generate(&domain.parse().unwrap(), now(), &mut rng()).unwrap()
    }

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn a_ca_is_constrained_to_its_domain() {
        let facts = Facts::of_pem(ca("zone-a.mesh").cert_pem()).unwrap();
        let constraints = Constraints {
            critical: true,
            permitted: vec!["uri:zone-a.mesh".to_owned(), "email:invalid".to_owned()],
            excluded: vec![
                "email:".to_owned(),
                "dns:".to_owned(),
                format!("ip:{}", "00".repeat(8)),
                format!("ip:{}", "00".repeat(32)),
            ],
        };
        assert_eq!(facts.constraints, Some(constraints));
        assert_eq!((facts.is_ca, facts.path_len), (true, Some(0)));
        assert_eq!(facts.not_after - facts.not_before, WORKLOAD_CA_LIFE + crate::ca::SKEW);
    }

    #[test]
    fn the_constraints_are_the_der_of_the_standard() {
        let hex: String = name_constraints(&"a.b".parse().unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        let zeros = |n: usize| "00".repeat(n);
        let expected = format!(
            "304e a012 3005 8603612e62 3009 8107696e76616c6964 a138 30028100 30028200 300a8708{} 30228720{}",
            zeros(8),
            zeros(32)
        );
        assert_eq!(hex, expected.replace(' ', ""));
        // A length of two bytes, the longest domain.
        let long = "a".repeat(253).parse().unwrap();
        assert!(WorkloadCa::generate(&long, now(), &mut rng()).is_ok_and(|ca| {
            WorkloadCa::load(ca.cert_pem(), ca.key_pem().expose()).is_ok_and(|again| *again.trust_domain() == long)
        }));
    }

    #[test]
    fn a_leaf_says_one_thing_only() {
        let leaf =
            ca("zone-a.mesh").issue(&id("spiffe://zone-a.mesh/workload/api"), TimeDelta::hours(24), now(), &mut rng()).unwrap();
        let facts = Facts::of_pem(&leaf.chain_pem).unwrap();
        let expected = Facts {
            pin: PrivateKey::from_pem(leaf.key_pem.expose()).unwrap().pin(),
            serial: facts.serial.clone(),
            not_before: now() - crate::ca::SKEW,
            not_after: now() + TimeDelta::hours(24),
            empty_subject: true,
            uris: vec!["spiffe://zone-a.mesh/workload/api".to_owned()],
            other_names: Vec::new(),
            is_ca: false,
            path_len: None,
            server_auth: true,
            client_auth: true,
            constraints: None,
        };
        assert_eq!(facts, expected);
        assert_eq!((leaf.issued, leaf.not_after), (now(), expected.not_after));
    }

    #[test]
    fn a_ca_signs_for_its_own_domain_only() {
        let ca = ca("zone-a.mesh");
        let domain: TrustDomain = "zone-a.mesh".parse().unwrap();
        // Ids that no parser made: as a careless caller would.
        let raw = |path: &str| SpiffeId { trust_domain: domain.clone(), path: path.to_owned() };
        for forged in [
            id("spiffe://zone-b.mesh/workload/api"),
            id("spiffe://zone-a.mesh"),
            raw(""),
            raw("x"),
            raw("/a/../b"),
            raw("/a?b"),
            raw("/a#b"),
            raw("/é"),
        ] {
            let error = ca.issue(&forged, TimeDelta::hours(24), now(), &mut rng()).unwrap_err();
            assert!(matches!(error, CaError::ForeignId { .. }), "{forged}");
        }
    }

    #[test]
    fn a_leaf_never_outlives_its_ca() {
        let ca = ca("zone-a.mesh");
        let late = ca.not_after() - TimeDelta::hours(1);
        let leaf = ca.issue(&id("spiffe://zone-a.mesh/a"), TimeDelta::hours(24), late, &mut rng()).unwrap();
        assert_eq!(leaf.not_after, ca.not_after());
        assert!(matches!(
            ca.issue(&id("spiffe://zone-a.mesh/a"), TimeDelta::hours(24), ca.not_after(), &mut rng()),
            Err(CaError::Expired(_))
        ));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_useless_certificates() {
        let ca = ca("zone-a.mesh");
        let at = |now| ca.issue(&id("spiffe://zone-a.mesh/a"), TimeDelta::hours(24), now, &mut rng());
        assert!(at(now() - TimeDelta::minutes(10)).is_ok());
        assert!(matches!(at(now() - TimeDelta::hours(1)), Err(CaError::NotYet(_))));
    }

    #[test]
    fn a_control_planes_ca_is_no_workload_ca_and_the_other_way_round() {
        let (workload, zone) = (ca("zone-a.mesh"), crate::ca::ZoneCa::generate("a", now(), &mut rng()).unwrap());
        assert!(WorkloadCa::load(zone.cert_pem(), zone.key_pem().expose()).is_err());
        assert!(crate::ca::ZoneCa::load(workload.cert_pem(), workload.key_pem().expose()).is_err());
    }

    proptest! {
        #[test]
        fn there_is_exactly_one_name_whatever_the_id(path in "(/[A-Za-z0-9._-]{1,12}){1,4}") {
            let text = format!("spiffe://zone-a.mesh{path}");
            if let Ok(id) = text.parse() {
                let leaf = ca("zone-a.mesh").issue(&id, TimeDelta::hours(1), now(), &mut rng()).unwrap();
                let facts = Facts::of_pem(&leaf.chain_pem).unwrap();
                prop_assert_eq!(facts.only_uri(), Some(text.as_str()));
            }
        }
    }
}
