//! For which MeshIdentities this zone issues, and what it publishes of their CAs.

use atoll_model::{
    Kind, Name, Owner, Resource, ResourceKey, ZoneUid,
    kinds::{MeshIdentity, mesh_identity::MeshTrustCreation},
    spiffe::TrustDomain,
};
use atoll_store::TableSnapshot;
use atoll_trust::{acceptance, ca::LEAF_LIFE};
use chrono::TimeDelta;

use super::rotation::{FORCE, ROTATE};

/// Shortest life of a leaf: below that, proxies would do nothing but renew.
const LEAF_LIFE_MIN: TimeDelta = TimeDelta::minutes(1);

/// A MeshIdentity for which this zone issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) identity: ResourceKey,
    pub(super) domain: TrustDomain,
    pub(super) publish: bool,
    pub(super) leaf_life: TimeDelta,
    /// What the label [`ROTATE`] asks for.
    pub(super) rotate: Option<String>,
    /// That rotation waits for nobody.
    pub(super) force: bool,
}

impl Wanted {
    /// Mesh and name of its MeshTrust.
    pub(super) fn trust_key(&self) -> (Name, Name) {
        (self.identity.mesh.clone(), self.identity.name.clone())
    }
}

/// Every MeshIdentity for which this zone issues now. For one of global's the trust domain must be recorded for this zone; for one
/// that the zone owns (all of a stand-alone zone's are such) the template says it.
pub(super) fn wanted(table: &TableSnapshot, zone: &Name, uid: ZoneUid) -> Vec<Wanted> {
    table.list(Kind::MeshIdentity, None).filter_map(|resource| one(resource, zone, uid)).collect()
}

fn one(resource: &Resource, zone: &Name, uid: ZoneUid) -> Option<Wanted> {
    let (key, identity) = (&resource.key, &resource.parse::<MeshIdentity>().ok()?);
    if !acceptance::zones_issue(identity) {
        return None;
    }
    let domain = match key.owner {
        Owner::Global => identity.trust_domains.get(&uid.to_string())?.parse().ok()?,
        Owner::Zone(owner) if owner == uid => identity.trust_domain(&key.mesh, zone).ok()?,
        Owner::Zone(_) => return None,
    };
    let bundled = identity.provider.as_ref()?.bundled.as_ref()?;
    let asked = bundled.certificate_parameters.as_ref().and_then(|parameters| parameters.expiry);
    let asked = asked.filter(|expiry| expiry.0 > 0).and_then(|expiry| TimeDelta::from_std(expiry.to_std()).ok());
    Some(Wanted {
        identity: key.clone(),
        domain,
        publish: publishes(identity),
        rotate: resource.labels.get(ROTATE).cloned(),
        force: resource.labels.get(FORCE).is_some_and(|forced| Some(forced) == resource.labels.get(ROTATE)),
        leaf_life: asked.unwrap_or(LEAF_LIFE).max(LEAF_LIFE_MIN),
    })
}

/// Whether the MeshTrust of this name goes: its MeshIdentity was deleted, or publishes no trust any more. That the MeshIdentity is
/// not there proves nothing: a zone that lost its store gets its own resources back before global's.
pub(super) fn is_withdrawn(table: &TableSnapshot, mesh: &Name, name: &Name, uid: ZoneUid) -> bool {
    let mut withdrawn = false;
    for owner in [Owner::Global, Owner::Zone(uid)] {
        let key = ResourceKey::new(Kind::MeshIdentity, mesh.clone(), name.clone(), owner);
        match table.get(&key).map(|resource| resource.parse::<MeshIdentity>()) {
            Some(Ok(identity)) if publishes(&identity) => return false,
            Some(Ok(_)) => withdrawn = true,
            Some(Err(_)) => return false,
            None => withdrawn |= table.tombstone(&key).is_some(),
        }
    }
    withdrawn
}

fn publishes(identity: &MeshIdentity) -> bool {
    let bundled = identity.provider.as_ref().and_then(|provider| provider.bundled.as_ref());
    let disabled = bundled.is_some_and(|bundled| bundled.mesh_trust_creation == Some(MeshTrustCreation::Disabled));
    acceptance::zones_issue(identity) && !disabled
}
