//! Metrics of global's links, read at each scrape.

use std::{fmt, sync::Arc};

use atoll_api::{access::DeniedCounts, serve::Gate};
use atoll_link::GlobalLink;
use atoll_model::Clock;
use atoll_runtime::metrics::{counters, gauges, label};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use crate::zones::online;

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

/// Reads the links.
pub(crate) struct LinkMetrics {
    pub(crate) link: GlobalLink,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for LinkMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkMetrics")
    }
}

impl Collector for LinkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let zones = self.link.zones().borrow().clone();
        let now = self.clock.now();
        let named = |read: fn(&atoll_link::LinkStatus, atoll_model::Timestamp) -> u64| {
            let rows = zones.values().filter_map(move |status| {
                let (name, _) = status.zone.as_ref()?;
                Some((label("zone", name.to_string()), read(status, now)))
            });
            rows.collect::<Vec<_>>()
        };
        let is_online = named(|status, now| u64::from(online::is_online(status, now)));
        gauges(&mut encoder, "atoll_zone_online", "Whether the zone is there", is_online)?;
        let applied = named(|status, _| status.applied.0);
        gauges(&mut encoder, "atoll_zone_applied_revision", "Newest of our revisions that the zone applied", applied)?;
        let received = named(|status, _| status.received_durable.0);
        gauges(&mut encoder, "atoll_zone_received_revision", "Newest of the zone's revisions that is durable here", received)?;
        let healed = named(|status, _| status.healed);
        gauges(&mut encoder, "atoll_zone_healed_kinds", "Kinds sent as a whole after a difference", healed)
    }
}
