//! Every acknowledged write, and how it compares with what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use atoll_model::{Kind, Revision};
use atoll_runtime::{clock::SystemClock, tasks::Tasks};
use atoll_store::{AuditFilter, HistoryFilter, Store, StoreConfig};
use serde_json::Value;

use super::writers::{path, value};
use crate::rest::Rest;

/// One acknowledged write.
pub(super) struct Ack {
    pub(super) name: String,
    /// The value written.
    pub(super) number: u64,
    pub(super) revision: u64,
    /// Whether the first try was not answered.
    pub(super) repeated: bool,
    /// Whether the other instance was read after it.
    pub(super) paired: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Ledger {
    acks: Vec<Ack>,
}

/// What the comparison saw.
pub(super) struct Seen {
    /// Records of the audit that belong to the writes.
    pub(super) audit: usize,
}

impl Ledger {
    pub(super) fn add(&mut self, acks: Vec<Ack>) {
        self.acks.extend(acks);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acks.len()
    }

    pub(super) fn repeated(&self) -> usize {
        self.acks.iter().filter(|ack| ack.repeated).count()
    }

    pub(super) fn paired(&self) -> usize {
        self.acks.iter().filter(|ack| ack.paired).count()
    }

    /// P1: the newest acknowledged value of each resource is there. P2: history has each value once, at the revision that was
    /// acknowledged. P10: the audit has one record for each change, and its chains are whole.
    pub(super) async fn check(&self, rest: &Rest, url: &str) -> Result<Seen> {
        let newest = self.newest();
        for (name, number) in &newest {
            let document = rest.get(&path(name)).await.with_context(|| format!("{name} was acknowledged and is lost"))?;
            let there = value(&document).with_context(|| format!("{name} has no value: {document}"))?;
            ensure!(there == *number, "{name}: {number} was acknowledged, {there} is there");
        }
        let tasks = Tasks::new();
        let store = Store::open(StoreConfig::Postgres { url: url.to_owned() }, Arc::new(SystemClock), &tasks).await?;
        let changes = changes(&store).await?;
        self.compare(&changes)?;
        let audit = audited(&store, &changes).await?;
        store.close().await;
        Ok(Seen { audit })
    }

    fn newest(&self) -> BTreeMap<&str, u64> {
        let mut newest = BTreeMap::new();
        for ack in &self.acks {
            let entry = newest.entry(ack.name.as_str()).or_insert(ack.number);
            *entry = ack.number.max(*entry);
        }
        newest
    }

    fn compare(&self, changes: &[Change]) -> Result<()> {
        let mut at = BTreeMap::new();
        for change in changes {
            let earlier = at.insert((change.name.as_str(), change.number), change.revision);
            ensure!(earlier.is_none(), "{} became {} twice, at {earlier:?} and {}", change.name, change.number, change.revision);
        }
        for ack in &self.acks {
            let written = at.get(&(ack.name.as_str(), ack.number));
            let written = written.with_context(|| format!("{} = {} is not in the history", ack.name, ack.number))?;
            ensure!(
                *written == ack.revision,
                "{} = {} was acknowledged at revision {}, and written at {written}",
                ack.name,
                ack.number,
                ack.revision
            );
        }
        ensure!(changes.len() == self.acks.len(), "{} changes, {} acknowledged", changes.len(), self.acks.len());
        Ok(())
    }
}

/// One change in the history.
struct Change {
    name: String,
    number: u64,
    revision: u64,
}

/// The history of the writers' resources.
async fn changes(store: &Store) -> Result<Vec<Change>> {
    let (mut changes, mut before) = (Vec::new(), None);
    loop {
        let filter = HistoryFilter { kind: Some(Kind::MeshTimeout), before, limit: 1000, ..HistoryFilter::default() };
        let page = store.history(&filter).await?;
        let Some(last) = page.last() else { return Ok(changes) };
        before = Some(last.revision);
        for entry in &page {
            let after = entry.after.as_ref().context("a writer's resource was deleted")?;
            let document: Value = serde_json::from_slice(after)?;
            let number = value(&document).with_context(|| format!("no value in {document}"))?;
            changes.push(Change { name: entry.key.name.to_string(), number, revision: entry.revision.0 });
        }
    }
}

/// The records of the audit that belong to the changes: one each.
async fn audited(store: &Store, changes: &[Change]) -> Result<usize> {
    let revisions: BTreeSet<u64> = changes.iter().map(|change| change.revision).collect();
    let (mut records, mut filter) = (BTreeMap::<u64, usize>::new(), AuditFilter { limit: 1000, ..AuditFilter::default() });
    loop {
        let page = store.audit(&filter).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.position);
        for record in page.iter().filter_map(|entry| entry.record.revision) {
            *records.entry(record.0).or_default() += 1;
        }
    }
    for revision in &revisions {
        let count = records.get(revision).copied().unwrap_or(0);
        ensure!(count == 1, "the change at revision {} has {count} audit records", Revision(*revision));
    }
    let verified = store.verify_audit().await?;
    ensure!(verified.broken.is_none(), "a chain of the audit is broken: {:?}", verified.broken);
    Ok(revisions.len())
}
