//! The command line of redirection. Names are kumactl's where it has them.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgAction, Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::args::duration;

/// What is installed or removed.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// Redirects this host's TCP connections (and DNS, if asked) to the proxy that runs here. Needs root.
    TransparentProxy(Box<InstallArgs>),
}

/// What is removed.
#[derive(Debug, Subcommand)]
pub enum Uninstall {
    /// Ends redirection: new connections go their own way at once, open ones may finish, then nothing is left. Needs root.
    TransparentProxy(UninstallArgs),
}

/// Which traffic is redirected, and where to.
#[derive(Clone, Debug, Args)]
pub struct RedirectArgs {
    /// The user, name or uid, that runs `atoll-dp` and its Envoy and nothing else: its own connections are never redirected.
    #[arg(long, visible_alias = "kuma-dp-user", alias = "kuma-dp-uid", value_name = "USER")]
    pub dp_user: String,
    /// Whether connections to this host are redirected. No: for a client without inbounds.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub redirect_inbound: bool,
    /// `networking.transparentProxying.redirectPortInbound` of the Dataplane.
    #[arg(long, default_value_t = 15006, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub redirect_inbound_port: u16,
    /// `networking.transparentProxying.redirectPortOutbound` of the Dataplane.
    #[arg(long, default_value_t = 15001, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub redirect_outbound_port: u16,
    /// Redirects DNS to the proxy, but only what is asked of the servers in resolv.conf.
    #[arg(long)]
    pub redirect_dns: bool,
    /// Redirects DNS to the proxy, whichever server is asked.
    #[arg(long, conflicts_with = "redirect_dns")]
    pub redirect_all_dns_traffic: bool,
    /// Where the proxy answers DNS (`run --dns-port`).
    #[arg(long, default_value_t = 15053, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub redirect_dns_port: u16,
    /// Ports of this host that are reached directly, such as `443,8000-8100`. 22 always is.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub exclude_inbound_ports: Vec<Ports>,
    /// Ports elsewhere that this host's programs reach directly.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    pub exclude_outbound_ports: Vec<Ports>,
    /// Addresses or CIDRs that reach this host directly.
    #[arg(long, value_delimiter = ',', value_name = "CIDRS", value_parser = cidr)]
    pub exclude_inbound_ips: Vec<IpNet>,
    /// Addresses or CIDRs that this host's programs reach directly.
    #[arg(long, value_delimiter = ',', value_name = "CIDRS", value_parser = cidr)]
    pub exclude_outbound_ips: Vec<IpNet>,
    /// Uids whose connections are not redirected.
    #[arg(long, value_delimiter = ',', value_name = "UIDS")]
    pub exclude_outbound_uids: Vec<u32>,
    /// Gids whose connections are not redirected.
    #[arg(long, value_delimiter = ',', value_name = "GIDS")]
    pub exclude_outbound_gids: Vec<u32>,
    /// Which IP versions are redirected. With `ipv4`, IPv6 goes its own way.
    #[arg(long, value_enum, default_value_t = Families::Ipv4, value_name = "FAMILIES")]
    pub ip_family_mode: Families,
    /// The machine's resolv.conf: read, never written.
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "PATH")]
    pub resolv_conf: PathBuf,
    /// What was installed, so that it can be removed. In a folder that is empty after a boot, as redirection is.
    #[arg(long, default_value = "/run/atoll/transparent-proxy.json", value_name = "PATH")]
    pub state_file: PathBuf,
}

/// Arguments of `install transparent-proxy`.
#[derive(Clone, Debug, Args)]
pub struct InstallArgs {
    /// What is redirected.
    #[command(flatten)]
    pub redirect: RedirectArgs,
    /// Prints what would be done and what is in its way; changes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Installs although nothing listens at the proxy's ports yet: until it runs, redirected connections are refused.
    #[arg(long)]
    pub before_proxy: bool,
    /// Installs in spite of every conflict that is found.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `uninstall transparent-proxy`.
#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// How long open connections through the proxy may finish before they are cut.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub drain_time: Duration,
    /// Prints what would be done; changes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Removes the table although it is not as it was installed.
    #[arg(long)]
    pub force: bool,
    /// Where `install` wrote what it did.
    #[arg(long, default_value = "/run/atoll/transparent-proxy.json", value_name = "PATH")]
    pub state_file: PathBuf,
}

/// Arguments of `check`: those of `install transparent-proxy`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// What would be redirected.
    #[command(flatten)]
    pub redirect: RedirectArgs,
    /// Expects that the proxy does not run yet.
    #[arg(long)]
    pub before_proxy: bool,
}

/// IP versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// Both.
    Dualstack,
    /// Version 4 only.
    Ipv4,
}

/// A port or a range of them, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports(pub u16, pub u16);

impl Ports {
    /// Whether a port is one of them.
    pub fn contain(self, port: u16) -> bool {
        (self.0..=self.1).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first != 0 && first <= last => Ok(Self(first, last)),
            _ => Err("must be a port such as 80, or a range such as 8000-8100".to_owned()),
        }
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map(|network| network.trunc()).map_err(|_| "must be an address or a CIDR".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!("80".parse(), Ok(Ports(80, 80)));
        assert_eq!("8000-8100".parse(), Ok(Ports(8000, 8100)));
        for bad in ["", "0", "x", "9-8", "70000", "1-"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_networks() {
        assert_eq!(cidr("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(cidr("fd00::1").unwrap().to_string(), "fd00::1/128");
        assert!(cidr("example.com").is_err());
    }
}
