//! `atoll zone`: an operator's word on what a link does not do by itself.

use std::{
    io::{BufRead as _, IsTerminal as _, Write},
    process::ExitCode,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::{Connection, client::Client, kinds};

/// What planes leave to people. `atoll check` says when one of these is needed, and with which context.
#[derive(Debug, Subcommand)]
pub enum Zone {
    /// Do deletions that a plane holds back.
    ///
    /// When a complete copy of a kind lacks very many of the resources that a plane has, the plane does not believe it: it keeps
    /// them, goes on with everything else, and waits for a word. That is the right thing after a mistake elsewhere (a database
    /// that came back empty). If the resources are really meant to be gone, this command does the deletions.
    ///
    /// On global, name the zone whose resources global holds. On a zone's own plane, give no name: it is about what that zone
    /// holds of global's resources.
    Release(Release),
    /// Keep this zone's own resources that global's copy lacks.
    ///
    /// For a zone that lost its newest state (a disk, an old backup) and takes its own resources back from global. If global's
    /// copy lacks very many of what the zone has, the zone stops before it deletes them. This command keeps them, and they are
    /// sent to global again. Say it on the zone's own plane.
    Keep(Keep),
    /// Follow global although its history is another one.
    ///
    /// For a zone whose global was restored from a backup, or was set up anew with the same identity: what global has does not
    /// continue what the zone holds, so the zone goes on with what it has and takes nothing. If that global is the right one,
    /// this command makes the zone take over its state; what the zone had of global's and the other does not have is deleted.
    /// Say it on the zone's own plane.
    Follow(Confirm),
}

/// Which deletions.
#[derive(Debug, Args)]
pub struct Release {
    /// The zone, on global; nothing on a zone's own plane.
    pub zone: Option<String>,
    /// The kind of resource.
    #[arg(long)]
    pub kind: String,
    /// Whether it was asked already.
    #[command(flatten)]
    pub confirm: Confirm,
}

/// Which resources.
#[derive(Debug, Args)]
pub struct Keep {
    /// The kind of resource.
    #[arg(long)]
    pub kind: String,
    /// Whether it was asked already.
    #[command(flatten)]
    pub confirm: Confirm,
}

/// Whether it was asked already.
#[derive(Clone, Copy, Debug, Args)]
pub struct Confirm {
    /// Does not ask back.
    #[arg(long, short)]
    pub yes: bool,
}

impl Zone {
    /// Runs the command.
    ///
    /// # Errors
    /// When the plane refuses, or the person does.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let client = Client::of(connection)?;
        let url = client.url().to_string();
        match self {
            Self::Release(Release { zone, kind, confirm }) => {
                let kind = kinds::parse(&kind)?.name();
                let whose = zone.as_deref().map_or_else(|| "this zone".to_owned(), |zone| format!("zone {zone}"));
                confirm.ask(&format!("Delete the {kind} resources that are held back for {whose} at {url}?"), err)?;
                let path = zone.as_deref().map_or(vec!["_link", "release"], |zone| vec!["zones", zone, "_release"]);
                let done = said(&client, &path, Some(kind)).await?;
                writeln!(out, "{} held deletions of {kind} are done now", done["released"])?;
            }
            Self::Keep(Keep { kind, confirm }) => {
                let kind = kinds::parse(&kind)?.name();
                confirm.ask(&format!("Keep the {kind} resources that global's copy lacks, at {url}?"), err)?;
                let done = said(&client, &["_link", "keep"], Some(kind)).await?;
                writeln!(out, "{} resources of kind {kind} are kept", done["kept"])?;
            }
            Self::Follow(confirm) => {
                confirm.ask(&format!("Take over the state of the global that the zone at {url} sees now?"), err)?;
                said(&client, &["_link", "follow"], None).await?;
                writeln!(out, "the zone follows; `atoll check` shows how far it is")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn said(client: &Client, path: &[&str], kind: Option<&str>) -> anyhow::Result<Value> {
    let query: Vec<(&str, String)> = kind.map(|kind| ("kind", kind.to_owned())).into_iter().collect();
    let answer = client.call(Method::POST, path, &query, None).await?.refuse()?;
    Ok(serde_json::from_str(&answer.text)?)
}

impl Confirm {
    fn ask(self, question: &str, err: &mut dyn Write) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            bail!("this cannot be taken back, and there is nobody to ask; say --yes if it is meant");
        }
        write!(err, "{question} This cannot be taken back. [y/N] ")?;
        err.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { bail!("nothing was done") }
    }
}
