//! What somebody makes who wants to pass for a workload of another zone: each forgery differs in one thing from a certificate that
//! is accepted.

use std::time::Duration;

use atoll_trust::ca::{WorkloadCa, name_constraints};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::pki::{Leaf, uri};

/// A certificate to be made: the recipe of real ones, until something is changed.
pub(crate) struct Draft {
    params: CertificateParams,
}

/// Who signs: a CA, or what poses as one.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// What the leaf shows beside itself, so that a verifier finds the way to an anchor.
    shown: String,
}

impl Draft {
    /// The recipe, with these names.
    pub(crate) fn named(names: &[SanType]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names.to_vec();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Self { params }.lives(TimeDelta::minutes(-20), TimeDelta::hours(1))
    }

    /// The recipe, for one SPIFFE id.
    pub(crate) fn of(id: &str) -> Self {
        Self::named(&[uri(id)])
    }

    /// From when to when it holds, from now on.
    pub(crate) fn lives(mut self, from: TimeDelta, until: TimeDelta) -> Self {
        self.params.not_before = date_time_ymd(1970, 1, 1) + since_1970(Utc::now() + from);
        self.params.not_after = date_time_ymd(1970, 1, 1) + since_1970(Utc::now() + until);
        self
    }

    /// A CA of a trust domain below whoever signs it: by the recipe of workload CAs, but for the length of path.
    pub(crate) fn sub_ca(domain: &str, path_len: u8) -> Self {
        let mut draft = Self::named(&[]);
        draft.params.distinguished_name.push(DnType::CommonName, "a CA below");
        draft.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        draft.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        draft.params.extended_key_usages = Vec::new();
        let der = name_constraints(&domain.parse().expect("a domain"));
        let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], der);
        extension.set_criticality(true);
        draft.params.custom_extensions.push(extension);
        draft
    }

    /// A leaf that says that it is a CA.
    pub(crate) fn claims_to_be_a_ca(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// For what its key may be used.
    pub(crate) fn used_for(mut self, usages: &[KeyUsagePurpose]) -> Self {
        self.params.key_usages = usages.to_vec();
        self
    }

    /// For what the certificate may be used.
    pub(crate) fn purposes(mut self, purposes: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = purposes.to_vec();
        self
    }

    /// Signed, with all that `signer` shows.
    pub(crate) fn signed_by(&self, signer: &Signer) -> Leaf {
        let key = key();
        let own = self.params.signed_by(&key, &signer.issuer).expect("a certificate").pem();
        Leaf { chain: format!("{own}{}", signer.shown), key: key.serialize_pem() }
    }

    /// Signed by its own key.
    pub(crate) fn self_signed(&self) -> Leaf {
        let key = key();
        Leaf { chain: self.params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
    }

    /// Somebody who signs with a certificate of this kind, be that allowed or not.
    pub(crate) fn as_signer(&self, above: &Signer) -> Signer {
        let leaf = self.signed_by(above);
        let key = KeyPair::from_pem(&leaf.key).expect("a key");
        Signer { issuer: Issuer::new(self.params.clone(), key), shown: leaf.chain }
    }
}

impl Signer {
    /// A workload CA, with its key.
    pub(crate) fn ca(ca: &WorkloadCa) -> Self {
        let key = KeyPair::from_pem(ca.key_pem().expose()).expect("a key");
        Self { issuer: Issuer::from_ca_cert_pem(ca.cert_pem(), key).expect("a CA"), shown: String::new() }
    }

    /// A CA without constraints, as one made by somebody else would be, and its certificate.
    pub(crate) fn unconstrained() -> (Self, String) {
        let mut draft = Draft::named(&[]).claims_to_be_a_ca().used_for(&[KeyUsagePurpose::KeyCertSign]);
        draft.params.distinguished_name.push(DnType::CommonName, "somebody else");
        draft.params.extended_key_usages = Vec::new();
        let key = key();
        let pem = draft.params.self_signed(&key).expect("a CA").pem();
        (Self { issuer: Issuer::new(draft.params, key), shown: String::new() }, pem)
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn since_1970(at: DateTime<Utc>) -> Duration {
    Duration::from_secs(u64::try_from(at.timestamp()).expect("after 1970"))
}
