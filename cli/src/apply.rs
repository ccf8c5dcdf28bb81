//! `atoll apply`: documents of files, folders and standard input in one transaction.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use http::Method;
use serde::Deserialize;

use crate::{
    Connection,
    client::{Client, Fault},
};

mod sources;

use sources::Sources;

/// Writes resources, all or none.
#[derive(Debug, Args)]
pub struct Apply {
    /// File, folder (its .yaml, .yml and .json files), or - for standard input; repeatable.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Say what would change, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse unknown fields and what this version does not enforce.
    #[arg(long)]
    pub strict: bool,
}

/// What became of one document.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    index: usize,
    #[serde(rename = "type")]
    kind: String,
    mesh: String,
    name: String,
    result: String,
    warnings: Vec<String>,
    invalid_parameters: Vec<Fault>,
}

#[derive(Deserialize)]
struct Applied {
    results: Vec<Outcome>,
}

impl Apply {
    /// Runs the command; exit code 1 when a document was refused.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or the plane cannot be reached or refuses all.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let sources = Sources::read(&self.files)?;
        let client = Client::of(connection)?;
        let query: Vec<(&str, String)> = [("dry_run", self.dry_run), ("strict", self.strict)]
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| (name, "true".to_owned()))
            .collect();
        let answer = client.call(Method::POST, &["_apply"], &query, Some(("application/yaml", sources.text.clone()))).await?;
        if answer.status.is_success() {
            let applied: Applied = serde_json::from_str(&answer.text)?;
            report(&applied.results, &sources, self.dry_run, out, err)?;
            return Ok(ExitCode::SUCCESS);
        }
        let problem = answer.problem();
        let outcomes: Vec<Outcome> = problem.results.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect();
        if outcomes.is_empty() {
            answer.refuse()?;
        }
        report(&outcomes, &sources, self.dry_run, out, err)?;
        writeln!(err, "error: {}", problem.detail)?;
        Ok(ExitCode::FAILURE)
    }
}

fn report(
    outcomes: &[Outcome],
    sources: &Sources,
    dry_run: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<()> {
    let dry = if dry_run { " (dry run)" } else { "" };
    for outcome in outcomes {
        let slash = if outcome.mesh.is_empty() { "" } else { "/" };
        writeln!(out, "{} {}{slash}{} {}{dry}", outcome.kind, outcome.mesh, outcome.name, outcome.result)?;
        for warning in &outcome.warnings {
            writeln!(err, "  warning: {warning}")?;
        }
        for fault in &outcome.invalid_parameters {
            let place = sources.place(outcome.index, fault.line, fault.column);
            let field = if fault.field.is_empty() { String::new() } else { format!("{}: ", fault.field) };
            writeln!(err, "  {place}: {field}{}", fault.reason)?;
        }
    }
    Ok(())
}
