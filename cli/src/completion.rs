//! `atoll completion`: the completion script of a shell.

use std::{io::Write, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;

const EXAMPLES: &str = "Examples:
  atoll completion bash >~/.local/share/bash-completion/completions/atoll
  atoll completion zsh >~/.zfunc/_atoll
  atoll completion fish >~/.config/fish/completions/atoll.fish";

/// Prints the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completion {
    /// The shell.
    pub shell: Shell,
}

impl Completion {
    /// Runs the command.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "atoll", &mut script);
        out.write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
