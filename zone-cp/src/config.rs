//! What an operator can set. Flags, `ATOLL_…` variables and the keys of a `--config` file have the same names.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use atoll_api::{ClientCertificates, Limits, access::ClientCaFault, limits::ZeroLimit};
use atoll_model::names;
use atoll_runtime::telemetry::LogFormat;
use clap::Parser;
use serde::Serialize;

/// The zone control plane of Atoll: keeps a durable copy of what global says, and configures the zone's proxies.
#[derive(Clone, Debug, Parser, Serialize)]
#[command(name = "zone-cp", version, args_override_self = true)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Name of this zone: one DNS label.
    #[arg(long, env = "ATOLL_ZONE")]
    pub zone: String,
    /// Where keys, certificates and the store are kept; only this process may use it.
    #[arg(long, env = "ATOLL_DATA_DIR", default_value = "data/zone")]
    pub data_dir: PathBuf,
    /// Global's link as HOST:PORT (port 5685). Without it the zone stands alone and takes every kind itself.
    #[arg(long, env = "ATOLL_GLOBAL")]
    pub global: Option<String>,
    /// Global's join port as HOST:PORT; unless set, the host of --global with port 5686.
    #[arg(long, env = "ATOLL_JOIN")]
    pub join: Option<String>,
    /// File with the one-time join token (`atoll token zone NAME`); needed until the zone has joined.
    #[arg(long, env = "ATOLL_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// REST without TLS.
    #[arg(long, env = "ATOLL_REST_LISTEN", default_value = "127.0.0.1:5681")]
    pub rest_listen: SocketAddr,
    /// REST over TLS.
    #[arg(long, env = "ATOLL_REST_TLS_LISTEN", default_value = "0.0.0.0:5682")]
    pub rest_tls_listen: SocketAddr,
    /// Health, readiness and metrics.
    #[arg(long, env = "ATOLL_DIAGNOSTICS_LISTEN", default_value = "127.0.0.1:5680")]
    pub diagnostics_listen: SocketAddr,
    /// File with the bearer token that /metrics wants; needed when --diagnostics-listen is no loopback address.
    #[arg(long, env = "ATOLL_METRICS_TOKEN_FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// Proxies: ADS and atoll-dp's stream.
    #[arg(long, env = "ATOLL_DP_LISTEN", default_value = "0.0.0.0:5678")]
    pub dp_listen: SocketAddr,
    /// One more name or address in the certificates of REST and of the proxies' port.
    #[arg(long, env = "ATOLL_TLS_SAN", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Client certificates on REST over TLS.
    #[command(flatten)]
    #[serde(flatten)]
    pub client_certificates: ClientCertificates,
    /// What REST takes.
    #[command(flatten)]
    #[serde(flatten)]
    pub limits: Limits,
    /// text or json.
    #[arg(long, env = "ATOLL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Which log lines: a level, or directives such as `info,atoll_link=debug`.
    #[arg(long, env = "ATOLL_LOG", default_value = "info")]
    pub log_filter: String,
    /// A YAML file whose keys are the names of these flags. Variables win over it, flags over both.
    #[arg(long, env = "ATOLL_CONFIG_FILE", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Prints the settings in force and ends.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The zone's name must survive in host names and server names.
    #[error("--zone {0:?} must be one DNS label: at most 63 lower case letters, digits or '-', a letter first")]
    Zone(String),
    /// Other machines could read metrics.
    #[error("--diagnostics-listen {0} is open to other machines: set --metrics-token-file too, or listen on loopback")]
    OpenDiagnostics(SocketAddr),
    /// No host:port.
    #[error("--{0} {1:?} must be HOST:PORT")]
    Address(&'static str, String),
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

    /// The settings in force. None of them is a secret: secrets are in files.
    pub fn shown(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// The first setting that cannot work, with what to do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !names::is_rfc1035_label(&self.zone) {
            return Err(ConfigError::Zone(self.zone.clone()));
        }
        if !self.diagnostics_listen.ip().is_loopback() && self.metrics_token_file.is_none() {
            return Err(ConfigError::OpenDiagnostics(self.diagnostics_listen));
        }
        self.client_certificates.auth()?;
        self.limits.validate()?;
        for (flag, address) in [("global", &self.global), ("join", &self.join)] {
            if let Some(address) = address
                && host_of(address).is_none()
            {
                return Err(ConfigError::Address(flag, address.clone()));
            }
        }
        Ok(())
    }

    /// Where to join.
    pub fn join_address(&self) -> Option<String> {
        let global = self.global.as_deref()?;
        self.join.clone().or_else(|| host_of(global).map(|host| format!("{host}:5686")))
    }
}

/// The host of `HOST:PORT`.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Config {
        Config::try_parse_from(["zone-cp", "--zone", "azure"].iter().chain(args)).unwrap()
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        for (args, part) in [
            (&["--zone", "Azure"][..], "DNS label"),
            (&["--diagnostics-listen", "0.0.0.0:1"][..], "--metrics-token-file"),
            (&["--global", "nowhere"][..], "HOST:PORT"),
        ] {
            let error = parse(args).validate().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_join_port_stands_beside_the_link() {
        assert_eq!(parse(&["--global", "cp.example:5685"]).join_address().as_deref(), Some("cp.example:5686"));
        assert_eq!(parse(&["--global", "cp:1", "--join", "other:2"]).join_address().as_deref(), Some("other:2"));
        assert_eq!(parse(&[]).join_address(), None);
    }
}
