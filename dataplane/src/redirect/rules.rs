//! The rules, as text for `nft -f`. One table of our own holds them all.

use std::{collections::BTreeSet, fmt::Display, net::IpAddr};

use ipnet::IpNet;

use super::{
    args::Families,
    options::{Dns, Options},
};

/// Family and name of our table.
pub const TABLE: &str = "inet atoll_redirect";

/// From here the proxy dials the application behind it (Kuma's address): not led back to the proxy.
pub const UNREDIRECTED: &str = "127.0.0.6";

/// Only the first packet of a connection is judged. Without this, connections from before would be taken for new ones at
/// their next packet, and broken.
const FIRST: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// The conntrack zone of redirected DNS questions, of our own. The proxy's question to the real server may have the very
/// addresses and ports of a program's question shortly before, and must not be taken for it.
const DNS_ZONE: u16 = 15053;

/// Makes the table, or replaces it, in one transaction.
pub fn install(options: &Options) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    let mut chain = |name: &str, hook: &str, rules: Vec<String>| {
        text.push_str(&format!("\tchain {name} {{\n\t\ttype {hook}; policy accept;\n"));
        for rule in rules {
            text.push_str(&format!("\t\t{rule}\n"));
        }
        text.push_str("\t}\n");
    };
    chain("guard_inbound", "filter hook prerouting priority -150", guard_inbound(options));
    chain("guard_outbound", "filter hook output priority -150", guard_outbound(options));
    chain("inbound", "nat hook prerouting priority -101", inbound(options));
    chain("outbound", "nat hook output priority -101", outbound(options));
    chain("dns_questions", "filter hook output priority -300", dns_questions(options));
    chain("dns_answers", "filter hook output priority -300", dns_answers(options));
    text.push_str("}\n");
    text
}

/// Redirects nothing more. What is open stays as it is, because the chains are there.
pub fn release() -> String {
    ["inbound", "outbound", "dns_questions"].map(|chain| format!("flush chain {TABLE} {chain}\n")).concat()
}

/// Leaves nothing.
pub fn remove() -> String {
    format!("delete table {TABLE}\n")
}

/// Nobody from outside dials the proxy's ports themselves: such a connection would lead the proxy to itself.
fn guard_inbound(options: &Options) -> Vec<String> {
    let ports = set(options.proxy_ports());
    vec![format!("iifname != \"lo\" fib daddr type local tcp dport {ports} {FIRST} drop")]
}

/// Nor does the proxy itself.
fn guard_outbound(options: &Options) -> Vec<String> {
    let (uid, ports) = (options.uid, set(options.proxy_ports()));
    vec![format!("meta skuid {uid} fib daddr type local tcp dport {ports} {FIRST} reject with tcp reset")]
}

fn inbound(options: &Options) -> Vec<String> {
    let Some(port) = options.inbound else { return Vec::new() };
    let mut rules = families(options);
    // What this host forwards, for containers say, is not for it.
    rules.push("fib daddr type != local return".to_owned());
    rules.push(format!("tcp dport {} return", ports(options.inbound_ports.iter())));
    rules.extend(networks("saddr", &options.inbound_ips).map(|networks| format!("{networks} return")));
    rules.push(format!("{FIRST} redirect to :{port}"));
    rules
}

fn outbound(options: &Options) -> Vec<String> {
    let mut rules = families(options);
    rules.push(format!("oifname \"lo\" ip saddr {UNREDIRECTED} return"));
    if let Some(port) = options.inbound {
        // The proxy that calls a service of its own host goes in at the front, as it would elsewhere.
        let own = format!("meta skuid {} oifname \"lo\" ip daddr != 127.0.0.0/8 tcp dport != 53", options.uid);
        rules.push(format!("{own} {FIRST} redirect to :{port}"));
    }
    rules.extend(left_alone(options));
    for (dns, networks) in questions(options) {
        rules.push(format!("{networks}udp dport 53 redirect to :{}", dns.port));
        rules.push(format!("{networks}tcp dport 53 {FIRST} redirect to :{}", dns.port));
    }
    rules.push("oifname \"lo\" return".to_owned());
    if !options.outbound_ports.is_empty() {
        rules.push(format!("tcp dport {} return", ports(options.outbound_ports.iter())));
    }
    rules.extend(networks("daddr", &options.outbound_ips).map(|networks| format!("{networks} return")));
    rules.push(format!("{FIRST} redirect to :{}", options.outbound));
    rules
}

fn dns_questions(options: &Options) -> Vec<String> {
    if options.dns.is_none() {
        return Vec::new();
    }
    let mut rules = families(options);
    rules.extend(left_alone(options));
    rules.extend(questions(options).map(|(_, networks)| format!("{networks}udp dport 53 ct zone set {DNS_ZONE}")));
    rules
}

fn dns_answers(options: &Options) -> Vec<String> {
    let answer = |dns: &Dns| format!("meta skuid {} udp sport {} ct zone set {DNS_ZONE}", options.uid, dns.port);
    options.dns.iter().map(answer).collect()
}

fn families(options: &Options) -> Vec<String> {
    match options.families {
        Families::Dualstack => Vec::new(),
        Families::Ipv4 => vec!["meta nfproto ipv6 return".to_owned()],
    }
}

fn left_alone(options: &Options) -> Vec<String> {
    let uids = options.uids.iter().copied().chain([options.uid]).collect::<BTreeSet<_>>();
    let mut rules = vec![format!("meta skuid {} return", set(uids))];
    if !options.gids.is_empty() {
        rules.push(format!("meta skgid {} return", set(&options.gids)));
    }
    rules
}

/// Which DNS servers' questions are redirected: a match for each IP version, or one for all.
fn questions(options: &Options) -> impl Iterator<Item = (&Dns, String)> {
    options.dns.iter().flat_map(|dns| {
        let matches = match &dns.servers {
            None => vec![String::new()],
            Some(servers) => {
                let servers = servers.iter().copied().filter(|server| options.redirects(*server)).map(IpNet::from).collect();
                networks("daddr", &servers).map(|networks| format!("{networks} ")).collect()
            }
        };
        matches.into_iter().map(move |networks| (dns, networks))
    })
}

/// `ip saddr { … }`, `ip6 saddr { … }`: what there is.
fn networks(side: &str, networks: &BTreeSet<IpNet>) -> impl Iterator<Item = String> {
    let of = |family: &str, six: bool| {
        let all = IpNet::aggregate(&networks.iter().copied().filter(|net| matches!(net, IpNet::V6(_)) == six).collect());
        (!all.is_empty()).then(|| format!("{family} {side} {}", set(all.iter().map(short))))
    };
    [of("ip", false), of("ip6", true)].into_iter().flatten()
}

fn short(network: &IpNet) -> String {
    let whole = network.prefix_len() == network.max_prefix_len();
    if whole { IpAddr::to_string(&network.addr()) } else { network.to_string() }
}

/// Ranges that do not overlap: nft refuses others.
fn ports<'a>(ports: impl Iterator<Item = &'a super::args::Ports>) -> String {
    let mut merged: Vec<(u16, u16)> = Vec::new();
    // In order, because they come from an ordered set.
    for ports in ports {
        match merged.last_mut() {
            Some((_, last)) if u32::from(ports.0) <= u32::from(*last) + 1 => *last = (*last).max(ports.1),
            _ => merged.push((ports.0, ports.1)),
        }
    }
    let text = |(first, last): (u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    set(merged.into_iter().map(text))
}

fn set(items: impl IntoIterator<Item = impl Display>) -> String {
    format!("{{ {} }}", items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", "))
}
