//! `atoll context`: the control planes that one speaks with, in files of mode 0600.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use atoll_runtime::files;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::{Connection, output::Table};

mod certificate;
mod show;

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
    /// File with a client certificate, PEM.
    #[serde(default, rename = "clientCertFile", skip_serializing_if = "Option::is_none")]
    pub client_cert_file: Option<PathBuf>,
    /// File with its key.
    #[serde(default, rename = "clientKeyFile", skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

/// The commands on contexts.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Add a context, or change one, and use it from now on.
    #[command(after_help = "Examples:\n  \
        atoll context add --from data/global/operator.yaml\n  \
        atoll context add --name prod --url https://cp.example:5682 --ca-file ca.pem --token-file prod.token\n  \
        atoll token user eve --group team-a | atoll context add --name eve --url https://cp.example:5682 --ca-file ca.pem \
        --token-file -\n  \
        atoll context add --name prod --token-file new.token    # a new token; URL and CA stay\n  \
        atoll context add --name prod --client-cert-file ann.pem --client-key-file ann.key    # a certificate in its place")]
    Add(Add),
    /// List the contexts.
    List,
    /// Use a context from now on.
    #[command(after_help = "Examples:\n  atoll context use prod")]
    Use {
        /// Its name.
        name: String,
    },
    /// Show where a context leads and as whom; never its token.
    #[command(after_help = "Examples:\n  atoll context show\n  atoll context show prod")]
    Show {
        /// Its name [default: the current one].
        name: Option<String>,
    },
    /// Remove a context and its token from this machine.
    #[command(after_help = "Examples:\n  atoll context remove prod")]
    Remove {
        /// Its name.
        name: String,
    },
}

/// From what a context is made.
#[derive(Debug, Args)]
pub struct Add {
    /// The operator.yaml that a plane wrote at its first start.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "ca_file", "token_file", "client_cert_file"])]
    pub from: Option<PathBuf>,
    /// URL of the plane's REST.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File with the CA that signed the plane's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File of mode 0600 with the bare token; - for standard input.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with a client certificate, PEM: the context names it, and every command reads it.
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub client_cert_file: Option<PathBuf>,
    /// File of mode 0600 with its key.
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    pub client_key_file: Option<PathBuf>,
    /// Name of the context.
    #[arg(long, default_value = "default")]
    pub name: String,
}

impl ContextCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// When a file is missing or not what it should be.
    pub fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let contexts = Contexts::open(connection)?;
        match self {
            ContextCommand::Add(add) => {
                let context = add.context(&contexts)?;
                contexts.write(&add.name, &context)?;
                contexts.make_current(&add.name)?;
                writeln!(out, "context {:?} speaks with {} and is in use", add.name, context.url)?;
            }
            ContextCommand::List => contexts.list()?.print(out)?,
            ContextCommand::Use { name } => {
                contexts.read(&name)?;
                contexts.make_current(&name)?;
                writeln!(out, "context {name:?} is in use")?;
            }
            ContextCommand::Show { name } => {
                let name = name.map_or_else(|| contexts.chosen_name(connection), Ok)?;
                show::print(&name, &contexts.read(&name)?, chrono::Utc::now(), out)?;
            }
            ContextCommand::Remove { name } => {
                let was_current = contexts.remove(&name)?;
                let now = if was_current { "; none is in use now: `atoll context use NAME`" } else { "" };
                writeln!(out, "context {name:?} is removed{now}")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    /// The context that the flags describe; what they leave out stays as it is in the context of that name.
    fn context(&self, contexts: &Contexts) -> anyhow::Result<Context> {
        check_name(&self.name)?;
        if let Some(from) = &self.from {
            let text = read_secret(from)?;
            return parse(&text).with_context(|| format!("{} is no operator.yaml", from.display()));
        }
        let known = if contexts.path(&self.name).exists() { Some(contexts.read(&self.name)?) } else { None };
        let Some(url) = self.url.clone().or_else(|| known.as_ref().map(|known| known.url.clone())) else {
            bail!("give --from OPERATOR.YAML, or --url with --ca-file and --token-file (or --client-cert-file)");
        };
        let ca = match &self.ca_file {
            Some(path) => Some(fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?),
            None => known.as_ref().and_then(|known| known.ca.clone()),
        };
        if let Some(ca) = &ca {
            atoll_runtime::tls::roots_from_pem(ca).context("--ca-file holds no CA certificate in PEM")?;
        }
        let bare = Context { url, ca, token: None, client_cert_file: None, client_key_file: None };
        let context = match known.filter(|_| self.token_file.is_none() && self.client_cert_file.is_none()) {
            Some(known) => Context { url: bare.url, ca: bare.ca, ..known },
            None => self.credential(bare)?,
        };
        context.certificate()?;
        Ok(context)
    }

    /// The context with the credentials of the flags alone: an older one beside them would be asked first, or for nothing.
    fn credential(&self, context: Context) -> anyhow::Result<Context> {
        let token = self.token_file.as_deref().map(read_secret).transpose()?.map(|text| text.trim().to_owned());
        let absolute = |file: &Option<PathBuf>| file.as_deref().map(std::path::absolute).transpose();
        let (client_cert_file, client_key_file) = (absolute(&self.client_cert_file)?, absolute(&self.client_key_file)?);
        Ok(Context { token, client_cert_file, client_key_file, ..context })
    }
}

/// Reads a file with a token, unless others can read it, too.
fn read_secret(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    require_private(path, "token")?;
    Ok(text)
}

fn require_private(path: &Path, what: &str) -> anyhow::Result<()> {
    if !files::is_private(path)? {
        bail!("others can read the {what} in {0}; run `chmod 600 {0}`", path.display());
    }
    Ok(())
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

    /// The name of the context that the command line asks for, or of the current one.
    ///
    /// # Errors
    /// When there is none; the text says how to add one.
    pub fn chosen_name(&self, connection: &Connection) -> anyhow::Result<String> {
        match &connection.context {
            Some(name) => Ok(name.clone()),
            None => self.current().context(
                "no control plane is known yet; run `atoll context add --from DATA_DIR/operator.yaml` with the file that the \
                 plane's first start wrote",
            ),
        }
    }

    /// Writes a context into a file that only its owner may read.
    fn write(&self, name: &str, context: &Context) -> anyhow::Result<()> {
        files::private_dir(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let path = self.path(name);
        let text = serde_saphyr::to_string(context)?;
        files::write_secret(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a context; says whether it was the current one.
    fn remove(&self, name: &str) -> anyhow::Result<bool> {
        check_name(name)?;
        let path = self.path(name);
        if !path.exists() {
            bail!("there is no context {name:?}; `atoll context list` shows those that are");
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        let was_current = self.current().as_deref() == Some(name);
        if was_current {
            let _gone_already = fs::remove_file(self.folder.join("current"));
        }
        Ok(was_current)
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
        require_private(&path, "token")?;
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
