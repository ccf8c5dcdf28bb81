//! How resources fare in this zone: what REST joins to its answers. Nothing that makes configuration reads it.

use std::sync::Arc;

use atoll_api::{StatusSource, plane::ProxyLayout};
use atoll_link::{LinkStatus, Phase};
use atoll_model::{Kind, ResourceKey};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    engine::ZoneView,
    join::LinkCertificate,
    layout,
    proxies::{AllWaiting, ads::Statuses},
    runners::{self, ProxyId},
};

/// Reads what the zone's stages publish.
pub struct ZoneStatus {
    /// Snapshots.
    pub view: watch::Receiver<Arc<ZoneView>>,
    /// Runners.
    pub runners: watch::Receiver<Arc<runners::registry::View>>,
    /// Discovery streams.
    pub envoys: watch::Receiver<Statuses>,
    /// Proxies without a certificate.
    pub waiting: watch::Receiver<AllWaiting>,
    /// The link; absent in a stand-alone zone.
    pub link: Option<watch::Receiver<Arc<LinkStatus>>>,
    /// What this zone shows on it.
    pub certificate: Option<watch::Receiver<LinkCertificate>>,
}

impl StatusSource for ZoneStatus {
    fn status(&self, key: &ResourceKey) -> Option<Value> {
        let view = Arc::clone(&self.view.borrow());
        atoll_mesh::status(view.meshes.get(&key.mesh)?, key)
    }

    fn layout(&self, key: &ResourceKey) -> Option<ProxyLayout> {
        let view = Arc::clone(&self.view.borrow());
        layout::answer(view.meshes.get(&key.mesh)?, key)
    }

    fn insight(&self, key: &ResourceKey) -> Option<Value> {
        match key.kind {
            Kind::Dataplane => self.dataplane(&ProxyId::new(key.mesh.clone(), key.name.clone())),
            Kind::Zone => self.link.as_ref().map(|link| self.zone(&link.borrow().clone())),
            Kind::Mesh
            | Kind::MeshService
            | Kind::MeshZoneAddress
            | Kind::HostnameGenerator
            | Kind::MeshIdentity
            | Kind::MeshTrust
            | Kind::MeshTrafficPermission
            | Kind::MeshTimeout
            | Kind::MeshTls
            | Kind::MeshLoadBalancingStrategy
            | Kind::MeshPassthrough
            | Kind::VipAllocation
            | Kind::MeshExternalService
            | Kind::MeshMultiZoneService
            | Kind::Workload
            | Kind::Secret
            | Kind::GlobalSecret
            | Kind::AccessRole
            | Kind::AccessRoleBinding => None,
        }
    }
}

impl ZoneStatus {
    fn dataplane(&self, id: &ProxyId) -> Option<Value> {
        let runners = Arc::clone(&self.runners.borrow());
        let proxy = runners.proxies.get(id)?;
        let about = proxy.about.clone().unwrap_or_default();
        let seen = self.envoys.borrow().get(id).cloned().unwrap_or_default();
        let envoy = &seen.status;
        let refused: Vec<_> = envoy
            .refused
            .iter()
            .map(|refusal| json!({ "type": refusal.kind.to_string(), "name": &*refusal.name, "error": &*refusal.reason }))
            .collect();
        let waiting = Arc::clone(&self.waiting.borrow());
        let certificate = waiting
            .get(id)
            .map(|waiting| json!({ "refused": waiting.reason, "since": waiting.since, "oldHoldsUntil": waiting.holds_until }));
        Some(json!({
            "subscriptions": subscriptions(id, &seen, [&about.runner_version, &about.envoy_version]),
            "online": proxy.status.runner || proxy.status.envoys > 0,
            "phase": proxy.status.phase,
            "heldUntil": runners.held.get(id),
            "version": { "runner": about.runner_version, "envoy": about.envoy_version },
            "runner": { "attached": proxy.status.runner, "draining": proxy.status.draining },
            "certificate": certificate,
            "envoy": { "streams": proxy.status.envoys, "appliedRevision": envoy.applied, "nacks": envoy.nacks, "refused": refused },
        }))
    }
}

impl ZoneStatus {
    /// The link, as this zone sees it.
    fn zone(&self, status: &LinkStatus) -> Value {
        let mut shown = zone(status);
        if let Some(certificate) = &self.certificate {
            let certificate = certificate.borrow();
            shown["certificate"] = json!({
                "notAfter": certificate.not_after,
                "renewAt": certificate.renew_at,
                "lastError": certificate.fault,
            });
        }
        shown
    }
}

fn zone(status: &LinkStatus) -> Value {
    json!({
        "online": status.phase != Phase::Disconnected,
        "phase": format!("{:?}", status.phase),
        "toGlobal": { "sent": status.sent, "applied": status.applied, "durable": status.durable },
        "fromGlobal": { "received": status.received, "applied": status.received_applied, "durable": status.received_durable },
        "compared": status.compared.as_ref().map(|(revision, different)| json!({ "revision": revision, "different": different })),
        "rejectedHere": status.rejected,
        "rejectedByGlobal": status.rejected_by_peer,
        "held": status.held,
        "lastError": status.last_error,
    })
}

/// What Kuma's clients read: the discovery streams that are open, as one; none when there is none.
fn subscriptions(id: &ProxyId, seen: &crate::proxies::ads::Seen, [runner, envoy]: [&str; 2]) -> Value {
    let Some(since) = seen.since.filter(|_| seen.streams > 0) else { return json!([]) };
    json!([{
        "id": id.to_string(),
        "connectTime": since,
        "status": { "total": { "responsesRejected": seen.status.nacks } },
        "version": { "kumaDp": { "version": runner }, "envoy": { "version": envoy } },
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::ads::Seen;

    #[test]
    fn kumas_clients_see_a_proxy_online_while_a_stream_is_open() {
        let id = ProxyId::new("default", "web-1");
        let since = "2026-01-01T00:00:00Z".parse().ok();
        let shown = subscriptions(&id, &Seen { streams: 1, since, ..Seen::default() }, ["0.1.0", "1.40.0"]);
        assert_eq!((&shown[0]["connectTime"], &shown[0]["disconnectTime"]), (&json!("2026-01-01T00:00:00Z"), &Value::Null));
        assert_eq!(shown[0]["version"]["envoy"]["version"], "1.40.0");
        assert_eq!(subscriptions(&id, &Seen { since, ..Seen::default() }, ["", ""]), json!([]));
    }
}
