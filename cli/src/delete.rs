//! `atoll delete`: removes resources.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use atoll_model::{Kind, Scope};
use clap::Args;
use http::{Method, StatusCode};

use crate::{
    Connection,
    apply::sources::{self, title},
    client::Client,
    kinds,
};

const EXAMPLES: &str = "Examples:
  atoll delete meshtimeout all
  atoll delete mt all old -m shop
  atoll delete meshtimeout/all
  atoll delete -f policies/                       what the documents name, last first, meshes at the end
  atoll delete -f policies/ --ignore-not-found";

/// Removes resources. What others depend on stays; the refusal names them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Delete {
    /// Kind: meshes, meshtimeouts, …; also by short name, or KIND/NAME.
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    pub kind: Option<String>,
    /// Names.
    pub names: Vec<String>,
    /// Remove what the documents in a file, a folder or, for -, standard input name; repeatable.
    #[arg(short = 'f', long = "file", value_name = "PATH", id = "files")]
    pub files: Vec<PathBuf>,
    /// What is not there is no fault.
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
}

/// One resource to remove.
struct Doomed {
    kind: Kind,
    mesh: String,
    name: String,
}

impl Delete {
    /// Runs the command; exit code 1 when one of several could not be removed.
    ///
    /// # Errors
    /// When what is to be removed cannot be told, or the plane cannot be reached.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let doomed = self.doomed()?;
        let client = Client::of(connection)?;
        let mut all_gone = true;
        for one in &doomed {
            if let Err(why) = self.remove(&client, one, out).await {
                if doomed.len() == 1 {
                    return Err(why);
                }
                all_gone = false;
                writeln!(err, "error: {} {}: {why:#}", one.kind, one.name)?;
            }
        }
        Ok(if all_gone { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn doomed(&self) -> anyhow::Result<Vec<Doomed>> {
        match &self.kind {
            Some(kind) => {
                let (kind, names) = kinds::split(kind, &self.names)?;
                if names.is_empty() {
                    bail!("say which {} to delete: give names; `atoll get {0}` lists them", kind.descriptor().path);
                }
                let doomed = |name: &str| Doomed { kind, mesh: self.mesh.clone(), name: name.to_owned() };
                Ok(names.into_iter().map(doomed).collect())
            }
            None => of_files(&self.files),
        }
    }

    async fn remove(&self, client: &Client, one: &Doomed, out: &mut dyn Write) -> anyhow::Result<()> {
        let Doomed { kind, mesh, name } = one;
        let answer = client.call(Method::DELETE, &kinds::item_path(*kind, mesh, name), &[], None).await?;
        let mesh = if kind.descriptor().scope == Scope::Mesh { mesh.as_str() } else { "" };
        if answer.status == StatusCode::NOT_FOUND {
            if !self.ignore_not_found {
                bail!("there is no {kind} with name {name:?}; `atoll get {}` lists those that are", kind.descriptor().path);
            }
            writeln!(out, "{} absent", title(kind.name(), mesh, name))?;
            return Ok(());
        }
        answer.refuse()?;
        writeln!(out, "{} deleted", title(kind.name(), mesh, name))?;
        Ok(())
    }
}

/// What documents name, in the opposite order; a mesh goes after what lives in it.
fn of_files(files: &[PathBuf]) -> anyhow::Result<Vec<Doomed>> {
    let mut doomed = Vec::new();
    for document in sources::read(files)?.iter().rev() {
        let text = |field: &str| document.field(field).to_owned();
        let kind = kinds::parse(&text("type")).with_context(|| document.place())?;
        if text("name").is_empty() {
            bail!("{}: the document has no name", document.place());
        }
        if kind.descriptor().scope == Scope::Mesh && text("mesh").is_empty() {
            bail!("{}: the document has no mesh", document.place());
        }
        doomed.push(Doomed { kind, mesh: text("mesh"), name: text("name") });
    }
    doomed.sort_by_key(|one| one.kind == Kind::Mesh);
    Ok(doomed)
}
