//! `to` entries: which hold for a destination, and what they say together.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{
    Kind, Labels, labels,
    target_ref::{TargetKind, TargetRef},
};
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::Xxh3;

use crate::{Policy, intern::Interner, merge::merge, policy::OutgoingItem, precedence};

/// What selectors of `to` entries see of one port of a destination.
#[derive(Clone, Copy, Debug)]
pub struct ServiceFacts<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its labels as this plane presents them.
    pub labels: &'a Labels,
    /// The port's name, or its number as text.
    pub section: &'a str,
    /// The port's number.
    pub port: u16,
}

/// The `to` entries of one kind of policies that hold for some proxies, ascending, found by the destination's labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    lookup: Lookup,
}

#[derive(Clone, Debug)]
struct Entry {
    policy: Arc<Policy>,
    item: usize,
}

impl Entry {
    fn item(&self) -> &OutgoingItem {
        &self.policy.outgoing[self.item]
    }
}

impl Entries {
    /// Takes the entries of those `policies` that are of this kind, in ascending order of the policies.
    pub(crate) fn new(kind: Kind, policies: &[Arc<Policy>]) -> Self {
        let mut entries: Vec<_> = policies
            .iter()
            .filter(|policy| policy.key.kind == kind)
            .flat_map(|policy| (0..policy.outgoing.len()).map(|item| Entry { policy: Arc::clone(policy), item }))
            .collect();
        entries.sort_by(|a, b| {
            precedence::of_entry(&a.policy, &a.item().target).cmp(&precedence::of_entry(&b.policy, &b.item().target))
        });
        let lookup = Lookup::new(entries.iter().map(|entry| &entry.item().target));
        Self { entries, lookup }
    }

    /// All entries, ascending.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<Policy>, usize)> {
        self.entries.iter().map(|entry| (&entry.policy, entry.item))
    }

    /// What holds for one destination.
    pub(crate) fn merged_to<T: DeserializeOwned + Default>(&self, service: &ServiceFacts<'_>, merged: &Interner<T>) -> Arc<T> {
        let holding = self.lookup.find(service, |index| &self.entries[index].item().target);
        let mut hasher = Xxh3::new();
        for index in &holding {
            hasher.update(&self.entries[*index].item().hash.to_le_bytes());
        }
        merged.get(hasher.digest128(), || {
            let conf = merge(holding.iter().map(|index| &self.entries[*index].item().conf));
            // Every entry parsed as `T`, and so does what they say together.
            serde_json::from_value(conf).unwrap_or_default()
        })
    }

    /// The policies whose entries hold for one destination, ascending, with the entry's position in `to`.
    pub(crate) fn origins_to(&self, service: &ServiceFacts<'_>) -> Vec<(Arc<Policy>, usize)> {
        let holding = self.lookup.find(service, |index| &self.entries[index].item().target);
        holding.into_iter().map(|index| (Arc::clone(&self.entries[index].policy), self.entries[index].item)).collect()
    }
}

/// Finds the references that match a destination without looking at all of them.
#[derive(Clone, Debug, Default)]
struct Lookup {
    /// References with labels, by one of them.
    by_label: BTreeMap<String, BTreeMap<String, Vec<usize>>>,
    /// References without labels: the mesh.
    general: Vec<usize>,
}

impl Lookup {
    fn new<'a>(targets: impl Iterator<Item = &'a TargetRef> + Clone) -> Self {
        // A label that few references share finds few candidates.
        let mut shared: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (key, value) in targets.clone().flat_map(|target| &target.labels) {
            *shared.entry((key, value)).or_default() += 1;
        }
        let mut lookup = Self::default();
        for (index, target) in targets.enumerate() {
            let rarest = target.labels.iter().min_by_key(|(key, value)| shared.get(&(key.as_str(), value.as_str())));
            match rarest {
                None => lookup.general.push(index),
                Some((key, value)) => {
                    lookup.by_label.entry(key.clone()).or_default().entry(value.clone()).or_default().push(index);
                }
            }
        }
        lookup
    }

    /// The matching references, ascending.
    fn find<'a>(&self, service: &ServiceFacts<'_>, target: impl Fn(usize) -> &'a TargetRef) -> Vec<usize> {
        let mut found: Vec<usize> = self.general.iter().copied().filter(|index| holds_for(target(*index), service)).collect();
        for (key, values) in &self.by_label {
            let candidates = service.labels.get(key).and_then(|value| values.get(value));
            found.extend(candidates.into_iter().flatten().copied().filter(|index| holds_for(target(*index), service)));
        }
        found.sort_unstable();
        found
    }
}

fn holds_for(target: &TargetRef, service: &ServiceFacts<'_>) -> bool {
    let of_kind = match target.kind {
        TargetKind::Mesh => return true,
        TargetKind::MeshService | TargetKind::MeshExternalService | TargetKind::MeshMultiZoneService => {
            service.kind.name() == target.kind.name()
        }
        TargetKind::Dataplane | TargetKind::MeshHTTPRoute => false,
    };
    let of_section = |wanted: &str| wanted == service.section || wanted.parse() == Ok(service.port);
    of_kind && labels::matches(&target.labels, service.labels) && target.section_name.as_deref().is_none_or(of_section)
}

/// What differs between two selections: which destinations and inbounds must be looked at again.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    targets: Vec<TargetRef>,
    lookup: Lookup,
    incoming: bool,
}

impl Changed {
    /// Compares two selections, each ascending.
    pub(crate) fn between(old: &[Arc<Policy>], new: &[Arc<Policy>]) -> Self {
        let index = |policies: &[Arc<Policy>]| -> BTreeMap<u128, Arc<Policy>> {
            policies.iter().map(|policy| (policy.hash.0, Arc::clone(policy))).collect()
        };
        let (old, new) = (index(old), index(new));
        let gone = old.iter().filter(|(hash, _)| !new.contains_key(hash));
        let come = new.iter().filter(|(hash, _)| !old.contains_key(hash));
        let (mut targets, mut incoming) = (Vec::new(), false);
        for (_, policy) in gone.chain(come) {
            targets.extend(policy.outgoing.iter().map(|item| item.target.clone()));
            incoming |= policy.outgoing.is_empty();
        }
        let lookup = Lookup::new(targets.iter());
        Self { targets, lookup, incoming }
    }

    /// Whether what holds for this destination may differ.
    pub fn touches(&self, service: &ServiceFacts<'_>) -> bool {
        !self.lookup.find(service, |index| &self.targets[index]).is_empty()
    }

    /// Whether what holds for inbounds may differ.
    pub fn touches_inbounds(&self) -> bool {
        self.incoming
    }
}
