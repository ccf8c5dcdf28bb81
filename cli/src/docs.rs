//! `atoll docs`: the plane's description of its REST API as one page to keep.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;

use crate::{Connection, client::Client};

const EXAMPLES: &str = "Examples:
  atoll docs                        # writes atoll-docs.html; open it with a browser
  atoll docs -O global.html
  atoll docs -O - >global.html";

/// Saves the page that shows the plane's REST API. A browser cannot ask the plane itself: nothing is shown without a token.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Docs {
    /// Where to; - is standard output.
    #[arg(short = 'O', long, default_value = "atoll-docs.html", value_name = "FILE")]
    pub output_file: PathBuf,
}

impl Docs {
    /// Runs the command.
    ///
    /// # Errors
    /// When the plane cannot be reached or refuses, or the file cannot be written.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let page = Client::of(connection)?.get(&["docs", "offline"], &[]).await?.text;
        if self.output_file.as_os_str() == "-" {
            out.write_all(page.as_bytes())?;
        } else {
            let shown = self.output_file.display();
            std::fs::write(&self.output_file, page).with_context(|| format!("cannot write {shown}"))?;
            writeln!(out, "{shown} is written: open it with a browser")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
