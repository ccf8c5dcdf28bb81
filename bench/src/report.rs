//! Results: one JSON line a cell, and a table.

use comfy_table::Table;
use serde::Serialize;

/// Percentiles of a series.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) n: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// By nearest rank.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let rank = |percent: f64| {
            let at = (values.len() as f64 * percent / 100.0).ceil() as usize;
            values.get(at.clamp(1, values.len().max(1)) - 1).copied().unwrap_or(0.0)
        };
        Self { n: values.len(), p50: rank(50.0), p90: rank(90.0), p99: rank(99.0), max: rank(100.0) }
    }
}

/// One cell; the names are fixed, tools read them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: String,
    pub(crate) store: &'static str,
    pub(crate) proxies: usize,
    pub(crate) services: usize,
    pub(crate) zones: usize,
    pub(crate) n: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) timeouts: usize,
    pub(crate) cpu_us_per_op: u64,
    pub(crate) rss_mb: f64,
    pub(crate) bytes: u64,
    pub(crate) fsync_p50_ms: f64,
    /// Answer of REST alone.
    pub(crate) ack_p50_ms: f64,
    pub(crate) ack_p99_ms: f64,
    /// First proxy to hold the change.
    pub(crate) first_p50_ms: f64,
    pub(crate) first_p99_ms: f64,
    /// What the real Envoy of the run says.
    pub(crate) canary: String,
}

/// Prints the cells.
pub(crate) fn print(cells: &[Cell]) {
    for cell in cells {
        println!("{}", serde_json::to_string(cell).unwrap_or_default());
    }
    let mut table = Table::new();
    table.set_header([
        "cell",
        "n",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "timeouts",
        "REST p50/p99",
        "first p50/p99",
        "CPU µs/op",
        "RSS MiB",
        "fsync p50",
        "canary",
    ]);
    for cell in cells {
        table.add_row([
            format!("{} {} proxies on {}", cell.workload, cell.proxies, cell.store),
            cell.n.to_string(),
            ms(cell.p50_ms),
            ms(cell.p90_ms),
            ms(cell.p99_ms),
            ms(cell.max_ms),
            cell.timeouts.to_string(),
            format!("{}/{}", ms(cell.ack_p50_ms), ms(cell.ack_p99_ms)),
            format!("{}/{}", ms(cell.first_p50_ms), ms(cell.first_p99_ms)),
            cell.cpu_us_per_op.to_string(),
            format!("{:.0}", cell.rss_mb),
            ms(cell.fsync_p50_ms),
            cell.canary.clone(),
        ]);
    }
    println!("{table}");
}

fn ms(value: f64) -> String {
    format!("{value:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_series() {
        let spread = Spread::of((1..=100).map(f64::from).collect());
        assert_eq!((spread.p50, spread.p90, spread.p99, spread.max), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(Spread::of(vec![7.0]).p99, 7.0);
        assert_eq!(Spread::of(Vec::new()).max, 0.0);
    }
}
