//! The command line. Names are kuma-dp's where it has them.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use atoll_model::duration::GoDuration;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::{
    access_log::AccessLog,
    redirect::args::{CheckArgs, Install, Uninstall},
};

/// Runs one Envoy of the mesh.
#[derive(Debug, Parser)]
#[command(name = "atoll-dp", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look: text or json.
    #[arg(long, global = true, default_value = "text")]
    pub log_format: String,
    /// What is logged: a level, or directives such as `info,atoll_dataplane=debug`.
    #[arg(long, global = true, default_value = "info")]
    pub log_level: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Registers a Dataplane at its zone, and runs its Envoy.
    Run(Box<RunArgs>),
    /// Prepares this host for its proxy.
    #[command(subcommand)]
    Install(Install),
    /// Undoes what `install` did.
    #[command(subcommand)]
    Uninstall(Uninstall),
    /// Lists what redirection would change on this host; changes nothing. Ends with 1 when `install` would refuse.
    Check(Box<CheckArgs>),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The zone's control plane.
    #[arg(long, env = "KUMA_CONTROL_PLANE_URL", default_value = "https://localhost:5678")]
    pub cp_address: String,
    /// PEM file of the CA that signed the certificate of the zone's control plane. Not needed when the token carries a pin
    /// (`#sha256:…`).
    #[arg(long, env = "KUMA_CONTROL_PLANE_CA_CERT_FILE")]
    pub ca_cert_file: Option<PathBuf>,
    /// The Dataplane document, YAML or JSON; `-` is standard input. Without one the resource must exist (--name, --mesh).
    #[arg(short = 'd', long, env = "KUMA_DATAPLANE_RUNTIME_RESOURCE_PATH")]
    pub dataplane_file: Option<PathBuf>,
    /// Value of a `{{ variable }}` in the document: `name=value`; may be repeated.
    #[arg(short = 'v', long = "dataplane-var", value_name = "NAME=VALUE")]
    pub dataplane_vars: Vec<Variable>,
    /// File with the dataplane token. Read again at each connection, so that a token can be replaced.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH")]
    pub dataplane_token_file: Option<PathBuf>,
    /// Name of the Dataplane, when the document has none.
    #[arg(long, env = "KUMA_DATAPLANE_NAME")]
    pub name: Option<String>,
    /// Mesh of the Dataplane, when the document has none.
    #[arg(long, env = "KUMA_DATAPLANE_MESH")]
    pub mesh: Option<String>,
    /// Folder for bootstrap, admin socket, log and state; one runner each. A runner that finds its Envoy running there adopts it.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_CONFIG_DIR")]
    pub config_dir: Option<PathBuf>,
    /// The Envoy program; else $ENVOY, else `envoy` in PATH.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_BINARY_PATH")]
    pub binary_path: Option<PathBuf>,
    /// Worker threads of Envoy.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_CONCURRENCY", default_value_t = 2)]
    pub concurrency: u32,
    /// Log level of Envoy.
    #[arg(long, default_value = "warning")]
    pub envoy_log_level: String,
    /// Logs each connection and request as a line of JSON to this file, which is yours to rotate (copy and truncate); `-` is
    /// standard output. Unless given, a zone ingress logs its connections to access.log in the folder, and other proxies log
    /// nothing. Another place makes a new Envoy.
    #[arg(long, value_name = "PATH")]
    pub access_log: Option<AccessLog>,
    /// How long connections may finish when this program is told to end.
    #[arg(long, env = "KUMA_DATAPLANE_DRAIN_TIME", default_value = "30s", value_parser = duration)]
    pub drain_time: Duration,
    /// Binds each destination at an address of this range instead of its virtual address: for several proxies on one machine
    /// without redirection. One range per proxy.
    #[arg(long, value_name = "CIDR")]
    pub bind_outbounds: Option<IpNet>,
    /// Whether this program answers DNS.
    #[arg(long, env = "KUMA_DNS_ENABLED", default_value_t = true, action = clap::ArgAction::Set)]
    pub dns_enabled: bool,
    /// Where DNS is answered, UDP and TCP. Port 0: a free one.
    #[arg(long, env = "KUMA_DNS_PROXY_PORT", default_value_t = 15053)]
    pub dns_port: u16,
    /// Where DNS is answered.
    #[arg(long, default_value = "127.0.0.1")]
    pub dns_addr: IpAddr,
    /// Who answers for names that are not the mesh's: `address[:port]`, or `none`; may be repeated. Unless given: the name servers
    /// of /etc/resolv.conf.
    #[arg(long, value_name = "ADDRESS")]
    pub dns_upstream: Vec<String>,
    /// Where `/ready` and `/metrics` are served. Port 0: a free one.
    #[arg(long, env = "KUMA_READINESS_PORT", default_value_t = 9902)]
    pub readiness_port: u16,
    /// Where `/ready` and `/metrics` are served.
    #[arg(long, default_value = "127.0.0.1")]
    pub readiness_addr: IpAddr,
    /// TCP port of Envoy's admin interface; 0: a unix socket in the folder that only this user may open.
    #[arg(long, env = "KUMA_DATAPLANE_ADMIN_PORT", default_value_t = 0)]
    pub envoy_admin_port: u16,
    /// Address of Envoy's admin interface when it has a port. Whoever reaches it controls the proxy.
    #[arg(long, default_value = "127.0.0.1")]
    pub envoy_admin_addr: IpAddr,
    /// Asks `URL` whether the application behind an inbound (its name, or else its port) can serve; any answer below 400 is a yes.
    /// Otherwise, the inbound takes no traffic. Times and thresholds are those of the inbound's `serviceProbe`. When the URL's host
    /// is a name, the inbound's application is asked by that name; an IP address is dialled itself. Certificates are not verified.
    /// May be repeated, for one inbound each.
    #[arg(long, value_name = "INBOUND=URL")]
    pub service_probe: Vec<ServiceProbe>,
    /// The most connections that Envoy takes at a time.
    #[arg(long, default_value_t = 50_000)]
    pub max_connections: u64,
}

