//! `atoll check`: whether the federation is well, a line for each point.
//!
//! ```text
//!   plane ─▶ zones: online, in sync, held ─▶ from each zone: ingresses of the others ─▶ names of all zones, compared
//! ```

use std::{collections::BTreeMap, io::Write, process::ExitCode, time::Duration};

use clap::Args;
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::{
    Connection,
    client::Client,
    output::{self, Format, Ordered, Table},
};

mod ingresses;
mod names;
mod point;
mod zones;

pub use point::{Point, Verdict};

/// Names travel with changes: what a zone lacks is looked for again after this.
const SETTLE: Duration = Duration::from_secs(1);

/// Checks the federation: global, zones, links, ingresses as the other zones see them, names.
#[derive(Debug, Args)]
pub struct Check {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl Check {
    /// Runs the command; exit code 1 when a point fails.
    ///
    /// # Errors
    /// When the plane cannot be reached at all.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let client = Client::of(connection)?;
        let points = all(&client).await?;
        self.print(&points, out)?;
        let failed = points.iter().any(|point| point.verdict == Verdict::Fail);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn print(&self, points: &[Point], out: &mut dyn Write) -> anyhow::Result<()> {
        match self.output {
            Format::Table => {
                let mut table = Table::new(&["", "CHECK", "DETAIL"]);
                for point in points {
                    table.row([point.verdict.mark().to_owned(), point.what.clone(), point.detail.clone()]);
                }
                table.print(out)?;
            }
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(points)?)?,
            Format::Yaml => {
                let items: Ordered = serde_json::from_str(&serde_json::to_string(points)?)?;
                output::documents(items, out)?;
            }
        }
        Ok(())
    }
}

/// Every point, in the order in which they are looked at.
async fn all(client: &Client) -> anyhow::Result<Vec<Point>> {
    let index = client.get_json(&[], &[]).await?;
    let who = client.get_json(&["who-am-i"], &[]).await?;
    let ready = client.call(Method::GET, &["ready"], &[], None).await?;
    let not_ready = (!ready.status.is_success()).then(|| ready.problem().detail);
    let mut points = vec![zones::plane(client, &index, &who), zones::readiness(not_ready)];
    match index["atoll"]["zone"].as_str() {
        Some(zone) => points.extend(of_zone(client, zone).await?),
        None => points.extend(federation(client).await?),
    }
    Ok(points)
}

/// What global knows, and what its zones say.
async fn federation(client: &Client) -> anyhow::Result<Vec<Point>> {
    let zones = client.list(&["zones", "_overview"], &[]).await?;
    let addresses = client.list(&["meshzoneaddresses"], &[]).await?;
    let mut points = zones::all(&zones, &addresses);
    let online: Vec<&str> = zones.iter().filter(|zone| zones::is_online(zone)).filter_map(|zone| zone["name"].as_str()).collect();
    let probed = join_all(online.iter().map(|zone| asked(client, zone, "_probe"))).await;
    for (zone, answer) in online.iter().zip(probed) {
        match answer {
            Ok(answer) => points.extend(ingresses::judge(zone, &answer, &zones, &addresses)),
            Err(point) => points.push(point),
        }
    }
    let generators = client.list(&["hostnamegenerators"], &[]).await?;
    points.extend(names_of(client, &online, &zones, &generators).await);
    Ok(points)
}

/// One zone, asked at its own plane.
async fn of_zone(client: &Client, zone: &str) -> anyhow::Result<Vec<Point>> {
    let known = client.list(&["zones", "_overview"], &[]).await?;
    let own = known.iter().find(|known| known["name"] == zone);
    let mut points: Vec<Point> = own.map(zones::own_link).unwrap_or_default();
    match asked(client, zone, "_probe").await {
        Ok(answer) => points.extend(ingresses::judge(zone, &answer, &[], &[])),
        Err(point) => points.push(point),
    }
    points.extend(names_of(client, &[zone], &[], &[]).await);
    Ok(points)
}

async fn names_of(client: &Client, online: &[&str], zones: &[Value], generators: &[Value]) -> Vec<Point> {
    let points = names_once(client, online, zones, generators).await;
    if points.iter().all(|point| point.verdict != Verdict::Fail) {
        return points;
    }
    tokio::time::sleep(SETTLE).await;
    names_once(client, online, zones, generators).await
}

async fn names_once(client: &Client, online: &[&str], zones: &[Value], generators: &[Value]) -> Vec<Point> {
    let (mut points, mut said) = (Vec::new(), BTreeMap::new());
    let answers = join_all(online.iter().map(|zone| asked(client, zone, "_names"))).await;
    for (zone, answer) in online.iter().zip(answers) {
        match answer {
            Ok(answer) => drop(said.insert((*zone).to_owned(), answer)),
            Err(point) => points.push(point),
        }
    }
    points.extend(names::judge(&said, zones, generators));
    points
}

/// What a zone answers, or the point that says why it does not.
async fn asked(client: &Client, zone: &str, question: &str) -> Result<Value, Point> {
    let what = format!("zone {zone} answers {}", question.trim_start_matches('_'));
    let answer = match client.call(Method::GET, &["zones", zone, question], &[], None).await {
        Ok(answer) => answer,
        Err(error) => return Err(Point::fail(what, format!("{error:#}"))),
    };
    match answer.status {
        status if status.is_success() => {
            serde_json::from_str(&answer.text).map_err(|error| Point::fail(what, format!("the answer cannot be read: {error}")))
        }
        // Older planes do not know the question.
        StatusCode::BAD_GATEWAY | StatusCode::NOT_FOUND => Err(Point::note(what, answer.problem().detail)),
        _ => Err(Point::fail(what, answer.problem().detail)),
    }
}
