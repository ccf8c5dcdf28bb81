//! `atoll describe`: all that a plane tells of one resource.

use std::{io::Write, process::ExitCode};

use anyhow::bail;
use atoll_model::{Kind, Scope, Timestamp, labels};
use clap::Args;
use serde_json::Value;

use crate::{
    Connection,
    apply::sources::title,
    client::Client,
    columns,
    history::{self, Change},
    kinds,
    output::{self, Ordered},
};

mod relations;

/// Related resources that are named, at most.
const NAMED: usize = 20;

const EXAMPLES: &str = "Examples:
  atoll describe zone gcp
  atoll describe dataplane web-1
  atoll describe mt/all -m shop";

/// Shows one resource: its document, its state, who changed it last, and what selects it by labels.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Describe {
    /// Kind: meshes, zones, meshservices, …; also by short name, or KIND/NAME.
    pub kind: String,
    /// Name.
    pub name: Option<String>,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
}

impl Describe {
    /// Runs the command.
    ///
    /// # Errors
    /// When the resource does not exist, or the plane cannot be reached.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let (kind, names) = kinds::split(&self.kind, self.name.as_slice())?;
        let [name] = names[..] else { bail!("say which one: give a name; `atoll get {}` lists them", kind.descriptor().path) };
        let client = Client::of(connection)?;
        let path = kinds::item_path(kind, &self.mesh, name);
        let Some(item) = client.find(&path, &[]).await? else {
            bail!("there is no {kind} with name {name:?}; `atoll get {}` lists those that are", kind.descriptor().path)
        };
        let insight = insight(&client, kind, &path).await?;
        let last = history::of(&client, &path, 1).await?.and_then(|changes| changes.into_iter().next());
        head(kind, &item, last.as_ref(), chrono::Utc::now(), out)?;
        conditions(&item, out)?;
        body(&item, insight, out)?;
        related("Selected by", relations::selecting(&client, kind, &item).await?, out)?;
        related("Selects", relations::selected(&client, kind, &item).await?, out)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What the plane sees of a zone or a dataplane at work.
async fn insight(client: &Client, kind: Kind, path: &[&str]) -> anyhow::Result<Option<Value>> {
    let field = match kind {
        Kind::Zone => "zoneInsight",
        Kind::Dataplane => "dataplaneInsight",
        _ => return Ok(None),
    };
    let path: Vec<&str> = path.iter().copied().chain(["_overview"]).collect();
    let overview = client.find(&path, &[]).await?.unwrap_or_default();
    Ok(overview.get(field).filter(|insight| insight.as_object().is_some_and(|fields| !fields.is_empty())).cloned())
}

fn head(kind: Kind, item: &Value, last: Option<&Change>, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mesh = if kind.descriptor().scope == Scope::Mesh { text(&item["mesh"]) } else { String::new() };
    writeln!(out, "{}", title(kind.name(), &mesh, &text(&item["name"])))?;
    let has = &item["labels"];
    let zone = has[labels::ZONE].as_str().map(|zone| format!(" (zone {zone})")).unwrap_or_default();
    let labels: Vec<String> = has
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !labels::COMPUTED.contains(&key.as_str()))
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    let ago = |value: &Value| format!("{} ({} ago)", text(value), columns::age(value, now));
    let rows = [
        ("KRI", text(&item["kri"])),
        ("Origin", format!("{}{zone}", text(&has[labels::ORIGIN]))),
        ("Labels", if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }),
        ("Created", ago(&item["creationTime"])),
        ("Changed", ago(&item["modificationTime"])),
        ("Last change", last.map_or_else(|| "not recorded here".to_owned(), Change::told)),
    ];
    rows.iter().try_for_each(|(label, value)| writeln!(out, "  {:<12} {value}", format!("{label}:")))
}

fn conditions(item: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let conditions = item["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !conditions.is_empty() {
        writeln!(out, "Conditions:")?;
    }
    for condition in conditions {
        let text = |field: &str| condition[field].as_str().unwrap_or("-").to_owned();
        writeln!(out, "  {} {} ({}): {}", text("type"), text("status"), text("reason"), text("message"))?;
    }
    Ok(())
}

/// What the head has shown already.
const SHOWN: [&str; 7] = ["type", "mesh", "name", "creationTime", "modificationTime", "labels", "kri"];

fn body(item: &Value, insight: Option<Value>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut rest = item.as_object().cloned().unwrap_or_default();
    rest.retain(|field, _| !SHOWN.contains(&field.as_str()));
    let status = rest.remove("status");
    if let Some(status) = status.as_ref().and_then(Value::as_object) {
        let mut status = status.clone();
        status.remove("conditions");
        section("Status", Value::Object(status), out)?;
    }
    let spec = rest.remove("spec");
    section("Insight", insight.unwrap_or_default(), out)?;
    section("Spec", spec.unwrap_or_default(), out)?;
    section("Document", Value::Object(rest), out)
}

fn section(title: &str, value: Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty {
        return Ok(());
    }
    let mut text = Vec::new();
    output::documents(serde_json::from_value::<Ordered>(value)?, &mut text)?;
    writeln!(out, "{title}:")?;
    for line in String::from_utf8(text)?.lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn related(title: &str, related: Vec<String>, out: &mut dyn Write) -> std::io::Result<()> {
    if related.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}:")?;
    related.iter().take(NAMED).try_for_each(|one| writeln!(out, "  {one}"))?;
    if related.len() > NAMED {
        writeln!(out, "  and {} more", related.len() - NAMED)?;
    }
    Ok(())
}
