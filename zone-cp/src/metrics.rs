//! Metrics of the zone, read from what its stages publish at each scrape. Labels have few values: no proxy, no caller, no name
//! that a workload chooses.

use std::{collections::BTreeMap, fmt, sync::Arc};

use atoll_api::{access::DeniedCounts, serve::Gate};
use atoll_envoy::ResourceType;
use atoll_link::{LinkStatus, Phase};
use atoll_model::Timestamp;
use atoll_runtime::metrics::{counter, counters, gauge, gauges, label};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use tokio::sync::watch;

use crate::{
    engine::ZoneView,
    health::Health,
    identity::Identities,
    join::LinkCertificate,
    proxies::{AllWaiting, ads::Statuses},
    runners::registry,
    xds,
};

/// Reads how often requests were turned away.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    pub(crate) denied: Arc<DeniedCounts>,
    pub(crate) gate: Gate,
}

impl Collector for ApiMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.denied.shown().map(|(decision, count)| (label("decision", decision), count));
        counters(&mut encoder, "atoll_api_denied", "Requests that were turned away", rows)?;
        let rows = self.gate.shed().shown().map(|(what, count)| (label("what", what), count));
        counters(&mut encoder, "atoll_api_shed", "What was turned away because there was too much of it", rows)
    }
}

/// Reads everything but the store, which shows itself.
pub(crate) struct ZoneMetrics {
    pub(crate) health: Health,
    pub(crate) view: watch::Receiver<Arc<ZoneView>>,
    pub(crate) link: Option<watch::Receiver<Arc<LinkStatus>>>,
    pub(crate) certificate: Option<watch::Receiver<LinkCertificate>>,
    pub(crate) runners: watch::Receiver<Arc<registry::View>>,
    pub(crate) envoys: watch::Receiver<Statuses>,
    pub(crate) xds: Arc<xds::Totals>,
    pub(crate) identities: Arc<Identities>,
    /// When the first certificate of a connected proxy is due.
    pub(crate) renewal: watch::Receiver<Option<Timestamp>>,
    /// Proxies without a new certificate.
    pub(crate) waiting: watch::Receiver<AllWaiting>,
}

impl fmt::Debug for ZoneMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZoneMetrics")
    }
}

impl Collector for ZoneMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ready = u64::from(self.health.condition().is_none());
        gauge(&mut encoder, "atoll_ready", "Whether the zone can do its job", ready)?;
        let viewed = self.view.borrow().revision.0;
        gauge(&mut encoder, "atoll_view_revision", "Revision of the store that proxies are served from", viewed)?;
        if let Some(link) = &self.link {
            let status = Arc::clone(&link.borrow());
            link_metrics(&mut encoder, &status)?;
        }
        if let Some(certificate) = &self.certificate {
            let help = "When the certificate of the link ends, in Unix time";
            gauge(&mut encoder, "atoll_link_certificate_expiry_seconds", help, seconds(certificate.borrow().not_after))?;
        }
        self.proxies(&mut encoder)?;
        self.discovery(&mut encoder)?;
        self.certificates(&mut encoder)
    }
}

/// Every phase of the link.
const PHASES: [Phase; 4] = [Phase::Disconnected, Phase::Connected, Phase::OtherHistory, Phase::Restoring];
/// Every phase of a proxy.
const PROXY_PHASES: [&str; 4] = ["present", "returning", "held", "gone"];

fn link_metrics(encoder: &mut DescriptorEncoder<'_>, status: &LinkStatus) -> fmt::Result {
    let phases = PHASES.map(|phase| (label("phase", name_of(phase)), u64::from(phase == status.phase)));
    gauges(encoder, "atoll_link_phase", "1 for the phase that the link to global is in", phases)?;
    gauge(encoder, "atoll_link_sent_revision", "Newest of our revisions that global was sent", status.sent.0)?;
    gauge(encoder, "atoll_link_applied_revision", "Newest of our revisions that global applied", status.applied.0)?;
    let received = status.received_durable.0;
    gauge(encoder, "atoll_link_received_revision", "Newest of global's revisions that is durable here", received)?;
    if let Some(seen) = status.last_seen {
        gauge(encoder, "atoll_link_last_seen_seconds", "When anything last came from global, in Unix time", seconds(seen))?;
    }
    gauge(encoder, "atoll_link_healed_kinds", "Kinds taken as a whole after a difference", status.healed)?;
    gauge(encoder, "atoll_link_rejected", "Resources of global that this zone rejects", status.rejected.len() as u64)?;
    let held = status.held.values().sum();
    gauge(encoder, "atoll_link_held_deletions", "Deletions that wait for an operator's word", held)
}

fn name_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Disconnected => "disconnected",
        Phase::Connected => "connected",
        Phase::OtherHistory => "other_history",
        Phase::Restoring => "restoring",
    }
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.timestamp()).unwrap_or(0)
}

impl ZoneMetrics {
    fn proxies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let view = Arc::clone(&self.runners.borrow());
        let in_phase = |phase| view.proxies.values().filter(|proxy| proxy.status.phase == phase).count() as u64;
        let phases = PROXY_PHASES.map(|phase| (label("phase", phase), in_phase(phase)));
        gauges(encoder, "atoll_proxies", "Proxies of this zone by phase", phases)?;
        let runners = view.proxies.values().filter(|proxy| proxy.status.runner).count() as u64;
        gauge(encoder, "atoll_runner_streams", "Open streams of atoll-dp", runners)?;
        let help = "Proxies that left with too many others at once, and whose endpoints stay for a while";
        gauge(encoder, "atoll_endpoints_held", help, view.held.len() as u64)
    }

    fn discovery(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut streams, mut refused) = (0, BTreeMap::from(ResourceType::ALL.map(|kind| (kind, 0))));
        for seen in self.envoys.borrow().values() {
            streams += u64::from(seen.streams);
            for refusal in &seen.status.refused {
                *refused.entry(refusal.kind).or_default() += 1;
            }
        }
        let by_type = |(kind, count): (ResourceType, u64)| (label("type", kind.to_string()), count);
        gauge(encoder, "atoll_xds_streams", "Open discovery streams of Envoys", streams)?;
        let help = "Resources that connected proxies refuse now";
        gauges(encoder, "atoll_xds_refused_resources", help, refused.into_iter().map(by_type))?;
        counters(encoder, "atoll_xds_responses", "Responses sent", self.xds.sent().map(by_type))?;
        counters(encoder, "atoll_xds_nacks", "Responses that a proxy refused", self.xds.nacks().map(by_type))?;
        let refused = self.xds.refused().map(|(reason, count)| (label("reason", reason), count));
        counters(encoder, "atoll_xds_refused_streams", "Streams that were not let in", refused)
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        counter(encoder, "atoll_certificates_issued", "Certificates issued to proxies", self.identities.issued())?;
        let help = "Connected proxies whose certificate cannot be issued at present";
        gauge(encoder, "atoll_certificates_refused", help, self.waiting.borrow().len() as u64)?;
        match *self.renewal.borrow() {
            Some(at) => {
                let help = "When the first certificate of a connected proxy is renewed, in Unix time";
                gauge(encoder, "atoll_certificates_next_renewal_seconds", help, seconds(at))
            }
            None => Ok(()),
        }
    }
}
