//! What an operator can set. Flags, `ATOLL_…` variables and the keys of a `--config` file have the same names.

use std::{ffi::OsString, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use atoll_api::{ClientCertificates, Limits, access::ClientCaFault, limits::ZeroLimit};
use atoll_runtime::telemetry::LogFormat;
use atoll_store::StoreConfig;
use clap::{Parser, Subcommand};
use serde::{Serialize, Serializer};

use crate::{
    SealKeyConfig,
    oidc::{OidcConfig, OidcConfigError},
};

/// The global control plane of Atoll: keeps policies and the catalog of services, and feeds the zones.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "global-cp", version, args_override_self = true)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Database that instances share (postgres://USER:PASSWORD@HOST/DB), or a directory for the embedded store of one instance
    /// [default: DATA_DIR/store].
    #[arg(long, env = "ATOLL_STORE", hide_env_values = true, value_name = "URL|DIR")]
    pub store: Option<StoreAddress>,
    /// Where operator.yaml and seal.key are kept. Every further instance gets a copy of seal.key.
    #[arg(long, env = "ATOLL_DATA_DIR", default_value = "data/global", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The key that seals secrets.
    #[command(flatten)]
    #[serde(flatten)]
    pub seal: SealKeyConfig,
    /// REST without TLS; tokens travel in clear there, so keep it on loopback.
    #[arg(long, env = "ATOLL_REST_LISTEN", default_value = "127.0.0.1:5681", value_name = "ADDRESS:PORT")]
    pub rest_listen: SocketAddr,
    /// REST over TLS.
    #[arg(long, env = "ATOLL_REST_TLS_LISTEN", default_value = "0.0.0.0:5682", value_name = "ADDRESS:PORT")]
    pub rest_tls_listen: SocketAddr,
    /// Health, readiness and metrics.
    #[arg(long, env = "ATOLL_DIAGNOSTICS_LISTEN", default_value = "127.0.0.1:5680", value_name = "ADDRESS:PORT")]
    pub diagnostics_listen: SocketAddr,
    /// The link of zones that have joined.
    #[arg(long, env = "ATOLL_LINK_LISTEN", default_value = "0.0.0.0:5685", value_name = "ADDRESS:PORT")]
    pub link_listen: SocketAddr,
    /// Where zones join with a token.
    #[arg(long, env = "ATOLL_JOIN_LISTEN", default_value = "0.0.0.0:5686", value_name = "ADDRESS:PORT")]
    pub join_listen: SocketAddr,
    /// The URL that operator.yaml names [default: https://localhost and the port of --rest-tls-listen, or its address].
    #[arg(long, visible_alias = "advertise", env = "ATOLL_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// One more name or address in the servers' certificates; repeatable, or with commas.
    #[arg(long, env = "ATOLL_TLS_SAN", value_delimiter = ',', value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// File with the bearer token that /metrics wants; needed when --diagnostics-listen is no loopback address.
    #[arg(long, env = "ATOLL_METRICS_TOKEN_FILE", value_name = "FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// The identity provider of people.
    #[command(flatten)]
    #[serde(flatten)]
    pub oidc: OidcConfig,
    /// Client certificates on REST over TLS.
    #[command(flatten)]
    #[serde(flatten)]
    pub client_certificates: ClientCertificates,
    /// What REST takes.
    #[command(flatten)]
    #[serde(flatten)]
    pub limits: Limits,
    /// text or json.
    #[arg(long, env = "ATOLL_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Which log lines: a level, or directives such as `info,atoll_link=debug`.
    #[arg(long, env = "ATOLL_LOG", default_value = "info", value_name = "FILTER")]
    pub log_filter: String,
    /// A YAML file whose keys are the names of these flags. Variables win over it, flags over both.
    #[arg(long, env = "ATOLL_CONFIG_FILE", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the settings in force, secrets redacted, and end.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    #[serde(skip)]
    pub action: Option<Action>,
}

/// What the program does beside serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Write a new operator.yaml, for an operator who lost the credential. On the embedded store, stop the running instance first.
    ResetOperator,
    /// Change the key that seals secrets: wrap everything in the store with the new one. May be cut off and run again. Other
    /// instances must have both keys meanwhile (--older-seal-key-file); on the embedded store, stop the running instance first.
    RewrapKeys {
        /// The key that seals secrets now.
        #[arg(long, value_name = "FILE")]
        old_key_file: PathBuf,
        /// The key that seals them from now on; made if it is not there.
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A Postgres database.
    Postgres(String),
    /// A directory.
    Directory(PathBuf),
}

/// What stands for a secret wherever settings are shown.
pub(crate) const REDACTED: &str = "*****";

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some((scheme, _)) => Err(format!("{scheme}:// is no store; use postgres://… or a directory")),
            None if text.is_empty() => Err("use postgres://… or a directory".to_owned()),
            None => Ok(Self::Directory(text.into())),
        }
    }
}

