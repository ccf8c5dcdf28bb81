//! Metrics that are read from a program's state at each scrape, instead of being counted beside it.
//!
//! Labels must have few values: names of kinds, phases, zones; never of proxies or callers.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Labels of one row.
pub type Labels = Vec<(&'static str, String)>;

/// Labels of one row with one label.
pub fn label(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

/// Writes a value that goes up and down.
///
/// # Errors
/// When the encoder fails.
pub fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// Writes one [`gauge`] for each row.
///
/// # Errors
/// When the encoder fails.
pub fn gauges(
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

/// Writes a value that only grows while the program runs; its name gets the ending `_total`.
///
/// # Errors
/// When the encoder fails.
pub fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// Writes one [`counter`] for each row.
///
/// # Errors
/// When the encoder fails.
pub fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::{collector::Collector, encoding::text::encode, registry::Registry};

    use super::*;

    #[derive(Debug)]
    struct All;

    impl Collector for All {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            gauge(&mut encoder, "a", "One", 1)?;
            gauges(&mut encoder, "b", "Two", [(label("kind", "x"), 2)])?;
            counter(&mut encoder, "c", "Three", 3)?;
            counters(&mut encoder, "d", "Four", [(label("kind", "y"), 4), (label("kind", "z"), 5)])
        }
    }

    #[test]
    fn values_are_written_as_prometheus_reads_them() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(All));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["a 1", "b{kind=\"x\"} 2", "c_total 3", "d_total{kind=\"y\"} 4", "d_total{kind=\"z\"} 5"]);
        assert!(text.contains("# HELP a One\n# TYPE a gauge\n"), "{text}");
    }
}
