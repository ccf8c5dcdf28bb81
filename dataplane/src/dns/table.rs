//! The names that the zone pushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::proto;

/// Name (lower case, no final dot) → addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The names.
    pub records: BTreeMap<String, Vec<IpAddr>>,
    /// How long a client may keep an answer.
    pub ttl_seconds: u32,
    /// The shapes of the mesh's names: `*.*.mesh.acme.corp`.
    #[serde(default)]
    pub shapes: BTreeSet<String>,
}

impl Table {
    /// The table after what the zone sent. Records with addresses that cannot be read are left out.
    #[must_use]
    pub fn after(&self, change: proto::DnsTable) -> Self {
        let mut records = if change.full { BTreeMap::new() } else { self.records.clone() };
        for name in &change.removed {
            records.remove(&canonical(name));
        }
        for record in change.records {
            let parsed: Result<Vec<IpAddr>, _> = record.addresses.iter().map(|address| address.parse()).collect();
            match parsed {
                Ok(addresses) => drop(records.insert(canonical(&record.name), addresses)),
                Err(_) => warn!("the zone sent an unreadable address for {}; the name is left out", record.name),
            }
        }
        let shapes = change.shapes.iter().map(|shape| canonical(shape)).collect();
        Self { records, ttl_seconds: change.ttl_seconds, shapes }
    }

    /// The addresses of a name, however it is written; none when the mesh does not have it.
    pub fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.records.get(&canonical(name)).map(Vec::as_slice)
    }
}

impl Table {
    /// The fixed end of the shape that a name has; none when it can be no name of the mesh.
    pub fn domain_of(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        self.shapes.iter().filter(|shape| has_shape(&name, shape)).find_map(|shape| fixed_end(shape))
    }
}

fn has_shape(name: &str, shape: &str) -> bool {
    name.split('.').count() == shape.split('.').count()
        && name.split('.').zip(shape.split('.')).all(|(label, expected)| expected == "*" || label == expected)
}

/// What follows the last label that differs; none when nothing does.
fn fixed_end(shape: &str) -> Option<&str> {
    let end = shape.rfind('*').map_or(shape, |star| shape[star + 1..].trim_start_matches('.'));
    (!end.is_empty()).then_some(end)
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(full: bool, records: &[(&str, &str)], removed: &[&str]) -> proto::DnsTable {
        let record = |(name, address): &(&str, &str)| proto::DnsRecord {
            name: (*name).to_owned(),
            addresses: vec![(*address).to_owned()],
        };
        proto::DnsTable {
            full,
            records: records.iter().map(record).collect(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
            ttl_seconds: 30,
            shapes: vec!["*.*.mesh.acme.corp".to_owned(), "*".to_owned()],
        }
    }

    #[test]
    fn a_name_of_the_meshs_shape_has_as_many_labels_and_the_same_fixed_ones() {
        let table = Table::default().after(change(true, &[], &[]));
        assert_eq!(table.domain_of("API.gcp.MESH.acme.corp."), Some("mesh.acme.corp"));
        for other in ["gcp.mesh.acme.corp", "a.api.gcp.mesh.acme.corp", "api.gcp.other.acme.corp", "api", "mesh.acme.corp", ""] {
            assert_eq!(table.domain_of(other), None, "{other}");
        }
        let last = table.after(proto::DnsTable { shapes: vec!["*.svc.mesh.local".into()], ..change(false, &[], &[]) });
        assert_eq!(
            (last.domain_of("api.gcp.mesh.acme.corp"), last.domain_of("api.svc.mesh.local")),
            (None, Some("svc.mesh.local"))
        );
    }

    #[test]
    fn deltas_are_laid_over_the_full_table() {
        let full = Table::default().after(change(true, &[("a.mesh", "127.0.0.1"), ("b.mesh", "127.0.0.2")], &[]));
        let next = full.after(change(false, &[("C.mesh.", "::1"), ("b.mesh", "127.0.0.3")], &["a.mesh"]));
        let expected = [("b.mesh", "127.0.0.3"), ("c.mesh", "::1")];
        let expected = expected.map(|(name, address)| (name.to_owned(), vec![address.parse().unwrap()])).into();
        assert_eq!((&next.records, next.ttl_seconds), (&expected, 30));
        assert_eq!(next.get("C.MESH."), Some(["::1".parse().unwrap()].as_slice()));
        assert_eq!(next.after(change(true, &[], &[])).get("b.mesh"), None);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_left_out() {
        let table = Table::default().after(change(true, &[("a", "nonsense"), ("b", "127.0.0.1")], &[]));
        assert_eq!(table.records.keys().collect::<Vec<_>>(), ["b"]);
    }
}
