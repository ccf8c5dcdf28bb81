//! What a store shows of itself to Prometheus.

use std::fmt;

use atoll_model::Kind;
use atoll_runtime::metrics::{counter, gauge, gauges, label};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use crate::Store;

/// Reads a store at each scrape.
#[derive(Debug)]
pub struct StoreMetrics(Store);

impl StoreMetrics {
    /// Of this store.
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.0.snapshot();
        let available = u64::from(self.0.is_available());
        gauge(&mut encoder, "atoll_store_available", "Whether the store takes writes", available)?;
        gauge(&mut encoder, "atoll_store_revision", "Newest revision", table.revision().0)?;
        gauge(&mut encoder, "atoll_store_durable_revision", "Newest durable revision", table.durable().0)?;
        let dropped = self.0.denied_dropped();
        counter(&mut encoder, "atoll_store_audit_dropped", "Refused requests that the audit does not have", dropped)?;
        let counts = Kind::ALL.iter().map(|kind| (label("kind", kind.name()), table.list(*kind, None).count() as u64));
        gauges(&mut encoder, "atoll_resources", "Resources by kind", counts)
    }
}
