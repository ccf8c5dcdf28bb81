//! Findings in words.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr, path::Path};

use super::{
    args::Families,
    findings::{Findings, Installed, name_servers},
    host::Listener,
    rules,
};

/// What `check` prints.
pub fn check(findings: &Findings) -> String {
    let mut text = String::new();
    section(&mut text, "Redirection", &standing(findings));
    section(&mut text, "In the way (install refuses)", &findings.conflicts());
    section(&mut text, "To know", &warnings(findings));
    section(&mut text, "Listeners that would be reached through the proxy", &intercepted(findings));
    section(&mut text, "Listeners that stay as they are", &untouched(findings));
    section(
        &mut text,
        "Open connections: they stay as they are; new ones like them would go through the proxy",
        &connections(findings),
    );
    section(&mut text, "Names", &names(findings));
    section(&mut text, "Rules of others at the same hooks", &others(findings));
    text.trim_end().to_owned()
}

/// What `install --dry-run` prints.
pub fn dry_run(findings: &Findings, script: &str) -> String {
    let mut text = String::new();
    section(&mut text, "In the way (install refuses)", &findings.conflicts());
    section(&mut text, "To know", &warnings(findings));
    let _ = write!(text, "nft would do, in one transaction:\n{script}Nothing is changed.");
    text
}

/// What `install` prints.
pub fn installed(findings: &Findings, state: &Path, ignored: &[String]) -> String {
    let mut text = String::new();
    section(&mut text, "Ignored, as --force says", ignored);
    section(&mut text, "To know", &warnings(findings));
    let _ =
        write!(text, "redirection is installed (table {}); what was there before stands in {}", rules::TABLE, state.display());
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    text.push('\n');
}

fn standing(findings: &Findings) -> Vec<String> {
    let options = &findings.options;
    let state = match findings.installed() {
        Installed::No => "not installed".to_owned(),
        Installed::Yes => format!("installed (table {})", rules::TABLE),
        Installed::Gone => "was installed, and its table is gone, as after a boot".to_owned(),
        Installed::Changed => format!("installed, but the table {} was changed since; install refuses", rules::TABLE),
        Installed::Unknown => format!("a table {} is there that the state file does not know; install refuses", rules::TABLE),
    };
    let inbound = options.inbound.map_or_else(|| "not redirected".to_owned(), |port| format!("to port {port}"));
    let dns = match &options.dns {
        None => "not redirected".to_owned(),
        Some(dns) => format!("to port {}", dns.port),
    };
    vec![
        format!("{state}; by {}", findings.nft),
        format!("connections to this host: {inbound}"),
        format!("connections from this host: to port {}, but for uid {}, the proxy's", options.outbound, options.uid),
        format!("DNS: {dns}"),
    ]
}

fn warnings(findings: &Findings) -> Vec<String> {
    let options = &findings.options;
    let mut found = Vec::new();
    if options.uid == 0 {
        found.push("the proxy runs as root, so nothing that root runs is redirected; give it a user of its own".to_owned());
    }
    if options.families == Families::Ipv4 {
        let six = findings.sockets.listening.iter().any(|listener| listener.at.is_ipv6() && !listener.at.ip().is_loopback());
        let open = if six { ": listeners on [::] are reached there without the proxy" } else { "" };
        found.push(format!("IPv6 is not redirected{open}"));
    }
    if let Some(port) = options.inbound {
        found.extend(
            findings
                .foreign
                .filters
                .iter()
                .map(|filter| format!("{filter}; what is redirected arrives at port {port}, which it must accept")),
        );
    }
    if let Some(dns) = &options.dns
        && dns.servers.as_ref().is_some_and(|servers| !servers.iter().any(|server| options.redirects(*server)))
    {
        found.push(
            "no name server in resolv.conf is one whose questions could be redirected: names of the mesh will not be found"
                .into(),
        );
    }
    found
}

fn intercepted(findings: &Findings) -> Vec<String> {
    let options = &findings.options;
    let reached = |listener: &&Listener| {
        options.intercepts_inbound(listener.at.port())
            && !listener.at.ip().is_loopback()
            && (listener.at.ip().is_unspecified() || options.redirects(listener.at.ip()))
    };
    findings.sockets.listening.iter().filter(reached).map(line).collect()
}

fn untouched(findings: &Findings) -> Vec<String> {
    let options = &findings.options;
    let why = |listener: &Listener| {
        let (ip, port) = (listener.at.ip(), listener.at.port());
        let reason = if options.proxy_ports().contains(&port) {
            "the proxy"
        } else if ip.is_loopback() {
            "loopback only"
        } else if options.inbound.is_none() {
            "inbound is not redirected"
        } else if !options.intercepts_inbound(port) {
            "excluded port"
        } else if !ip.is_unspecified() && !options.redirects(ip) {
            "IPv6"
        } else {
            return None;
        };
        Some(format!("{}: {reason}", line(listener)))
    };
    findings.sockets.listening.iter().filter_map(why).collect()
}

fn line(listener: &Listener) -> String {
    format!("{} {} uid {}", listener.at, listener.owner, listener.uid)
}

/// One line for each kind of connection: from whom to where, and how many.
fn connections(findings: &Findings) -> Vec<String> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for open in &findings.sockets.established {
        if open.remote.ip().is_loopback() || findings.options.proxy_ports().contains(&open.local.port()) {
            continue;
        }
        let text = if findings.sockets.is_incoming(open) {
            let through = findings.options.intercepts_inbound(open.local.port()) && findings.options.redirects(open.local.ip());
            through.then(|| format!("to port {} {} uid {}", open.local.port(), open.owner, open.uid))
        } else {
            let through = findings.options.intercepts_outbound(open.remote.ip(), open.remote.port(), open.uid);
            through.then(|| format!("from {} uid {} to {}", open.owner, open.uid, open.remote))
        };
        if let Some(text) = text {
            *kinds.entry(text).or_default() += 1;
        }
    }
    kinds.into_iter().map(|(kind, count)| format!("{kind}: {count}")).collect()
}

fn names(findings: &Findings) -> Vec<String> {
    let asked = |server: IpAddr| match &findings.options.dns {
        Some(dns) if findings.options.redirects(server) && dns.servers.as_ref().is_none_or(|all| all.contains(&server)) => {
            format!("questions would go to the proxy, port {}", dns.port)
        }
        Some(_) => "questions stay as they are: its IP version is not redirected".to_owned(),
        None => "questions stay as they are: --redirect-dns is not given".to_owned(),
    };
    let mut lines: Vec<_> = name_servers(&findings.resolv_conf)
        .into_iter()
        .map(|server| format!("name server {server}: {}", asked(server)))
        .collect();
    lines.push("resolv.conf is read, and never changed".to_owned());
    lines
}

fn others(findings: &Findings) -> Vec<String> {
    findings.foreign.nat.iter().map(|rule| format!("{}: {}", rule.place, rule.rule)).collect()
}
