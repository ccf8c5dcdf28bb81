//! `atoll context`: the control planes that one speaks with, in files of mode 0600.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use atoll_runtime::files;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::{Connection, output::Table};

/// A control plane and the credential for it. The same form as `operator.yaml` of a plane's first start.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `https://host:port` of the plane's REST.
    pub url: String,
    /// The CA that signed its certificate, PEM; absent for plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A user token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The commands on contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Add a context from the operator.yaml that a plane wrote at its first start, and use it.
    Add {
        /// The file.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Name of the context.
        #[arg(long, default_value = "default")]
        name: String,
    },
    /// List the contexts.
    List,
    /// Use a context from now on.
    Use {
        /// Its name.
        name: String,
    },
}

impl ContextCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// When a file is missing or not what it should be.
    pub fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let contexts = Contexts::open(connection)?;
        match self {
            ContextCommand::Add { from, name } => {
                let url = contexts.add(&name, &from)?;
                writeln!(out, "context {name:?} speaks with {url} and is in use")?;
            }
            ContextCommand::List => contexts.list()?.print(out)?,
            ContextCommand::Use { name } => {
                contexts.read(&name)?;
                contexts.make_current(&name)?;
                writeln!(out, "context {name:?} is in use")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The directory of contexts.
pub struct Contexts {
    folder: PathBuf,
}

impl Contexts {
    /// The directory that the command line, the environment or the home directory names.
    ///
    /// # Errors
    /// When there is no home directory either.
    pub fn open(connection: &Connection) -> anyhow::Result<Self> {
        let folder = match &connection.config_dir {
            Some(folder) => folder.clone(),
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .context("there is no home directory; set ATOLL_CONFIG to a directory for the contexts")?
                .join(".atoll"),
        };
        Ok(Self { folder })
    }

    /// The context that the command line asks for, or the current one.
    ///
    /// # Errors
    /// When there is none; the text says how to add one.
    pub fn chosen(&self, connection: &Connection) -> anyhow::Result<Context> {
        let name = match &connection.context {
            Some(name) => name.clone(),
            None => self.current().context(
                "no control plane is known yet; run `atoll context add --from DATA_DIR/operator.yaml` with the file that the \
                 plane's first start wrote",
            )?,
        };
        self.read(&name)
    }

    /// Adds a context and makes it the current one; gives its URL.
    ///
    /// # Errors
    /// When the file is missing or no operator.yaml.
    pub fn add(&self, name: &str, from: &Path) -> anyhow::Result<String> {
        check_name(name)?;
        let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
        let context = parse(&text).with_context(|| format!("{} is no operator.yaml", from.display()))?;
        files::private_dir(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let path = self.path(name);
        files::write_secret(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        self.make_current(name)?;
        Ok(context.url)
    }

    /// Reads a context.
    ///
    /// # Errors
    /// When it does not exist, others may read its token, or it is no context.
    pub fn read(&self, name: &str) -> anyhow::Result<Context> {
        check_name(name)?;
        let path = self.path(name);
        let Ok(text) = fs::read_to_string(&path) else {
            bail!("there is no context {name:?}; `atoll context list` shows those that are");
        };
        if !files::is_private(&path)? {
            bail!("others can read the token in {0}; run `chmod 600 {0}`", path.display());
        }
        parse(&text).with_context(|| format!("{} is no context; add it again", path.display()))
    }

    fn make_current(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder.join("current");
        files::write_atomic(&path, format!("{name}\n").as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn current(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("current")).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    }

    fn list(&self) -> anyhow::Result<Table> {
        let current = self.current();
        let mut table = Table::new(&["", "NAME", "URL"]);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".context.yaml").map(str::to_owned));
        }
        names.sort();
        for name in names {
            let mark = if current.as_deref() == Some(&name) { "*" } else { "" };
            let url = self.read(&name).map_or_else(|error| format!("({error})"), |context| context.url);
            table.row([mark.to_owned(), name, url]);
        }
        Ok(table)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.context.yaml"))
    }
}

fn parse(text: &str) -> anyhow::Result<Context> {
    Ok(serde_saphyr::from_str(text)?)
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
        bail!("{name:?} cannot be the name of a context; use letters, digits, '-', '_' and '.'");
    }
    Ok(())
}
