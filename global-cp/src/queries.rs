//! Questions to zones, and the operator's word on what global holds back of them.

use atoll_api::{LinkError, Links, Question, Word};
use atoll_link::{GlobalLink, QueryError};
use atoll_model::{Kind, Name, Owner, ResourceKey, ZoneUid, kinds::Zone};
use atoll_store::Store;
use bytes::Bytes;
use serde_json::{Value, json};

/// The links of global.
pub(crate) struct ZoneLinks {
    pub(crate) store: Store,
    pub(crate) link: GlobalLink,
}

impl ZoneLinks {
    fn uid(&self, zone: &Name) -> Result<ZoneUid, LinkError> {
        let key = ResourceKey::new(Kind::Zone, Name::none(), zone.clone(), Owner::Global);
        let table = self.store.snapshot();
        let resource = table.get(&key).ok_or_else(|| LinkError::UnknownZone(zone.clone()))?;
        let uid = resource.parse::<Zone>().ok().and_then(|zone| zone.uid);
        uid.ok_or_else(|| {
            LinkError::NotConnected(format!("zone {zone} has not joined yet; `atoll token zone {zone}` makes its token"))
        })
    }
}

fn not_connected(zone: &Name) -> LinkError {
    LinkError::NotConnected(format!(
        "zone {zone} has no link to this instance of global: is its zone-cp running, and can it reach this plane's link port?"
    ))
}

#[async_trait::async_trait]
impl Links for ZoneLinks {
    async fn ask(&self, zone: &Name, question: Question) -> Result<Value, LinkError> {
        let answer = self.link.query(self.uid(zone)?, question.path(), Bytes::new()).await.map_err(|error| match error {
            QueryError::NotConnected => not_connected(zone),
            QueryError::Timeout => LinkError::Timeout(format!(
                "zone {zone} did not answer in time; is it overloaded? its log and /metrics may say more"
            )),
            QueryError::Failed(why) => LinkError::Failed(format!("zone {zone}: {why}")),
        })?;
        let unreadable = |error| LinkError::Failed(format!("zone {zone} answered what cannot be read: {error}"));
        serde_json::from_slice(&answer).map_err(unreadable)
    }

    async fn say(&self, zone: Option<&Name>, word: Word) -> Result<Value, LinkError> {
        let (Some(zone), Word::Release(kind)) = (zone, word) else {
            return Err(LinkError::NotHere("this is said on the control plane of the zone that it is about".to_owned()));
        };
        let uid = self.uid(zone)?;
        let held = self.link.zones().borrow().get(&uid).and_then(|status| status.held.get(kind.name()).copied()).unwrap_or(0);
        if held == 0 {
            return Err(LinkError::Nothing(format!("global holds no deletions of {kind} of zone {zone}")));
        }
        if !self.link.release(uid, kind).await {
            return Err(not_connected(zone));
        }
        Ok(json!({ "zone": zone, "kind": kind.name(), "released": held }))
    }
}