impl fmt::Display for StoreAddress {
    /// The address without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreAddress::Directory(folder) => write!(f, "{}", folder.display()),
            StoreAddress::Postgres(url) => f.write_str(&redact(url)),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A URL without its password and without its parameters, which may hold another one.
fn redact(url: &str) -> String {
    let (before, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (rest, parameters) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?"));
    let parameters = if parameters.is_empty() { String::new() } else { format!("?{REDACTED}") };
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let name = user.split_once(':').map_or(user, |(name, _)| name);
            let password = if user.contains(':') { format!(":{REDACTED}") } else { String::new() };
            format!("{before}://{name}{password}@{place}{parameters}")
        }
        None => format!("{before}://{rest}{parameters}"),
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Other machines could read metrics.
    #[error("--diagnostics-listen {0} is open to other machines: set --metrics-token-file too, or listen on loopback")]
    OpenDiagnostics(SocketAddr),
    /// No URL.
    #[error("--public-url {0:?} must be https://HOST:PORT")]
    PublicUrl(String),
    /// The identity provider.
    #[error(transparent)]
    Oidc(#[from] OidcConfigError),
    /// The CAs of client certificates.
    #[error(transparent)]
    ClientCa(#[from] ClientCaFault),
    /// A limit of REST.
    #[error(transparent)]
    Limits(#[from] ZeroLimit),
}

impl Config {
    /// Reads file, environment and command line; on a mistake, clap's error says what and how.
    ///
    /// # Errors
    /// A mistake, `--help` or `--version`.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        atoll_runtime::config::read(args)
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// The first setting that cannot work, with what to do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.diagnostics_listen.ip().is_loopback() && self.metrics_token_file.is_none() {
            return Err(ConfigError::OpenDiagnostics(self.diagnostics_listen));
        }
        self.oidc.settings()?;
        self.client_certificates.auth()?;
        self.limits.validate()?;
        match &self.public_url {
            Some(url) if host_of(url).is_none() => Err(ConfigError::PublicUrl(url.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Where the store is.
    pub fn store_address(&self) -> StoreAddress {
        self.store.clone().unwrap_or_else(|| StoreAddress::Directory(self.data_dir.join("store")))
    }

    /// The host that [`Config::public_url`] names.
    pub fn public_host(&self) -> Option<&str> {
        self.public_url.as_deref().and_then(host_of)
    }

    /// The settings in force, secrets redacted.
    pub fn shown(&self) -> serde_json::Value {
        let shown = Self { store: Some(self.store_address()), ..self.clone() };
        serde_json::to_value(shown).unwrap_or_default()
    }
}

impl StoreAddress {
    /// As the store takes it.
    pub fn to_config(&self) -> StoreConfig {
        match self {
            StoreAddress::Postgres(url) => StoreConfig::Postgres { url: url.clone() },
            StoreAddress::Directory(dir) => StoreConfig::Sqlite { dir: dir.clone() },
        }
    }
}

/// The host of `https://HOST[:PORT]`.
fn host_of(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.trim_end_matches('/');
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
    let port = authority.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok());
    (!host.is_empty() && host.chars().all(plain) && port).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Config, clap::Error> {
        Config::read(["global-cp"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn secrets_are_redacted_wherever_settings_are_shown() {
        let config = read(&["--store", "postgres://atoll:s3cret@db:5432/atoll?password=s3cret"]).unwrap();
        let shown = format!("{} {config:?}", config.shown());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(config.shown()["store"], "postgres://atoll:*****@db:5432/atoll?*****");
        assert_eq!(redact("postgres://db/atoll"), "postgres://db/atoll");
        assert_eq!(redact("postgres://a:b@c@db/atoll"), "postgres://a:*****@db/atoll");
    }

    #[test]
    fn every_setting_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("global.yaml");
        std::fs::write(&path, "data-dir: /srv/atoll\nrest-listen: 127.0.0.1:7001\ntls-san: [cp.acme.corp, 10.0.0.1]\n").unwrap();
        let config = read(&["--config", path.to_str().unwrap(), "--rest-listen", "127.0.0.1:7002"]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/srv/atoll"));
        assert_eq!(config.rest_listen.port(), 7002);
        assert_eq!(config.tls_san, ["cp.acme.corp", "10.0.0.1"]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        for (args, part) in [
            (&["--diagnostics-listen", "0.0.0.0:5680"][..], "--metrics-token-file"),
            (&["--public-url", "cp.acme.corp"], "https://HOST:PORT"),
            (&["--oidc-issuer", "http://idp.acme.corp", "--oidc-audience", "atoll"], "https://"),
            (&["--oidc-issuer", "https://idp.acme.corp", "--oidc-audience", ""], "audience"),
            (&["--oidc-issuer", "https://x", "--oidc-audience", "a", "--oidc-ca-file", "/nowhere.pem"], "/nowhere.pem"),
            (&["--rest-client-ca-file", "/nowhere.pem"], "--rest-client-ca-file /nowhere.pem"),
            (&["--limit-body", "0"], "--limit-body"),
            (&["--public-url", "https://cp.acme.corp:5682 # x"], "https://HOST:PORT"),
        ] {
            let error = read(args).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(part), "{args:?}: {error}");
        }
        for (args, part) in [
            (&["--store", "mysql://x"][..], "postgres://"),
            (&["--rest-listen", "5681"], "--rest-listen"),
            (&["--oidc-issuer", "https://idp.acme.corp"], "--oidc-audience"),
            (&["--oidc-group-map", "platform"], "GROUP=GROUP"),
            (&["--nope"], "--nope"),
        ] {
            let error = read(args).unwrap_err().to_string();
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }

    #[test]
    fn the_action_may_stand_anywhere() {
        for args in [&["reset-operator", "--data-dir", "/x"], &["--data-dir", "/x", "reset-operator"]] {
            let config = read(args).unwrap();
            assert_eq!((config.action, config.data_dir), (Some(Action::ResetOperator), PathBuf::from("/x")));
        }
    }
}
