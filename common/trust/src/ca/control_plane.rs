//! The control planes' own PKI, which rustls judges: no URI name constraints here, since rustls cannot judge those.

use std::fmt;

use atoll_model::Timestamp;
use chrono::TimeDelta;
use rand::RngCore;
use rcgen::ExtendedKeyUsagePurpose;
use uuid::Uuid;

use super::{
    CONTROL_PLANE_CA_LIFE, CaError, ServerNames, ZONE_LIFE,
    authority::{Authority, CaProfile, params, server_names, uri},
};
use crate::{CertificateRequest, Pin, PrivateKey, SecretText, ZonePeer};

/// The name that every certificate of a global control plane carries: zones ask for it whatever address they dialled.
pub const GLOBAL_SERVER_NAME: &str = "global-cp.atoll.internal";
/// The name that every certificate of a zone's control plane carries.
pub const ZONE_SERVER_NAME: &str = "zone-cp.atoll.internal";

/// The CA of the global control plane: signs the servers of global and the zones' client certificates.
pub struct ControlPlaneCa(Authority);

/// The CA of one zone's control plane: signs its servers for proxies and people.
pub struct ZoneCa(Authority);

/// A server's certificate with its key.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// The certificate, followed by its CA: who knows only the CA's pin finds it there.
    pub chain_pem: String,
    /// The key.
    pub key_pem: SecretText,
    /// End of its life.
    pub not_after: Timestamp,
}

/// A zone's client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneCertificate {
    /// The certificate, followed by its CA.
    pub chain_pem: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// End of its life.
    pub not_after: Timestamp,
}

impl ControlPlaneCa {
    /// Makes the CA of a new global control plane.
    ///
    /// # Errors
    /// When the operating system gives no key.
    pub fn generate(cluster: Uuid, now: Timestamp, rng: &mut impl RngCore) -> Result<Self, CaError> {
        Authority::generate(profile(format!("atoll global {cluster}")), now, rng).map(Self)
    }

    /// Reads what [`ControlPlaneCa::cert_pem`] and [`ControlPlaneCa::key_pem`] gave.
    ///
    /// # Errors
    /// When they cannot be read, do not belong together, or are no such CA.
    pub fn load(certificate: &str, key: &str) -> Result<Self, CaError> {
        load(certificate, key).map(Self)
    }

    /// Its certificate.
    pub fn cert_pem(&self) -> &str {
        self.0.pem()
    }

    /// Its key.
    pub fn key_pem(&self) -> SecretText {
        self.0.key_pem()
    }

    /// By what a zone knows it before it has the certificate.
    pub fn pin(&self) -> Pin {
        self.0.pin()
    }

    /// End of its life.
    pub fn not_after(&self) -> Timestamp {
        self.0.facts().not_after
    }

    /// Makes a certificate for a server of global: [`GLOBAL_SERVER_NAME`] and `names`. May be asked for again at any time.
    ///
    /// # Errors
    /// When a name is no DNS name, or the CA expired.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        life: TimeDelta,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<ServerCertificate, CaError> {
        issue_server(&self.0, GLOBAL_SERVER_NAME, names, life, now, rng)
    }

    /// Signs a zone's client certificate: `peer` is its only name, and nothing of the request but the key is used.
    ///
    /// # Errors
    /// When the instance is no part of a SPIFFE id, or the CA expired.
    pub fn issue_zone(
        &self,
        request: &CertificateRequest,
        peer: &ZonePeer,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<ZoneCertificate, CaError> {
        let name = peer.to_string();
        name.parse::<ZonePeer>().map_err(|_| CaError::Name(name.clone()))?;
        let not_after = self.0.end_of(ZONE_LIFE, now)?;
        let mut params = params(now, not_after, rng);
        params.subject_alt_names = vec![uri(&name)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = self.0.sign(&params, request.public_key())?;
        let serial = crate::x509::Facts::of_der(certificate.der())?.serial;
        Ok(ZoneCertificate { chain_pem: certificate.pem() + self.0.pem(), serial, not_after })
    }
}

impl ZoneCa {
    /// Makes the CA of a new zone's control plane.
    ///
    /// # Errors
    /// When the operating system gives no key.
    pub fn generate(zone: &str, now: Timestamp, rng: &mut impl RngCore) -> Result<Self, CaError> {
        Authority::generate(profile(format!("atoll zone {zone}")), now, rng).map(Self)
    }

    /// Reads what [`ZoneCa::cert_pem`] and [`ZoneCa::key_pem`] gave.
    ///
    /// # Errors
    /// When they cannot be read, do not belong together, or are no such CA.
    pub fn load(certificate: &str, key: &str) -> Result<Self, CaError> {
        load(certificate, key).map(Self)
    }

    /// Its certificate.
    pub fn cert_pem(&self) -> &str {
        self.0.pem()
    }

    /// Its key.
    pub fn key_pem(&self) -> SecretText {
        self.0.key_pem()
    }

    /// What `atoll-dp` takes in place of the certificate.
    pub fn pin(&self) -> Pin {
        self.0.pin()
    }

    /// End of its life.
    pub fn not_after(&self) -> Timestamp {
        self.0.facts().not_after
    }

    /// Makes a certificate for a server of the zone: [`ZONE_SERVER_NAME`] and `names`. May be asked for again at any time.
    ///
    /// # Errors
    /// When a name is no DNS name, or the CA expired.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        life: TimeDelta,
        now: Timestamp,
        rng: &mut impl RngCore,
    ) -> Result<ServerCertificate, CaError> {
        issue_server(&self.0, ZONE_SERVER_NAME, names, life, now, rng)
    }
}

