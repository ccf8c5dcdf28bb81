//! What the command line means on this host.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use nix::unistd::User;
use serde::{Deserialize, Serialize};

use super::{
    RedirectFault,
    args::{Families, Ports, RedirectArgs},
};
use crate::dns::upstream::name_servers;

/// A port that is always reached directly, so that nobody locks themselves out.
pub const SSH: Ports = Ports(22, 22);

/// Everything that the rules depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The proxy's user.
    pub uid: u32,
    /// Where connections to this host go; none: they are left alone.
    pub inbound: Option<u16>,
    /// Where connections from this host go.
    pub outbound: u16,
    /// What becomes of DNS.
    pub dns: Option<Dns>,
    /// Ports that are reached directly.
    pub inbound_ports: BTreeSet<Ports>,
    /// Who reaches this host directly.
    pub inbound_ips: BTreeSet<IpNet>,
    /// Ports elsewhere that are reached directly.
    pub outbound_ports: BTreeSet<Ports>,
    /// Networks that are reached directly.
    pub outbound_ips: BTreeSet<IpNet>,
    /// Other users that are left alone.
    pub uids: BTreeSet<u32>,
    /// Groups that are left alone.
    pub gids: BTreeSet<u32>,
    /// Which IP versions are redirected.
    pub families: Families,
}

/// Redirection of DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Where questions go.
    pub port: u16,
    /// Only questions to these servers; none: to every server.
    pub servers: Option<BTreeSet<IpAddr>>,
}

impl Options {
    /// Looks up the user, and reads the name servers from the text of resolv.conf.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn new(args: &RedirectArgs, resolv_conf: &str) -> Result<Self, RedirectFault> {
        let servers = || name_servers(resolv_conf).into_iter().map(|server| server.ip()).collect();
        let dns = match (args.redirect_dns, args.redirect_all_dns_traffic) {
            (false, false) => None,
            (only, _) => Some(Dns { port: args.redirect_dns_port, servers: only.then(servers) }),
        };
        Ok(Self {
            uid: uid(&args.dp_user)?,
            inbound: args.redirect_inbound.then_some(args.redirect_inbound_port),
            outbound: args.redirect_outbound_port,
            dns,
            inbound_ports: args.exclude_inbound_ports.iter().copied().chain([SSH]).collect(),
            inbound_ips: args.exclude_inbound_ips.iter().copied().collect(),
            outbound_ports: args.exclude_outbound_ports.iter().copied().collect(),
            outbound_ips: args.exclude_outbound_ips.iter().copied().collect(),
            uids: args.exclude_outbound_uids.iter().copied().collect(),
            gids: args.exclude_outbound_gids.iter().copied().collect(),
            families: args.ip_family_mode,
        })
    }

    /// Whether traffic of that version is redirected.
    pub fn redirects(&self, address: IpAddr) -> bool {
        self.families == Families::Dualstack || address.is_ipv4()
    }

    /// Whether a listener of this host would be reached through the proxy.
    pub fn intercepts_inbound(&self, port: u16) -> bool {
        self.inbound.is_some() && !self.inbound_ports.iter().any(|excluded| excluded.contain(port)) && !self.is_proxy(port)
    }

    /// Whether a new connection to that place, by that user, would go through the proxy.
    pub fn intercepts_outbound(&self, to: IpAddr, port: u16, uid: u32) -> bool {
        let left_alone = uid == self.uid
            || self.uids.contains(&uid)
            || to.is_loopback()
            || self.outbound_ports.iter().any(|excluded| excluded.contain(port))
            || self.outbound_ips.iter().any(|network| network.contains(&to));
        self.redirects(to) && !left_alone
    }

    /// The proxy's own TCP ports.
    pub fn proxy_ports(&self) -> Vec<u16> {
        self.inbound.into_iter().chain([self.outbound]).collect()
    }

    fn is_proxy(&self, port: u16) -> bool {
        self.proxy_ports().contains(&port)
    }
}

fn uid(user: &str) -> Result<u32, RedirectFault> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let found = User::from_name(user).ok().flatten();
    found.map(|user| user.uid.as_raw()).ok_or_else(|| RedirectFault::User(user.to_owned()))
}
