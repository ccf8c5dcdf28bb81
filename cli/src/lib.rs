//! The command line of Atoll: one file a command.
//!
//! ```text
//!   context ─▶ client ─▶ REST of a plane
//!      ▲          ▲
//!   files     apply, diff, get, describe, history, delete, token, check, zone ─▶ output (table, YAML, JSON)
//! ```
//!
//! Must not contain rules about resources: the plane judges, the command shows what it says.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

pub mod apply;
pub mod check;
pub mod client;
pub mod columns;
pub mod completion;
pub mod context;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod docs;
pub mod get;
pub mod history;
pub mod kinds;
pub mod lab;
pub mod output;
pub mod selector;
pub mod token;
pub mod watch;
pub mod zone;

const START: &str = "To begin:
  atoll context add --from data/global/operator.yaml    # what the plane's first start wrote
  atoll get zones
  atoll apply -f policies/ --dry-run
  atoll COMMAND --help                                  # every command has examples";

/// Speaks with the control planes of Atoll.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, about, propagate_version = true, after_help = START)]
pub struct Cli {
    /// Where and as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which plane, and where the contexts are.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The context to use instead of the current one.
    #[arg(long, global = true, env = "ATOLL_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Directory of the contexts [default: ~/.atoll].
    #[arg(long, global = true, env = "ATOLL_CONFIG", value_name = "DIR", hide_env_values = true)]
    pub config_dir: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the control planes that you speak with.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Write resources from files, folders or standard input, all or none.
    Apply(apply::Apply),
    /// Show what an apply would change.
    Diff(diff::Diff),
    /// Show resources.
    Get(get::Get),
    /// Show all that is known of one resource.
    Describe(describe::Describe),
    /// Show who changed a resource, when and how.
    History(history::History),
    /// Remove resources.
    Delete(delete::Delete),
    /// Issue tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Check the federation: global, zones, links, ingresses, names.
    Check(check::Check),
    /// Say what planes leave to people: held deletions, another history.
    #[command(subcommand)]
    Zone(zone::Zone),
    /// Save the page that shows the plane's REST API.
    Docs(docs::Docs),
    /// Run two clouds on this machine, with real Envoys.
    #[command(subcommand)]
    Lab(lab::Command),
    /// Print the completion script of a shell.
    Completion(completion::Completion),
}

/// Does what the command line says. `out` gets results, `err` what is to be known beside them.
///
/// # Errors
/// What could not be done, and what to do about it.
pub async fn run(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Cli { connection, command } = cli;
    match command {
        Command::Context(command) => command.run(&connection, out),
        Command::Apply(command) => command.run(&connection, out, err).await,
        Command::Get(command) => command.run(&connection, out, err).await,
        Command::Delete(command) => command.run(&connection, out, err).await,
        Command::Diff(command) => command.run(&connection, out, err).await,
        Command::Describe(command) => command.run(&connection, out).await,
        Command::History(command) => command.run(&connection, out).await,
        Command::Token(command) => command.run(&connection, out).await,
        Command::Check(command) => command.run(&connection, out).await,
        Command::Zone(command) => command.run(&connection, out, err).await,
        Command::Docs(command) => command.run(&connection, out).await,
        Command::Lab(command) => lab::run(command, &connection).await.map(|()| ExitCode::SUCCESS),
        Command::Completion(command) => command.run(out),
    }
}
