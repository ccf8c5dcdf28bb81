//! The names that a proxy's DNS answers, and what changed in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::proto;

/// How long a client may keep an answer, unless the zone says otherwise.
pub const TTL_SECONDS: u32 = 30;

/// Names (lower case, no final dot) and their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTable {
    /// Name → addresses.
    pub records: BTreeMap<String, Vec<IpAddr>>,
    /// How long a client may keep an answer.
    pub ttl_seconds: u32,
    /// The shapes of the mesh's names: `*.*.mesh.acme.corp`.
    pub shapes: Arc<BTreeSet<String>>,
}

impl Default for NameTable {
    fn default() -> Self {
        Self { records: BTreeMap::new(), ttl_seconds: TTL_SECONDS, shapes: Arc::default() }
    }
}

impl NameTable {
    /// The whole table: the first message of a stream.
    pub fn full(&self) -> proto::DnsTable {
        let records = self.records.iter().map(record).collect();
        self.message(true, records, Vec::new())
    }

    /// What turns `before` into this table; `None` when they are equal.
    pub fn delta(&self, before: &Self) -> Option<proto::DnsTable> {
        let changed = |(name, addresses): &(&String, &Vec<IpAddr>)| before.records.get(*name) != Some(addresses);
        let records: Vec<_> = self.records.iter().filter(changed).map(record).collect();
        let removed: Vec<_> = before.records.keys().filter(|name| !self.records.contains_key(*name)).cloned().collect();
        let same = records.is_empty() && removed.is_empty();
        let same = same && self.ttl_seconds == before.ttl_seconds && self.shapes == before.shapes;
        (!same).then(|| self.message(false, records, removed))
    }

    fn message(&self, full: bool, records: Vec<proto::DnsRecord>, removed: Vec<String>) -> proto::DnsTable {
        let shapes = self.shapes.iter().cloned().collect();
        proto::DnsTable { full, records, removed, ttl_seconds: self.ttl_seconds, shapes }
    }
}

fn record((name, addresses): (&String, &Vec<IpAddr>)) -> proto::DnsRecord {
    proto::DnsRecord { name: name.clone(), addresses: addresses.iter().map(IpAddr::to_string).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(records: &[(&str, &str)]) -> NameTable {
        let records = records.iter().map(|(name, address)| ((*name).to_owned(), vec![address.parse().unwrap()])).collect();
        NameTable { records, ..NameTable::default() }
    }

    #[test]
    fn a_delta_holds_what_changed_alone() {
        let before = table(&[("gone", "127.0.0.1"), ("moved", "127.0.0.2"), ("same", "127.0.0.3")]);
        let after = table(&[("moved", "127.0.0.4"), ("new", "::1"), ("same", "127.0.0.3")]);
        let record = |name: &str, address: &str| proto::DnsRecord { name: name.into(), addresses: vec![address.into()] };
        let expected = proto::DnsTable {
            full: false,
            records: vec![record("moved", "127.0.0.4"), record("new", "::1")],
            removed: vec!["gone".into()],
            ttl_seconds: 30,
            shapes: Vec::new(),
        };
        assert_eq!(after.delta(&before), Some(expected));
        assert_eq!(after.delta(&after), None);
        assert!(after.full().full);
        let shapes: Arc<BTreeSet<String>> = Arc::new(["*.mesh".to_owned()].into());
        let shaped = NameTable { shapes, ..after.clone() };
        assert_eq!(shaped.delta(&after).map(|delta| delta.shapes), Some(vec!["*.mesh".to_owned()]));
    }
}
