//! What other programs' rules do to traffic that is to be redirected, read from the text of `nft list ruleset`.

use super::rules::TABLE;

/// What is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Rules that lead connections elsewhere, at the hooks that redirection uses too.
    pub nat: Vec<ForeignRule>,
    /// Tables of other meshes.
    pub meshes: Vec<String>,
    /// Chains that may drop what arrives at the proxy's inbound port.
    pub filters: Vec<String>,
}

/// A rule of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRule {
    /// `table inet x, chain y`.
    pub place: String,
    /// As nft writes it.
    pub rule: String,
}

impl ForeignRule {
    /// The destination port that it is about, if it is about one.
    pub fn port(&self) -> Option<u16> {
        self.rule.split_once("dport ")?.1.split(' ').next()?.parse().ok()
    }

    /// A resolver on loopback, as Docker has: what the proxy asks still gets there.
    pub fn is_local_resolver(&self) -> bool {
        self.rule.contains("ip daddr 127.")
    }
}

#[derive(Default)]
struct Table {
    name: String,
    /// It has a chain at the hooks that redirection uses.
    hooked: bool,
    rules: Vec<ForeignRule>,
}

/// Reads a ruleset; our own table is left out.
pub fn read(ruleset: &str) -> Foreign {
    let mut found = Foreign::default();
    let (mut table, mut chain) = (Table::default(), String::new());
    for line in ruleset.lines() {
        let words = line.trim();
        if let Some(name) = line.strip_prefix("table ") {
            found.take(std::mem::take(&mut table));
            table.name = name.trim_end_matches(" {").to_owned();
            continue;
        }
        if table.name == TABLE {
            continue;
        }
        if let Some(name) = words.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {").to_owned();
            if is_mesh(&chain) || is_mesh(table.name.rsplit(' ').next().unwrap_or_default()) {
                found.meshes.push(format!("table {}, chain {chain}", table.name));
            }
        } else if words.starts_with("type nat hook prerouting") || words.starts_with("type nat hook output") {
            table.hooked = true;
        } else if words.starts_with("type filter hook input") && words.contains("policy drop") {
            found.filters.push(format!("table {}, chain {chain}: drops what no rule accepts", table.name));
        } else if leads_elsewhere(words) {
            table.rules.push(ForeignRule { place: format!("table {}, chain {chain}", table.name), rule: words.to_owned() });
        }
    }
    found.take(table);
    found
}

impl Foreign {
    fn take(&mut self, table: Table) {
        if table.hooked {
            self.nat.extend(table.rules);
        }
    }
}

fn is_mesh(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["kuma_mesh", "mesh_inbound", "mesh_outbound", "istio", "proxy_init", "consul_proxy"]
        .iter()
        .any(|mesh| name.starts_with(mesh))
}

fn leads_elsewhere(rule: &str) -> bool {
    let mut words = rule.split(' ');
    words.clone().any(|word| matches!(word, "redirect" | "dnat" | "tproxy"))
        || words.any(|word| matches!(word.trim_matches('"'), "REDIRECT" | "DNAT" | "TPROXY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULESET: &str = "table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump DOCKER
	}

	chain DOCKER {
		iifname != \"docker0\" tcp dport 8080 dnat to 172.17.0.2:80
		ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:41235
	}
}
table inet snat {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.0.0.0/8 masquerade
	}
}
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		tcp dport 443 accept
	}
}
table inet atoll_redirect {
	chain outbound {
		type nat hook output priority -101; policy accept;
		redirect to :15001
	}
}
table ip other {
	chain KUMA_MESH_INBOUND {
		tcp dport 22 return
	}
}
";

    #[test]
    fn rules_that_get_in_the_way_are_found_and_others_are_not() {
        let found = read(RULESET);
        let rules: Vec<_> = found.nat.iter().map(|rule| (rule.place.as_str(), rule.port(), rule.is_local_resolver())).collect();
        assert_eq!(rules, [("table ip nat, chain DOCKER", Some(8080), false), ("table ip nat, chain DOCKER", Some(53), true)]);
        assert_eq!(found.meshes, ["table ip other, chain KUMA_MESH_INBOUND"]);
        assert_eq!(found.filters, ["table inet filter, chain input: drops what no rule accepts"]);
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(read(""), Foreign::default());
    }
}
