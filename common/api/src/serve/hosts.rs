//! Under which names a plane answers. A web page whose name is made to point at the plane (DNS rebinding) brings its own name.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Names under which a plane answers. An address is always one of them: no other page can have it as its own.
#[derive(Clone, Debug)]
pub struct Hosts(Option<Arc<BTreeSet<String>>>);

impl Hosts {
    /// Every name.
    pub fn any() -> Self {
        Self(None)
    }

    /// These names, `localhost`, and addresses.
    pub fn of<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(|name| canonical(name.as_ref()));
        Self(Some(Arc::new(names.chain(["localhost".to_owned()]).collect())))
    }

    /// Whether `host`, with its port or without, is one of them.
    pub fn knows(&self, host: &str) -> bool {
        let Some(names) = &self.0 else { return true };
        let Some(name) = without_port(host) else { return false };
        name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || names.contains(&canonical(name))
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(name, port)| (name, port.strip_prefix(':')))?,
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    (port.is_none_or(|port| port.parse::<u16>().is_ok()) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_and_addresses_are_known() {
        let hosts = Hosts::of(["cp.acme.corp", "Global"]);
        for known in
            ["cp.acme.corp", "CP.acme.corp.:5682", "global:5681", "localhost:1", "127.0.0.1:5681", "[::1]:5681", "10.0.0.7"]
        {
            assert!(hosts.knows(known), "{known}");
        }
        for strange in
            ["", ":5681", "evil.example", "cp.acme.corp.evil.example", "localhost:x", "[::1", "127.0.0.1.evil.example:5681"]
        {
            assert!(!hosts.knows(strange), "{strange}");
        }
        assert!(Hosts::any().knows("evil.example"));
    }
}