impl fmt::Debug for ControlPlaneCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPlaneCa({:?})", self.pin())
    }
}

impl fmt::Debug for ZoneCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ZoneCa({:?})", self.pin())
    }
}

fn profile(common_name: String) -> CaProfile {
    CaProfile { common_name, life: CONTROL_PLANE_CA_LIFE, path_len: 0, name_constraints: None }
}

fn load(certificate: &str, key: &str) -> Result<Authority, CaError> {
    let authority = Authority::load(certificate, key)?;
    match authority.facts().constraints {
        None => Ok(authority),
        Some(_) => Err(CaError::NotThisCa("a control plane's CA has no name constraints; is this a workload CA?".to_owned())),
    }
}

fn issue_server(
    authority: &Authority,
    fixed: &str,
    names: &ServerNames,
    life: TimeDelta,
    now: Timestamp,
    rng: &mut impl RngCore,
) -> Result<ServerCertificate, CaError> {
    let not_after = authority.end_of(life, now)?;
    let key = PrivateKey::generate()?;
    let mut params = params(now, not_after, rng);
    params.subject_alt_names = server_names(fixed, names)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = authority.sign(&params, key.pair())?;
    Ok(ServerCertificate { chain_pem: certificate.pem() + authority.pem(), key_pem: key.to_pem(), not_after })
}

#[cfg(test)]
mod tests {
    use atoll_model::ZoneUid;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::x509::{Facts, chain};

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn ca() -> ControlPlaneCa {
        ControlPlaneCa::generate(Uuid::from_u128(7), now(), &mut rng()).unwrap()
    }

    fn peer(instance: &str) -> ZonePeer {
        ZonePeer { cluster: Uuid::from_u128(7), zone: ZoneUid(Uuid::from_u128(9)), instance: instance.to_owned() }
    }

    #[test]
    fn a_ca_comes_back_from_its_pem() {
        let ca = ca();
        let again = ControlPlaneCa::load(ca.cert_pem(), ca.key_pem().expose()).unwrap();
        assert_eq!(again.pin(), ca.pin());
        let other = ControlPlaneCa::generate(Uuid::from_u128(8), now(), &mut rng()).unwrap();
        let error = ControlPlaneCa::load(ca.cert_pem(), other.key_pem().expose()).unwrap_err();
        assert_eq!(error.to_string(), "this is not a usable CA: the key belongs to another certificate");
    }

    #[test]
    fn a_server_is_named_as_people_dial_it_and_brings_its_ca() {
        let ca = ca();
        let names = ServerNames::of(["localhost", "10.0.0.1", "localhost", "::1"]);
        let server = ca.issue_server(&names, TimeDelta::days(1), now(), &mut rng()).unwrap();
        let facts = Facts::of_pem(&server.chain_pem).unwrap();
        let ipv6 = format!("ip:{}01", "00".repeat(15));
        assert_eq!(facts.other_names, ["dns:global-cp.atoll.internal", "dns:localhost", "ip:0a000001", &ipv6]);
        assert_eq!((facts.server_auth, facts.client_auth, facts.is_ca), (true, false, false));
        let chain = chain(&server.chain_pem).unwrap();
        assert_eq!(ca.pin().find_in(chain.iter().map(|der| der.as_ref())), Some(chain[1].as_ref()));
        assert!(ca.issue_server(&ServerNames::of(["é"]), TimeDelta::days(1), now(), &mut rng()).is_err());
    }

    #[test]
    fn a_zone_gets_its_own_name_whatever_it_asked_for() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wish = rcgen::CertificateParams::new(vec!["global-cp.atoll.internal".to_owned()]).unwrap();
        wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        wish.subject_alt_names.push(uri("spiffe://cp.x/zone/other/1").unwrap());
        let request = CertificateRequest::from_der(wish.serialize_request(&key).unwrap().der()).unwrap();
        let zone = ca().issue_zone(&request, &peer("1"), now(), &mut rng()).unwrap();
        let facts = Facts::of_pem(&zone.chain_pem).unwrap();
        let expected = Facts {
            pin: request.pin(),
            serial: zone.serial,
            not_before: "2026-03-01T11:40:00Z".parse().unwrap(),
            not_after: "2026-03-31T12:00:00Z".parse().unwrap(),
            empty_subject: true,
            uris: vec![peer("1").to_string()],
            other_names: Vec::new(),
            is_ca: false,
            path_len: None,
            server_auth: false,
            client_auth: true,
            constraints: None,
        };
        assert_eq!(facts, expected);
        assert_eq!(zone.not_after, expected.not_after);
        let leaf = crate::x509::chain(&zone.chain_pem).unwrap().remove(0);
        assert_eq!(crate::UserCertificate::of_der(&leaf), Err(crate::NoUser::CommonName), "no zone passes for a person");
    }

    #[test]
    fn an_instance_cannot_smuggle_a_path() {
        let request = PrivateKey::generate().unwrap().request().unwrap();
        for bad in ["", "a/b", "..", "a?b", "é"] {
            assert!(matches!(ca().issue_zone(&request, &peer(bad), now(), &mut rng()), Err(CaError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn nothing_outlives_its_ca() {
        let ca = ca();
        let late = ca.not_after() - TimeDelta::hours(1);
        let server = ca.issue_server(&ServerNames::default(), TimeDelta::days(90), late, &mut rng()).unwrap();
        assert_eq!(server.not_after, ca.not_after());
        let error = ca.issue_server(&ServerNames::default(), TimeDelta::days(90), ca.not_after(), &mut rng()).unwrap_err();
        assert!(matches!(error, CaError::Expired(_)));
    }
}
