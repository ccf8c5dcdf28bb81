//! `atoll delete`: removes resources.

use std::{io::Write, process::ExitCode};

use clap::Args;
use http::Method;

use crate::{Connection, client::Client, kinds};

/// Removes resources.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kind: meshes, meshtimeouts, …; also by short name.
    pub kind: String,
    /// Names.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Mesh of mesh-scoped kinds.
    #[arg(short, long, default_value = "default")]
    pub mesh: String,
}

impl Delete {
    /// Runs the command.
    ///
    /// # Errors
    /// At the first that cannot be removed.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let kind = kinds::parse(&self.kind)?;
        let client = Client::of(connection)?;
        for name in &self.names {
            let path = kinds::item_path(kind, &self.mesh, name);
            let answer = client.call(Method::DELETE, &path, &[], None).await?;
            if answer.status == http::StatusCode::NOT_FOUND {
                anyhow::bail!(
                    "there is no {kind} with name {name:?}; `atoll get {}` lists those that are",
                    kind.descriptor().path
                );
            }
            answer.refuse()?;
            writeln!(out, "{kind} {name} deleted")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
