//! This zone's last word on what global sends, and whose trust it believes.

use std::collections::BTreeMap;

use atoll_link::{Review, Verdict};
use atoll_mesh::TrustAcceptance;
use atoll_model::{
    Kind, Labels, Name, Owner, ResourceKey, ZoneUid,
    kinds::{MeshIdentity, MeshTrust},
};
use atoll_store::Store;
use atoll_trust::acceptance as rule;
use serde_json::Value;

/// The rule for MeshTrusts of other zones, for the index.
pub fn acceptance() -> impl TrustAcceptance {
    |name: &Name, owner: ZoneUid, trust: &MeshTrust, identities: &BTreeMap<Name, MeshIdentity>| {
        rule::judge(name, owner, trust, identities).map_err(|refusal| refusal.to_string())
    }
}

/// Takes what its kind's check takes, and other zones' MeshTrusts only for the domain that global recorded: global is not believed
/// for having stored them.
pub struct ZoneReview(Store);

impl ZoneReview {
    /// Judges by the newest table.
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Review for ZoneReview {
    fn review(&self, key: &ResourceKey, _: &Labels, spec: &Value) -> Verdict {
        atoll_sync::review::check(key.kind, spec)?;
        match (key.kind, key.owner) {
            (Kind::MeshTrust, Owner::Zone(zone)) => {
                let trust: MeshTrust = serde_json::from_value(spec.clone()).map_err(|error| error.to_string())?;
                let table = self.0.snapshot();
                let identities = table.list(Kind::MeshIdentity, Some(&key.mesh)).filter(|held| held.key.owner == Owner::Global);
                let identities = identities.filter_map(|held| Some((held.key.name.clone(), held.parse().ok()?))).collect();
                rule::judge(&key.name, zone, &trust, &identities).map(|_| ()).map_err(|refusal| refusal.to_string())
            }
            (_, _) => Ok(()),
        }
    }
}
