//! What redirection would meet on this host.

use std::{net::IpAddr, path::Path};

use super::{
    RedirectFault,
    args::{Families, RedirectArgs},
    host::{Listener, Sockets},
    nft,
    options::{Dns, Options},
    ruleset::{self, Foreign},
    state::{self, State},
};

/// Everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// What is asked for.
    pub options: Options,
    /// Version of nft.
    pub nft: String,
    /// The whole ruleset.
    pub ruleset: String,
    /// Our table, if it is there.
    pub table: Option<String>,
    /// What was installed, as the state file says.
    pub state: Option<State>,
    /// What others have done.
    pub foreign: Foreign,
    /// Who listens and who is connected.
    pub sockets: Sockets,
    /// Text of resolv.conf.
    pub resolv_conf: String,
    /// Whether the old kernel interface of iptables has NAT rules, which nft does not see.
    pub legacy_nat: bool,
    /// Whether the proxy need not run yet.
    pub before_proxy: bool,
}

/// How much of our redirection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nothing.
    No,
    /// Our table, untouched.
    Yes,
    /// The state file knows a table that is gone, as after a boot or `nft flush ruleset`.
    Gone,
    /// Our table, but somebody changed it.
    Changed,
    /// A table of our name that the state file does not know.
    Unknown,
}

/// Where a state and a table stand to each other.
pub fn installed(state: Option<&State>, table: Option<&String>) -> Installed {
    match (state, table) {
        (None, None) => Installed::No,
        (None, Some(_)) => Installed::Unknown,
        (Some(_), None) => Installed::Gone,
        (Some(state), Some(table)) if state.table == *table => Installed::Yes,
        // A run that was cut off before it could write down what it made.
        (Some(state), Some(_)) if state.table.is_empty() => Installed::Yes,
        (Some(_), Some(_)) => Installed::Changed,
    }
}

impl Findings {
    /// Looks at this host.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn look(args: &RedirectArgs, before_proxy: bool) -> Result<Self, RedirectFault> {
        let file = |error| RedirectFault::File(args.resolv_conf.clone(), error);
        let resolv_conf = std::fs::read_to_string(&args.resolv_conf).map_err(file)?;
        let ruleset = nft::ruleset()?;
        Ok(Self {
            options: Options::new(args, &resolv_conf)?,
            nft: nft::version()?,
            table: nft::table()?,
            state: state::load(&args.state_file)?,
            foreign: ruleset::read(&ruleset),
            ruleset,
            sockets: Sockets::look()?,
            resolv_conf,
            legacy_nat: has_legacy_nat(Path::new("/proc/net/ip_tables_names"))
                || has_legacy_nat(Path::new("/proc/net/ip6_tables_names")),
            before_proxy,
        })
    }

    /// How much is there.
    pub fn installed(&self) -> Installed {
        installed(self.state.as_ref(), self.table.as_ref())
    }

    /// Whether `install` would refuse.
    pub fn refuses(&self) -> bool {
        match self.installed() {
            Installed::Unknown | Installed::Changed => true,
            Installed::No | Installed::Yes | Installed::Gone => !self.conflicts().is_empty(),
        }
    }

    /// What is in the way, with what to do about it.
    pub fn conflicts(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.foreign.meshes.iter().map(|mesh| format!("{mesh}: another mesh redirects this host; remove it first")).collect();
        found.extend(self.nat_conflicts());
        if self.legacy_nat {
            found.push(
                "the old interface of iptables has a nat table, which nft does not show: iptables-legacy -t nat -S".to_owned(),
            );
        }
        found.extend(self.listener_conflicts());
        if let Some(Dns { servers: None, .. }) = self.options.dns
            && let Some(server) = name_servers(&self.resolv_conf).into_iter().find(IpAddr::is_loopback)
        {
            found.push(format!(
                "the name server {server} is a program of this host, whose own questions would come back to it: use --redirect-dns, \
                 or leave its user alone (--exclude-outbound-uids)"
            ));
        }
        found
    }

    fn nat_conflicts(&self) -> impl Iterator<Item = String> {
        let excluded = |port: u16| !self.options.intercepts_inbound(port);
        let rules = self.foreign.nat.iter().filter(move |rule| !rule.is_local_resolver() && !rule.port().is_some_and(excluded));
        rules.map(|rule| {
            let what = rule.port().map_or_else(String::new, |port| format!(", or --exclude-inbound-ports {port}"));
            format!(
                "{}: {:?} leads connections elsewhere, and would lose them to the proxy; remove it{what}",
                rule.place, rule.rule
            )
        })
    }

    fn listener_conflicts(&self) -> Vec<String> {
        let (options, sockets) = (&self.options, &self.sockets);
        let mut wanted: Vec<_> = vec![("connections from this host", options.outbound, &sockets.listening, false)];
        wanted.extend(options.inbound.map(|port| ("connections to this host", port, &sockets.listening, true)));
        wanted.extend(options.dns.as_ref().map(|dns| ("DNS", dns.port, &sockets.datagrams, false)));
        let mut found = Vec::new();
        for (what, port, listeners, everywhere) in wanted {
            found.extend(self.listener_conflict(what, port, listeners, everywhere, false));
            if options.families == Families::Dualstack {
                found.extend(self.listener_conflict(what, port, listeners, everywhere, true));
            }
        }
        found.dedup();
        found
    }

    /// Who is at a port to which traffic would be led.
    fn listener_conflict(&self, what: &str, port: u16, all: &[Listener], everywhere: bool, six: bool) -> Option<String> {
        let uid = self.options.uid;
        let mut there = all.iter().filter(|listener| listener.at.port() == port && reaches(listener.at.ip(), everywhere, six));
        match there.next() {
            Some(listener) if listener.uid != uid => Some(format!(
                "port {port}, where {what} would go, is of uid {}, {}, not of uid {uid}: what the proxy sends would come back to it",
                listener.uid, listener.owner
            )),
            Some(_) => None,
            None if self.before_proxy => None,
            None => {
                let version = if six { "IPv6" } else { "IPv4" };
                let place = if everywhere { "all addresses" } else { "loopback" };
                Some(format!(
                    "nothing listens for {version} on {place} at port {port}, where {what} would go: start the proxy first, or give \
                     --before-proxy"
                ))
            }
        }
    }
}

/// Whether what is redirected gets to a listener there. `[::]` takes IPv4 too, as is usual.
fn reaches(at: IpAddr, everywhere: bool, six: bool) -> bool {
    match at {
        IpAddr::V4(at) => !six && (at.is_unspecified() || (!everywhere && at.is_loopback())),
        IpAddr::V6(at) => at.is_unspecified() || (six && !everywhere && at.is_loopback()),
    }
}

/// The servers of a resolv.conf.
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    crate::dns::upstream::name_servers(resolv_conf).into_iter().map(|server| server.ip()).collect()
}

fn has_legacy_nat(names: &Path) -> bool {
    std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "nat"))
}
