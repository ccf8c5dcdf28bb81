//! `atoll get`: shows resources.

use std::{io::Write, process::ExitCode};

use atoll_model::{Kind, Scope};
use clap::Args;

use crate::{
    Connection,
    client::Client,
    columns, kinds,
    output::{self, Format, Ordered},
};

/// Shows resources.
#[derive(Debug, Args)]
pub struct Get {
    /// Kind: meshes, zones, meshservices, meshtimeouts, …; also by short name.
    pub kind: String,
    /// Name; all, unless given.
    pub name: Option<String>,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
    /// Across all meshes.
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_meshes: bool,
    /// Only with this label; repeatable.
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", conflicts_with = "name")]
    pub labels: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

impl Get {
    /// Runs the command.
    ///
    /// # Errors
    /// When the kind or the resource does not exist, or the plane cannot be reached.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let kind = kinds::parse(&self.kind)?;
        let client = Client::of(connection)?;
        match &self.name {
            Some(name) => self.one(&client, kind, name, out).await?,
            None => self.all(&client, kind, out, err).await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn one(&self, client: &Client, kind: Kind, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut path = kinds::item_path(kind, &self.mesh, name);
        let is_overview = kind == Kind::Zone && self.output == Format::Table;
        path.extend(is_overview.then_some("_overview"));
        let answer = client.get(&path, &[]).await?;
        match self.output {
            Format::Table => {
                let item = serde_json::from_str(&answer.text)?;
                columns::table(kind, &[item], chrono::Utc::now()).print(out)?;
            }
            Format::Yaml => output::yaml(&answer.text, out)?,
            Format::Json => out.write_all(answer.text.as_bytes())?,
        }
        Ok(())
    }

    async fn all(&self, client: &Client, kind: Kind, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
        let mesh = (!self.all_meshes).then_some(self.mesh.as_str());
        let mut path = kinds::list_path(kind, mesh);
        let query = self.filters()?;
        let query: Vec<(&str, String)> = query.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        match self.output {
            Format::Table => {
                path.extend((kind == Kind::Zone).then_some("_overview"));
                let items = client.list(&path, &query).await?;
                if items.is_empty() {
                    let place = mesh.filter(|_| kind.descriptor().scope == Scope::Mesh).map(|mesh| format!(" in mesh {mesh}"));
                    writeln!(err, "no {}{}", kind.descriptor().path, place.unwrap_or_default())?;
                    return Ok(());
                }
                columns::table(kind, &items, chrono::Utc::now()).print(out)?;
            }
            Format::Yaml | Format::Json => {
                let items = Ordered::List(client.list_ordered(&path, &query).await?);
                if self.output == Format::Yaml {
                    output::documents(items, out)?;
                } else {
                    writeln!(out, "{}", serde_json::to_string_pretty(&items)?)?;
                }
            }
        }
        Ok(())
    }

    fn filters(&self) -> anyhow::Result<Vec<(String, String)>> {
        let pair = |label: &String| {
            let (key, value) = label
                .split_once('=')
                .ok_or_else(|| anyhow::anyhow!("{label:?} is no label; write it as KEY=VALUE, such as -l team=shop"))?;
            Ok((format!("filter[labels.{key}]"), value.to_owned()))
        };
        self.labels.iter().map(pair).collect()
    }
}