impl RunArgs {
    /// The variables of the document.
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.dataplane_vars.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
    }
}

/// `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Before the `=`.
    pub name: String,
    /// After it.
    pub value: String,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            Some(_) | None => Err("must be name=value".to_owned()),
        }
    }
}

/// `inbound=url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceProbe {
    /// Name or port of the inbound.
    pub section: String,
    /// What is asked.
    pub url: reqwest::Url,
}

impl FromStr for ServiceProbe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (section, url) = text.split_once('=').filter(|(section, _)| !section.is_empty()).ok_or("must be inbound=url")?;
        let url: reqwest::Url = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self { section: section.to_owned(), url }),
            scheme => Err(format!("must be http or https, not {scheme}")),
        }
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: GoDuration = text.parse().map_err(|_| format!("{text:?} is no duration such as 30s or 1m30s"))?;
    u64::try_from(parsed.0).map(Duration::from_nanos).map_err(|_| "must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kuma_dps_command_lines_work() {
        let cli = Cli::try_parse_from([
            "atoll-dp",
            "run",
            "--cp-address=https://10.0.0.1:5678",
            "--dataplane-file=dp.yaml",
            "--dataplane-var",
            "name=a",
            "-v",
            "address=1.2.3.4",
            "--dataplane-token-file=t",
            "--drain-time=5s",
            "--dns-enabled=false",
        ]);
        let Command::Run(args) = cli.unwrap().command else { panic!("not run") };
        assert_eq!(args.drain_time, Duration::from_secs(5));
        assert_eq!(
            args.variables().into_iter().collect::<Vec<_>>(),
            [("address".into(), "1.2.3.4".into()), ("name".into(), "a".into())]
        );
        assert!(!args.dns_enabled);
    }

    #[test]
    fn bad_values_are_refused() {
        for bad in [
            ["--service-probe", "http=tcp://a"],
            ["--service-probe", "http://a"],
            ["--drain-time", "soon"],
            ["--dataplane-var", "x"],
            ["--bind-outbounds", "127.0.0.1/99"],
            ["--access-log", ""],
        ] {
            assert!(Cli::try_parse_from(["atoll-dp", "run", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
    }
}
