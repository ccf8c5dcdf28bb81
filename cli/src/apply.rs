//! `atoll apply`: documents of files, folders and standard input, in as few transactions as the plane takes.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use clap::Args;
use http::Method;

use crate::{Connection, client::Client, selector::Selector};

mod foretell;
mod prune;
mod report;
pub mod sources;
mod transactions;

pub(crate) use foretell::dry_run;
use prune::Scope;
use report::{Outcome, Results};
use transactions::Transaction;

const EXAMPLES: &str = "Examples:
  atoll apply -f policies/                     every .yaml, .yml and .json file in and below a folder
  atoll apply -f mesh.yaml -f timeouts.yaml    all in one transaction: all or none
  kustomize build | atoll apply -f -
  atoll apply -f policies/ --dry-run --strict  say what would change; unknown fields are faults
  atoll apply -f policies/ --atomic=false      apply what is valid, name what is not
  atoll apply -f shop/ --prune -l team=shop    and delete what has the label and is no more in shop/";

/// Writes resources from files, folders or standard input.
///
/// One request is one transaction: all of its documents or none. It takes 500 documents and 8 MiB; more need several.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Apply {
    /// File, folder (its .yaml, .yml and .json files, at any depth), or - for standard input; repeatable.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Say what would change, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse unknown fields and what this version does not enforce.
    #[arg(long)]
    pub strict: bool,
    /// Refuse what does not fit into one transaction; `--atomic=false` applies the valid documents beside faulty ones.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub atomic: Option<bool>,
    /// Afterwards delete what has the labels of -l, belongs to this plane, and is not in the input; only kinds and meshes that
    /// the input names, and never a Mesh or a Zone.
    #[arg(long, requires = "selectors", conflicts_with = "atomic")]
    pub prune: bool,
    /// Labels of what may be pruned: KEY=VALUE, several by commas.
    #[arg(short = 'l', long = "selector", value_name = "SELECTOR", requires = "prune", id = "selectors")]
    pub selectors: Vec<Selector>,
    /// Prune without asking.
    #[arg(short, long, requires = "prune")]
    pub yes: bool,
}

impl Apply {
    /// Runs the command; exit code 1 when a document was refused.
    ///
    /// # Errors
    /// When a file cannot be read or parsed, or the plane cannot be reached or refuses all.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let documents = sources::read(&self.files)?;
        self.refuse_unasked_prune()?;
        let client = Client::of(connection)?;
        let scope = Scope::of(&documents, Selector::all(&self.selectors));
        if self.prune {
            scope.warn_of_unlabelled(&documents, err)?;
        }
        let transactions = transactions::split(documents);
        self.tell_count(&transactions, err)?;
        let all_applied = self.send_all(&client, &transactions, out, err).await?;
        if self.prune {
            if all_applied {
                return scope.prune(&client, self.dry_run, self.yes, out, err).await;
            }
            writeln!(err, "nothing is pruned: not every document was applied")?;
        }
        Ok(if all_applied { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// A deletion that nobody can confirm is refused before anything is written.
    fn refuse_unasked_prune(&self) -> anyhow::Result<()> {
        let asks = self.prune && !self.yes && !self.dry_run;
        let reads_input = self.files.iter().any(|path| path == Path::new("-"));
        if asks && (reads_input || !std::io::stdin().is_terminal()) {
            bail!("--prune asks before it deletes, and there is no terminal to ask on; look with --dry-run, then add --yes");
        }
        Ok(())
    }

    fn tell_count(&self, transactions: &[Transaction], err: &mut dyn Write) -> anyhow::Result<()> {
        if transactions.len() < 2 {
            return Ok(());
        }
        let documents: usize = transactions.iter().map(|one| one.documents.len()).sum();
        let limits = format!("one takes {} documents and {} MiB", transactions::DOCUMENTS, transactions::BYTES >> 20);
        if self.atomic == Some(true) {
            bail!("{documents} documents need {} transactions ({limits}); leave out --atomic or give less", transactions.len());
        }
        writeln!(err, "{documents} documents take {} transactions, one after the other ({limits})", transactions.len())?;
        if self.dry_run {
            writeln!(err, "each is tried alone: what needs a mesh of an earlier one is refused here, and would not be")?;
        }
        Ok(())
    }

    /// Sends one transaction after the other until one is refused; says whether every document was applied.
    async fn send_all(
        &self,
        client: &Client,
        transactions: &[Transaction],
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let shows_progress = transactions.len() > 1 && std::io::stderr().is_terminal();
        let mut all_applied = true;
        for (done, transaction) in transactions.iter().enumerate() {
            if shows_progress {
                writeln!(err, "transaction {} of {} …", done + 1, transactions.len())?;
            }
            let sent = self.send(client, transaction, out, err).await;
            let went_well = sent.as_ref().is_ok_and(|applied| *applied);
            all_applied &= went_well;
            // With --atomic=false a faulty document stops nothing; a failure of the plane always does.
            let goes_on = went_well || (self.atomic == Some(false) && sent.is_ok());
            if !goes_on {
                let rest = &transactions[done + 1..];
                let unsent = rest.iter().flat_map(|transaction| &transaction.documents);
                unsent.clone().try_for_each(|one| writeln!(out, "{} skipped ({})", one.title(), one.place()))?;
                if transactions.len() > 1 && !self.dry_run {
                    let (before, after) = (done, rest.len());
                    writeln!(err, "{before} transactions before this one are applied and stay; {after} after it were not sent")?;
                }
                return sent;
            }
        }
        Ok(all_applied)
    }

    async fn send(
        &self,
        client: &Client,
        transaction: &Transaction,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let flags = [("dry_run", self.dry_run), ("strict", self.strict)];
        let flags = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_owned()));
        let query: Vec<_> = flags.chain((self.atomic == Some(false)).then(|| ("atomic", "false".to_owned()))).collect();
        let body = Some(("application/yaml", transaction.text.clone()));
        let answer = client.call(Method::POST, &["_apply"], &query, body).await?;
        if answer.status.is_success() {
            let Results { results } = serde_json::from_str(&answer.text)?;
            report::print(&results, transaction, self.dry_run, out, err)?;
            return Ok(!results.iter().any(Outcome::is_failure));
        }
        let problem = answer.problem();
        let results: Vec<Outcome> = problem.results.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect();
        if results.is_empty() {
            answer.refuse()?;
        }
        report::print(&results, transaction, self.dry_run, out, err)?;
        writeln!(err, "error: {}", problem.detail)?;
        Ok(false)
    }
}
