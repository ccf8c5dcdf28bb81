//! `atoll history`: who changed a resource, when and how.

use std::{io::Write, process::ExitCode};

use anyhow::bail;
use clap::Args;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Connection,
    client::Client,
    kinds,
    output::{self, Format, Ordered, Table},
};

const EXAMPLES: &str = "Examples:
  atoll history mt all
  atoll history mesh/shop -n 3
  atoll history mt all -o json      with the document before and after each change";

/// Shows who changed a resource, when and how; also of one that is gone.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct History {
    /// Kind: meshes, zones, meshservices, …; also by short name, or KIND/NAME.
    pub kind: String,
    /// Name.
    pub name: Option<String>,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
    /// How many changes, the newest first.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    pub count: usize,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// One change.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Change {
    revision: u64,
    time: String,
    subject: String,
    address: Option<String>,
    action: String,
    changes: Vec<Value>,
}

impl Change {
    /// In one line.
    pub fn told(&self) -> String {
        let from = self.address.as_ref().map(|address| format!(" from {address}")).unwrap_or_default();
        format!("{} by {}{from} at {}, revision {}", self.action, self.subject, self.time, self.revision)
    }

    fn fields(&self) -> String {
        let fields: Vec<&str> = self.changes.iter().filter_map(|one| one["field"].as_str()).collect();
        if fields.is_empty() { "-".to_owned() } else { fields.join(", ") }
    }
}

impl History {
    /// Runs the command.
    ///
    /// # Errors
    /// When the plane keeps no history of the resource, or cannot be reached.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let (kind, names) = kinds::split(&self.kind, self.name.as_slice())?;
        let [name] = names[..] else { bail!("say which one: give a name; `atoll get {}` lists them", kind.descriptor().path) };
        let client = Client::of(connection)?;
        let path = kinds::item_path(kind, &self.mesh, name);
        let Some(items) = items::<Ordered>(&client, &path, self.count).await? else {
            bail!("there is no {kind} with name {name:?}, and no history of one")
        };
        match self.output {
            Format::Table => {
                let changes = of(&client, &path, self.count).await?.unwrap_or_default();
                table(&changes).print(out)?;
            }
            Format::Yaml => output::documents(Ordered::List(items), out)?,
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&items)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new(&["REVISION", "TIME", "WHAT", "WHO", "FROM", "FIELDS"]);
    for change in changes {
        let from = change.address.clone().unwrap_or_else(|| "-".to_owned());
        let (revision, fields) = (change.revision.to_string(), change.fields());
        table.row([revision, change.time.clone(), change.action.clone(), change.subject.clone(), from, fields]);
    }
    table
}

/// The newest changes of the resource at `path`; none where the plane keeps none, or the caller may not see them.
///
/// # Errors
/// When the plane cannot be reached.
pub async fn of(client: &Client, path: &[&str], count: usize) -> anyhow::Result<Option<Vec<Change>>> {
    items(client, path, count).await
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

async fn items<T: serde::de::DeserializeOwned>(client: &Client, path: &[&str], count: usize) -> anyhow::Result<Option<Vec<T>>> {
    let path: Vec<&str> = path.iter().copied().chain(["_history"]).collect();
    let answer = client.call(Method::GET, &path, &[("size", count.to_string())], None).await?;
    match answer.status {
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
        _ => Ok(Some(serde_json::from_str::<Page<T>>(&answer.refuse()?.text)?.items)),
    }
}
