//! Metrics, read from the plane's state at each scrape.

use std::{fmt, sync::Arc};

use atoll_link::GlobalLink;
use atoll_model::{Clock, Kind};
use atoll_store::Store;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::zones::online;

/// Reads the store and the links.
pub(crate) struct PlaneMetrics {
    pub(crate) store: Store,
    pub(crate) link: GlobalLink,
    pub(crate) clock: Arc<dyn Clock>,
}

impl fmt::Debug for PlaneMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaneMetrics")
    }
}

impl Collector for PlaneMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.store.snapshot();
        let available = u64::from(self.store.is_available());
        number(&mut encoder, "atoll_store_available", "Whether the store takes writes", available)?;
        number(&mut encoder, "atoll_store_revision", "Newest revision", table.revision().0)?;
        number(&mut encoder, "atoll_store_durable_revision", "Newest durable revision", table.durable().0)?;
        let counts =
            Kind::ALL.iter().map(|kind| (vec![("kind", kind.name().to_owned())], table.list(*kind, None).count() as u64));
        gauge(&mut encoder, "atoll_resources", "Resources by kind", counts)?;
        let zones = self.link.zones().borrow().clone();
        let now = self.clock.now();
        let named = |read: fn(&atoll_link::LinkStatus, atoll_model::Timestamp) -> u64| {
            let rows = zones.values().filter_map(move |status| {
                let (name, _) = status.zone.as_ref()?;
                Some((vec![("zone", name.to_string())], read(status, now)))
            });
            rows.collect::<Vec<_>>()
        };
        let is_online = named(|status, now| u64::from(online::is_online(status, now)));
        gauge(&mut encoder, "atoll_zone_online", "Whether the zone is there", is_online)?;
        let applied = named(|status, _| status.applied.0);
        gauge(&mut encoder, "atoll_zone_applied_revision", "Newest of our revisions that the zone applied", applied)?;
        let received = named(|status, _| status.received_durable.0);
        gauge(&mut encoder, "atoll_zone_received_revision", "Newest of the zone's revisions that is durable here", received)?;
        let healed = named(|status, _| status.healed);
        gauge(&mut encoder, "atoll_zone_healed_kinds", "Kinds sent as a whole after a difference", healed)
    }
}

fn number(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

type Labels = Vec<(&'static str, String)>;

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
