//! `atoll check`: whether the federation is well, a line for each point.

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde_json::Value;

use crate::{Connection, client::Client, columns, output::Table};

/// Checks the federation: global, zones, links, published addresses.
#[derive(Debug, Args)]
pub struct Check {}

/// One point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: String,
    /// What was seen, or what to do.
    pub detail: String,
}

/// Whether a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Ok,
    /// It does not, and that may be meant.
    Note,
    /// It does not.
    Fail,
}

impl Check {
    /// Runs the command; exit code 1 when a point fails.
    ///
    /// # Errors
    /// When global cannot be reached at all.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let client = Client::of(connection)?;
        let index = client.get_json(&[], &[]).await?;
        let who = client.get_json(&["who-am-i"], &[]).await?;
        let ready = client.call(http::Method::GET, &["ready"], &[], None).await?;
        let zones = client.list(&["zones", "_overview"], &[]).await?;
        let addresses = client.list(&["meshzoneaddresses"], &[]).await?;
        let not_ready = (!ready.status.is_success()).then(|| ready.problem().detail);
        let mut points = vec![plane(&client, &index, &who), readiness(not_ready)];
        points.extend(zones_and_links(&zones, &addresses));
        print(&points, out)?;
        let failed = points.iter().any(|point| point.verdict == Verdict::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(points: &[Point], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new(&["", "CHECK", "DETAIL"]);
    for point in points {
        let mark = match point.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Fail => "FAIL",
        };
        table.row([mark.to_owned(), point.what.clone(), point.detail.clone()]);
    }
    table.print(out)
}

fn point(holds: bool, what: impl Into<String>, detail: impl Into<String>) -> Point {
    let verdict = if holds { Verdict::Ok } else { Verdict::Fail };
    Point { verdict, what: what.into(), detail: detail.into() }
}

fn plane(client: &Client, index: &Value, who: &Value) -> Point {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let detail = format!(
        "{} {} ({}) at {}, as {}",
        text(&index["atoll"]["product"]),
        text(&index["atoll"]["version"]),
        text(&index["atoll"]["mode"]),
        client.url(),
        text(&who["name"]),
    );
    point(true, "control plane", detail)
}

fn readiness(not_ready: Option<String>) -> Point {
    match not_ready {
        None => point(true, "ready", "its store takes writes"),
        Some(why) => point(false, "ready", why),
    }
}

/// Each zone: online, in sync, with an address for the others.
fn zones_and_links(zones: &[Value], addresses: &[Value]) -> Vec<Point> {
    if zones.is_empty() {
        let detail = "none has joined; `atoll token zone NAME` makes the token by which one joins";
        return vec![Point { verdict: Verdict::Note, what: "zones".to_owned(), detail: detail.to_owned() }];
    }
    zones.iter().flat_map(|zone| of_zone(zone, addresses)).collect()
}

fn of_zone(zone: &Value, addresses: &[Value]) -> Vec<Point> {
    let name = zone["name"].as_str().unwrap_or("?");
    let insight = &zone["zoneInsight"];
    let is_online = insight["online"] == true;
    let since = insight["since"].as_str().unwrap_or("?");
    let online = if is_online {
        format!("since {since}")
    } else {
        format!("offline since {since}; is its zone-cp running, and can it reach this plane's link port?")
    };
    let sync = &insight["sync"];
    let in_sync = sync["state"] == "InSync";
    let mut points = vec![
        point(is_online, format!("zone {name} online"), online),
        point(in_sync, format!("zone {name} in sync"), columns::sync(sync)),
    ];
    let own: Vec<String> = addresses
        .iter()
        .filter(|address| address["labels"]["kuma.io/zone"] == name)
        .map(|address| format!("{}:{}", address["spec"]["address"].as_str().unwrap_or("?"), address["spec"]["port"]))
        .collect();
    points.push(Point {
        verdict: if own.is_empty() { Verdict::Note } else { Verdict::Ok },
        what: format!("zone {name} ingress"),
        detail: if own.is_empty() {
            "no ingress is ready: other zones cannot reach its services".to_owned()
        } else {
            format!("published at {}", own.join(", "))
        },
    });
    points
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdicts(zone: Value, addresses: &[Value]) -> Vec<Verdict> {
        zones_and_links(&[zone], addresses).into_iter().map(|point| point.verdict).collect()
    }

    #[test]
    fn a_zone_is_judged_by_its_state_and_not_by_its_connection() {
        let well = json!({"name": "gcp", "zoneInsight": {"online": true, "sync": {"state": "InSync", "revision": 3}}});
        let address = json!({"labels": {"kuma.io/zone": "gcp"}, "spec": {"address": "10.0.0.1", "port": 10001}});
        assert_eq!(verdicts(well.clone(), &[address]), [Verdict::Ok, Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(well, &[]), [Verdict::Ok, Verdict::Ok, Verdict::Note]);
        let behind = json!({"name": "gcp", "zoneInsight": {"online": true, "sync": {"state": "Behind", "revision": 3}}});
        assert_eq!(verdicts(behind, &[]), [Verdict::Ok, Verdict::Fail, Verdict::Note]);
        assert_eq!(verdicts(json!({"name": "gcp", "zoneInsight": {}}), &[])[..2], [Verdict::Fail, Verdict::Fail]);
        assert_eq!(zones_and_links(&[], &[])[0].verdict, Verdict::Note);
    }
}
