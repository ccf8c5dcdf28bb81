//! How resources fare, as global sees it: zones by their links, identities by their trust domains.

use std::sync::Arc;

use atoll_api::{Admission, StatusSource};
use atoll_link::{GlobalLink, LinkStatus, Phase};
use atoll_model::{
    Clock, Kind, ResourceKey, Revision, Violation, ZoneUid,
    condition::{Condition, ConditionStatus},
    document::Document,
    kinds::{MeshIdentity, Zone},
};
use atoll_store::{Store, TableSnapshot};
use atoll_trust::acceptance;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    insights::Insights,
    zones::{online, trust_domains::Faults},
};

/// Global's view.
pub(crate) struct Overview {
    pub(crate) store: Store,
    pub(crate) link: GlobalLink,
    pub(crate) insights: Arc<Insights>,
    pub(crate) faults: watch::Receiver<Arc<Faults>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Overview {
    fn link_of(&self, zone: ZoneUid) -> Option<LinkStatus> {
        self.link.zones().borrow().get(&zone).cloned()
    }

    /// What its zone tells of a dataplane; of a zone that is not there, what it told last, not as what is.
    fn dataplane(&self, key: &ResourceKey) -> Option<Value> {
        let mut insight = self.insights.of(key)?;
        let atoll_model::Owner::Zone(zone) = key.owner else { return None };
        if !self.link_of(zone).is_some_and(|status| online::is_online(&status, self.clock.now())) {
            insight["online"] = json!(false);
            insight["subscriptions"] = json!([]);
            insight["zoneOffline"] = json!(true);
        }
        Some(insight)
    }

    fn uid(table: &TableSnapshot, key: &ResourceKey) -> Option<ZoneUid> {
        table.get(key)?.parse::<Zone>().ok()?.uid
    }
}

impl StatusSource for Overview {
    fn status(&self, key: &ResourceKey) -> Option<Value> {
        let faults = self.faults.borrow().get(key).cloned()?;
        let table = self.store.snapshot();
        let conditions = faults.iter().map(|(zone, fault)| {
            let zone = table.zone_name(*zone).map_or_else(|| zone.to_string(), |name| name.to_string());
            Condition {
                kind: "TrustDomainRecorded".to_owned(),
                status: ConditionStatus::False,
                reason: "Refused".to_owned(),
                message: format!("zone {zone}: {fault}"),
            }
        });
        Some(json!({"conditions": conditions.collect::<Vec<_>>()}))
    }

    fn insight(&self, key: &ResourceKey) -> Option<Value> {
        if key.kind == Kind::Dataplane {
            return self.dataplane(key);
        }
        if key.kind != Kind::Zone {
            return None;
        }
        let table = self.store.snapshot();
        let status = self.link_of(Self::uid(&table, key)?)?;
        let now = self.clock.now();
        let mut insight = online::insight(&status, now);
        insight["since"] = json!(status.since);
        insight["sync"] = sync(&status, online::is_online(&status, now), table.durable());
        Some(insight)
    }
}

/// How far a zone is: by what it has applied, never by its connection.
fn sync(status: &LinkStatus, is_online: bool, head: Revision) -> Value {
    let compared = status.peer_compared.as_ref();
    let differing = compared.map(|(_, kinds)| kinds.clone()).unwrap_or_default();
    let state = match status.phase {
        Phase::OtherHistory => "OtherHistory",
        Phase::Restoring => "Restoring",
        Phase::Connected | Phase::Disconnected if !is_online => "Unknown",
        Phase::Connected | Phase::Disconnected if !differing.is_empty() => "Differs",
        Phase::Connected | Phase::Disconnected if status.applied >= head => "InSync",
        Phase::Connected | Phase::Disconnected => "Behind",
    };
    json!({
        "state": state,
        "revision": status.applied,
        "durable": status.durable,
        "head": head,
        "digestEqual": compared.is_some_and(|(revision, kinds)| kinds.is_empty() && *revision >= status.applied),
        "comparedAt": compared.map(|(revision, _)| *revision),
        "differing": differing,
    })
}

impl Admission for Overview {
    fn review_put(&self, _: &TableSnapshot, document: &Document) -> Vec<Violation> {
        if document.kind != Kind::MeshIdentity {
            return Vec::new();
        }
        let Ok(identity) = serde_json::from_value::<MeshIdentity>(document.spec.clone()) else { return Vec::new() };
        match acceptance::separates_zones(&identity, &document.mesh) {
            Ok(()) => Vec::new(),
            Err(fault) => vec![Violation::new("spec.spiffeID.trustDomain", fault.to_string())],
        }
    }

    fn review_delete(&self, table: &TableSnapshot, key: &ResourceKey) -> Vec<Violation> {
        if key.kind != Kind::Zone {
            return Vec::new();
        }
        let status = Self::uid(table, key).and_then(|zone| self.link_of(zone));
        let is_online = status.is_some_and(|status| online::is_online(&status, self.clock.now()));
        let message = "unable to delete Zone, Zone CP is still connected, please shut it down first";
        is_online.then(|| Violation::new("zone", message)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: impl FnOnce(&mut LinkStatus), is_online: bool, expected: &str, equal: bool) {
        let mut status = LinkStatus { phase: Phase::Connected, applied: Revision(7), ..LinkStatus::default() };
        edit(&mut status);
        let shown = sync(&status, is_online, Revision(7));
        assert_eq!((shown["state"].as_str(), shown["digestEqual"].as_bool()), (Some(expected), Some(equal)), "{shown}");
    }

    #[test]
    fn a_zone_is_in_sync_only_by_what_it_applied() {
        check(|_| (), true, "InSync", false);
        check(|status| status.peer_compared = Some((Revision(7), vec![])), true, "InSync", true);
        check(|status| status.peer_compared = Some((Revision(5), vec![])), true, "InSync", false);
        check(|status| status.applied = Revision(6), true, "Behind", false);
        check(|status| status.peer_compared = Some((Revision(7), vec!["Mesh".to_owned()])), true, "Differs", false);
        check(|_| (), false, "Unknown", false);
        check(|status| status.phase = Phase::OtherHistory, true, "OtherHistory", false);
    }
}
