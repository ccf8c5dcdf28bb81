//! VipAllocation rows: every address in force is stored, and stays reserved for a while after its service is gone.

use std::net::IpAddr;

use atoll_model::{Labels, Owner, ResourceKey, Timestamp, labels, resource::canonical_json};

use super::{Grace, Plan, Planned, grace, with_grace, without_grace};
use crate::vips::{Row, Vips, row_key, row_spec};

impl Vips {
    /// `exists` says whether there still is such a service.
    pub(crate) fn plan(&mut self, owner: Owner, now: Timestamp, exists: impl Fn(&ResourceKey) -> bool, plan: &mut Plan) {
        for (key, resource) in &self.stray {
            plan.writes.push(Planned::Delete { key: key.clone(), version: Some(resource.version) });
        }
        for service in std::mem::take(&mut self.todo) {
            let done = match (self.held(&service), self.row(&service)) {
                (Some(ip), row) => plan_held(&service, IpAddr::V4(ip), row, owner, plan),
                (None, Some(row)) if !exists(&service) => plan_end(row, now, plan),
                (None, Some(_) | None) => true,
            };
            if !done {
                self.todo.insert(service);
            }
        }
    }
}

/// Whether the row is as it should be.
fn plan_held(service: &ResourceKey, ip: IpAddr, row: Option<&Row>, owner: Owner, plan: &mut Plan) -> bool {
    let is_right = |row: &Row| IpAddr::V4(row.ip) == ip && !row.resource.labels.contains_key(labels::DELETION_GRACE);
    if row.is_some_and(is_right) {
        return true;
    }
    plan.writes.push(Planned::Put {
        key: row_key(service, owner),
        labels: row.map_or_else(Labels::new, |row| without_grace(&row.resource.labels)),
        spec: canonical_json(&row_spec(service, ip)),
        version: row.map(|row| row.resource.version),
    });
    false
}

/// A name must not lead to somebody else while resolvers still remember it.
fn plan_end(row: &Row, now: Timestamp, plan: &mut Plan) -> bool {
    let (key, version) = (row.resource.key.clone(), Some(row.resource.version));
    match grace(&row.resource.labels, now) {
        Grace::Absent => {
            let labels = with_grace(&row.resource.labels, now);
            plan.writes.push(Planned::Put { key, labels, spec: row.resource.spec.clone(), version });
        }
        Grace::Until(end) => plan.wake_at(end),
        Grace::Over => plan.writes.push(Planned::Delete { key, version }),
    }
    false
}
