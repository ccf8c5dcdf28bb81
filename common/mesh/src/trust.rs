//! Trust bundles: which CAs are believed for which trust domain.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{
    Name, ZoneUid,
    kinds::{MeshIdentity, MeshTrust},
    spiffe::TrustDomain,
};
use xxhash_rust::xxh3::Xxh3;

/// CAs by trust domain, of all accepted MeshTrusts of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundles {
    bundles: BTreeMap<TrustDomain, BTreeSet<String>>,
    fingerprint: u128,
}

impl Default for TrustBundles {
    /// Nobody is trusted.
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl TrustBundles {
    /// Takes the CAs, as PEM, by trust domain.
    pub fn new(bundles: BTreeMap<TrustDomain, BTreeSet<String>>) -> Self {
        let mut hasher = Xxh3::new();
        for (domain, pems) in &bundles {
            hasher.update(domain.as_str().as_bytes());
            hasher.update(&[0]);
            for pem in pems {
                hasher.update(pem.as_bytes());
                hasher.update(&[1]);
            }
        }
        Self { fingerprint: hasher.digest128(), bundles }
    }

    /// The CAs as PEM, by trust domain.
    pub fn bundles(&self) -> &BTreeMap<TrustDomain, BTreeSet<String>> {
        &self.bundles
    }

    /// Whether certificates of this trust domain can be judged.
    pub fn knows(&self, domain: &TrustDomain) -> bool {
        self.bundles.contains_key(domain)
    }

    /// Equal for equal bundles.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }
}

/// Judges the MeshTrusts of other zones. This crate stands before `trust` in the layer order, so the rule comes from the
/// caller: `atoll_trust::acceptance::judge`.
///
/// What global owns is its operator's word, what the own zone owns its own; neither is judged.
pub trait TrustAcceptance: Send + Sync {
    /// The trust domain for which the MeshTrust `name` of a zone may speak. `identities` are global's MeshIdentities of the
    /// mesh, by name.
    ///
    /// # Errors
    /// Why it is refused, in words for operators.
    fn judge(
        &self,
        name: &Name,
        owner: ZoneUid,
        trust: &MeshTrust,
        identities: &BTreeMap<Name, MeshIdentity>,
    ) -> Result<TrustDomain, String>;
}

impl<F> TrustAcceptance for F
where
    F: Fn(&Name, ZoneUid, &MeshTrust, &BTreeMap<Name, MeshIdentity>) -> Result<TrustDomain, String> + Send + Sync,
{
    fn judge(
        &self,
        name: &Name,
        owner: ZoneUid,
        trust: &MeshTrust,
        identities: &BTreeMap<Name, MeshIdentity>,
    ) -> Result<TrustDomain, String> {
        self(name, owner, trust, identities)
    }
}
