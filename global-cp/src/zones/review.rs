//! Global's last word on what zones send.

use atoll_link::{Review, Verdict};
use atoll_model::{Kind, Labels, Owner, ResourceKey, kinds::MeshTrust};
use atoll_store::Store;
use atoll_trust::acceptance;
use serde_json::Value;

use super::trust_domains::identities_of;

/// Takes what its kind's check takes, and MeshTrusts only for the domain that global recorded for the zone.
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
                let identities = identities_of(&self.0.snapshot(), &key.mesh);
                acceptance::judge(&key.name, zone, &trust, &identities).map(|_| ()).map_err(|refusal| refusal.to_string())
            }
            (_, _) => Ok(()),
        }
    }
}
