//! Counters and histograms of one Envoy, and how they moved.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::lab::admin::Admin;

/// What tells a connection's story.
const COUNTERS: &str = r"(downstream_cx_total|downstream_cx_rx_bytes_total|downstream_cx_tx_bytes_total|upstream_cx_total|upstream_cx_tx_bytes_total|upstream_cx_rx_bytes_total|ssl\.handshake|ssl\.fail_verify_san|rbac\.allowed|rbac\.denied|tls_inspector\..*)$";
/// How long connecting took, and how long a connection lived.
const TIMES: &str = r"^cluster\..*upstream_cx_(connect|length)_ms$";

/// One reading.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    counters: BTreeMap<String, u64>,
    /// Histogram → lower bound and width of a bin, in 1/1000 → samples.
    times: BTreeMap<String, BTreeMap<(u64, u64), u64>>,
}

/// The difference of two readings.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    counters: BTreeMap<String, u64>,
    times: BTreeMap<String, Vec<(f64, f64)>>,
}

/// Reads several Envoys.
pub async fn read_all(admins: &[Admin]) -> Result<Vec<Counters>> {
    let mut all = Vec::new();
    for admin in admins {
        all.push(read(admin).await?);
    }
    Ok(all)
}

async fn read(admin: &Admin) -> Result<Counters> {
    let counters = admin.stats(COUNTERS).await?;
    let counters = counters.into_iter().filter(|(name, _)| !name.contains(".worker_")).collect();
    Ok(Counters { counters, times: bins(&admin.histograms(TIMES).await?) })
}

/// The bins of Envoy's `histogram_buckets=detailed`.
fn bins(answer: &Value) -> BTreeMap<String, BTreeMap<(u64, u64), u64>> {
    let details =
        answer["stats"].as_array().and_then(|stats| stats.iter().find_map(|stat| stat["histograms"]["details"].as_array()));
    let thousandths = |value: &Value| (value.as_f64().unwrap_or_default() * 1000.0).round() as u64;
    let one = |detail: &Value| {
        let totals = detail["totals"].as_array().cloned().unwrap_or_default();
        let bins = totals
            .iter()
            .map(|bin| ((thousandths(&bin["lower_bound"]), thousandths(&bin["width"])), bin["count"].as_u64().unwrap_or(0)));
        Some((detail["name"].as_str()?.to_owned(), bins.collect()))
    };
    details.into_iter().flatten().filter_map(one).collect()
}

impl Counters {
    /// What happened since `before`.
    pub fn moved_since(&self, before: &Self) -> Moved {
        let risen = self.counters.iter().filter_map(|(name, now)| {
            let rise = now.saturating_sub(before.counters.get(name).copied().unwrap_or(0));
            (rise > 0).then(|| (name.clone(), rise))
        });
        let times = self.times.iter().filter_map(|(name, now)| {
            let known = before.times.get(name);
            let new = now.iter().filter(|(bin, count)| **count > known.and_then(|known| known.get(bin)).copied().unwrap_or(0));
            let new: Vec<_> = new.map(|((low, width), _)| (*low as f64 / 1000.0, *width as f64 / 1000.0)).collect();
            (!new.is_empty()).then(|| (name.clone(), new))
        });
        Moved { counters: risen.collect(), times: times.collect() }
    }
}

impl Moved {
    /// Whether the lengths of connections have come, which Envoy adds up every few seconds.
    pub fn is_merged(&self) -> bool {
        self.times.keys().any(|name| name.ends_with("upstream_cx_length_ms"))
    }

    /// By how much the counters rose whose names start and end so.
    pub fn rise(&self, start: &str, end: &str) -> u64 {
        self.counters.iter().filter(|(name, _)| name.starts_with(start) && name.ends_with(end)).map(|(_, rise)| rise).sum()
    }

    /// The clusters that opened connections.
    pub fn clusters(&self) -> Vec<String> {
        let opened = self.counters.keys().filter_map(|name| name.strip_prefix("cluster.")?.strip_suffix(".upstream_cx_total"));
        opened.filter(|name| *name != "ads_cluster").map(str::to_owned).collect()
    }

    /// A new sample of a cluster's histogram, as a range in milliseconds.
    pub fn time(&self, cluster: &str, what: &str) -> Option<String> {
        let bins = self.times.get(&format!("cluster.{cluster}.{what}"))?;
        let shown = bins.iter().map(|(low, width)| match (*low, *width) {
            (0.0, _) => "less than 1 ms".to_owned(),
            (low, 0.0) => format!("{low} ms"),
            (low, width) => format!("{low} to {:.1} ms", low + width),
        });
        Some(shown.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reading(count: u64, bins: Value) -> Counters {
        let answer =
            json!({"stats": [{"histograms": {"details": [{"name": "cluster.a.upstream_cx_length_ms", "totals": bins}]}}]});
        Counters { counters: BTreeMap::from([("cluster.a.upstream_cx_total".into(), count)]), times: super::bins(&answer) }
    }

    #[test]
    fn only_what_moved_is_shown() {
        let before = reading(3, json!([{"lower_bound": 1, "width": 0.25, "count": 3}]));
        let after =
            reading(4, json!([{"lower_bound": 1, "width": 0.25, "count": 3}, {"lower_bound": 7, "width": 0.1, "count": 1}]));
        let moved = after.moved_since(&before);
        assert_eq!(moved.rise("cluster.a.", "upstream_cx_total"), 1);
        assert_eq!(moved.clusters(), ["a"]);
        assert_eq!(moved.time("a", "upstream_cx_length_ms").as_deref(), Some("7 to 7.1 ms"));
        assert!(moved.is_merged() && !before.moved_since(&before).is_merged());
    }
}
