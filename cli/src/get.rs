//! `atoll get`: shows resources.

use std::{io::Write, process::ExitCode};

use atoll_model::{Kind, Scope};
use clap::Args;

use crate::{
    Connection,
    client::Client,
    columns, kinds,
    output::{self, Listing, Ordered},
    selector::Selector,
    watch,
};

const EXAMPLES: &str = "Examples:
  atoll get zones
  atoll get meshservices -A -o wide                 of all meshes
  atoll get meshtimeouts -l team=shop
  atoll get meshtimeout all -o yaml >all.yaml       can be applied again
  atoll get meshtimeouts -l team=shop -o name | xargs -n1 atoll delete
  atoll get dataplanes --watch                      and every change from now on";

/// Shows resources.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// Kind: meshes, zones, meshservices, meshtimeouts, …; also by short name, or KIND/NAME.
    pub kind: String,
    /// Name; all, unless given.
    pub name: Option<String>,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
    /// Across all meshes.
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_meshes: bool,
    /// Only with these labels: KEY=VALUE, several by commas; repeatable.
    #[arg(short = 'l', long = "selector", alias = "label", value_name = "SELECTOR", conflicts_with = "name")]
    pub selectors: Vec<Selector>,
    /// Show every change as it happens, until Ctrl-C.
    #[arg(short, long, conflicts_with = "name")]
    pub watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Listing,
}

impl Get {
    /// Runs the command.
    ///
    /// # Errors
    /// When the kind or the resource does not exist, or the plane cannot be reached.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let (kind, names) = kinds::split(&self.kind, self.name.as_slice())?;
        let client = Client::of(connection)?;
        match names[..] {
            [name] => self.one(&client, kind, name, out).await?,
            _ if self.watch => self.follow(&client, kind, out, err).await?,
            _ => self.all(&client, kind, out, err).await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn one(&self, client: &Client, kind: Kind, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut path = kinds::item_path(kind, &self.mesh, name);
        path.extend((kind == Kind::Zone && self.output.is_table()).then_some("_overview"));
        let answer = client.get(&path, &[]).await?;
        match self.output {
            Listing::Table | Listing::Wide => {
                let item = serde_json::from_str(&answer.text)?;
                columns::table(kind, self.output, &[item], chrono::Utc::now()).print(out)?;
            }
            Listing::Name => output::name(kind, &serde_json::from_str(&answer.text)?, out)?,
            Listing::Yaml => output::yaml(&answer.text, out)?,
            Listing::Json => out.write_all(answer.text.as_bytes())?,
        }
        Ok(())
    }

    async fn all(&self, client: &Client, kind: Kind, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
        let mut path = kinds::list_path(kind, self.mesh());
        let query = Selector::all(&self.selectors).query();
        let query: Vec<(&str, String)> = query.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        match self.output {
            Listing::Table | Listing::Wide => {
                path.extend((kind == Kind::Zone).then_some("_overview"));
                let items = client.list(&path, &query).await?;
                if items.is_empty() {
                    return Ok(self.say_none(kind, err)?);
                }
                columns::table(kind, self.output, &items, chrono::Utc::now()).print(out)?;
            }
            Listing::Name => {
                let items = client.list(&path, &query).await?;
                items.iter().try_for_each(|item| output::name(kind, item, out))?;
            }
            Listing::Yaml => output::documents(Ordered::List(client.list_ordered(&path, &query).await?), out)?,
            Listing::Json => {
                let items = Ordered::List(client.list_ordered(&path, &query).await?);
                writeln!(out, "{}", serde_json::to_string_pretty(&items)?)?;
            }
        }
        Ok(())
    }

    async fn follow(&self, client: &Client, kind: Kind, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
        let path = kinds::list_path(kind, self.mesh());
        let query = Selector::all(&self.selectors).query();
        let mut shown = watch::Shown::new(kind, self.output);
        watch::follow(client, &path, &query, err, |event| shown.print(event, chrono::Utc::now(), out)).await
    }

    fn mesh(&self) -> Option<&str> {
        (!self.all_meshes).then_some(self.mesh.as_str())
    }

    fn say_none(&self, kind: Kind, err: &mut dyn Write) -> std::io::Result<()> {
        let place = self.mesh().filter(|_| kind.descriptor().scope == Scope::Mesh).map(|mesh| format!(" in mesh {mesh}"));
        let with = Selector::all(&self.selectors).to_string();
        let with = if with.is_empty() { with } else { format!(" with {with}") };
        writeln!(err, "no {}{}{with}", kind.descriptor().path, place.unwrap_or_default())
    }
}
