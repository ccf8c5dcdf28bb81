//! What a batch would change: pure, checked in memory against a table.

use std::{mem, sync::Arc};

use atoll_model::{Change, ContentHash, Labels, Resource, ResourceKey, Revision, Timestamp, Tombstone, resource};
use bytes::Bytes;

use crate::{
    Actor, AuditRecord, Committed, Expect, HistoryAction, HistoryEntry, Once, Rejected, RemoteBatch, RemoteItem, Repeated,
    StoreError, TableSnapshot, Write, WriteBatch, WriteResult,
    journal::{DoneBefore, DoneOnce, RowChange, Rows},
    seal::{DataKeys, SealedSpec, is_sealed},
};

mod audit;

/// Largest spec that is stored; a link message must be able to carry it.
const SPEC_MAX: usize = 1 << 20;

/// Batches laid over a table one after the other, and the rows that make them last.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) table: TableSnapshot,
    pub(crate) rows: Rows,
    /// What the journal said of the keys of these batches, and what this plan adds to it.
    before: DoneBefore,
    now: Timestamp,
}

impl Plan {
    /// Begins with nothing laid over `table`. `now` goes into the rows.
    pub(crate) fn over(table: &TableSnapshot, now: Timestamp) -> Self {
        Self { table: table.clone(), rows: Rows::default(), before: DoneBefore::default(), now: micros(now) }
    }

    /// Knows what was done before under the keys of the batches that follow.
    pub(crate) fn knowing(self, before: DoneBefore) -> Self {
        Self { before, ..self }
    }

    /// Lays a batch over the table as a whole, or leaves the plan as it was.
    /// `keys` are those of its sealed resources.
    pub(crate) fn write(&mut self, batch: &WriteBatch, keys: &DataKeys) -> Result<Committed, StoreError> {
        if let Some(repeated) = batch.once.as_ref().map_or(Ok(None), |once| self.done_before(once))? {
            return Ok(Committed { revision: repeated.revision, results: Vec::new(), repeated: Some(repeated) });
        }
        let mut draft = Draft::over(&self.table, &batch.actor, keys, self.now);
        let results = batch.writes.iter().map(|write| draft.write_audited(write)).collect::<Result<Vec<_>, _>>()?;
        self.accept(draft);
        if let Some(once) = &batch.once {
            self.note(once, &results);
        }
        Ok(Committed { revision: self.table.revision(), results, repeated: None })
    }

    /// What was done under a key, if something was.
    fn done_before(&self, once: &Once) -> Result<Option<Repeated>, StoreError> {
        match self.before.get(&once.subject, &once.key) {
            None => Ok(None),
            Some(done) if done.request != once.request => Err(StoreError::KeyReused),
            Some(done) => Ok(Some(Repeated { revision: done.revision, outcomes: done.outcomes.clone() })),
        }
    }

    fn note(&mut self, once: &Once, results: &[WriteResult]) {
        let done = DoneOnce {
            subject: once.subject.clone(),
            key: once.key.clone(),
            request: once.request,
            revision: self.table.revision(),
            outcomes: results.iter().map(WriteResult::kind).collect(),
            at: self.now,
        };
        self.before.add(done.clone());
        self.rows.once.push(done);
    }

    /// Lays what a peer sent over the table, item by item; an item that cannot be stored does not stop the others.
    pub(crate) fn remote(&mut self, batch: &RemoteBatch, keys: &DataKeys) -> (Revision, Vec<Rejected>) {
        let mut draft = Draft::over(&self.table, &batch.actor, keys, self.now);
        let mut rejected = Vec::new();
        for item in &batch.items {
            let (key, done) = match item {
                RemoteItem::Put { key, labels, spec } => (key, draft.put(key, labels, spec, Expect::Any)),
                RemoteItem::Delete { key } => (key, draft.delete(key, Expect::Any)),
            };
            if let Err(error) = done {
                let reason = if let StoreError::Invalid { reason, .. } = error { reason } else { error.to_string() };
                rejected.push(Rejected { key: key.clone(), reason });
            }
        }
        self.accept(draft);
        if let Some(cursor) = batch.cursor {
            self.rows.cursors.insert(batch.peer.clone(), cursor);
        }
        (self.table.revision(), rejected)
    }

    fn accept(&mut self, draft: Draft<'_>) {
        self.table = draft.table;
        for (key, change) in draft.changes {
            self.rows.push(key, change);
        }
        self.rows.history.extend(draft.history);
        self.rows.audit.extend(draft.audit);
    }
}

/// Postgres keeps microseconds: what is in memory must be what is read back.
fn micros(time: Timestamp) -> Timestamp {
    chrono::SubsecRound::trunc_subsecs(time, 6)
}

/// One batch, while it is checked.
struct Draft<'a> {
    table: TableSnapshot,
    changes: Vec<(ResourceKey, RowChange)>,
    history: Vec<HistoryEntry>,
    audit: Vec<AuditRecord>,
    actor: &'a Actor,
    keys: &'a DataKeys,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    fn over(table: &TableSnapshot, actor: &'a Actor, keys: &'a DataKeys, now: Timestamp) -> Self {
        Self { table: table.clone(), changes: Vec::new(), history: Vec::new(), audit: Vec::new(), actor, keys, now }
    }

    fn write(&mut self, write: &Write) -> Result<WriteResult, StoreError> {
        match write {
            Write::Put { key, labels, spec, expect } => self.put(key, labels, spec, *expect),
            Write::PutComputed { key, computed, expect } => self.put_computed(key, computed.as_ref(), *expect),
            Write::Check { key, expect } => Ok(self.expected(key, *expect)?.map_or(WriteResult::Absent, WriteResult::Unchanged)),
            Write::Delete { key, expect } => self.delete(key, *expect),
        }
    }

    fn put(&mut self, key: &ResourceKey, labels: &Labels, spec: &Bytes, expect: Expect) -> Result<WriteResult, StoreError> {
        if let Some(reason) = fault(key, labels, spec) {
            return Err(StoreError::Invalid { key: key.clone(), reason: reason.to_owned() });
        }
        let Some(old) = self.expected(key, expect)? else {
            let resource = Arc::new(self.created(key, labels, spec));
            self.keep(None, resource.clone())?;
            return Ok(WriteResult::Created(resource));
        };
        if old.labels == *labels && old.spec == *spec {
            return Ok(WriteResult::Unchanged(old));
        }
        let mut new = Resource {
            revision: self.table.revision().next(),
            version: old.version + 1,
            generation: old.generation + u64::from(old.spec != *spec),
            labels: labels.clone(),
            spec: spec.clone(),
            modified: self.now,
            ..old.as_ref().clone()
        };
        new.hash = ContentHash::of(&new.labels, &new.document());
        let new = Arc::new(new);
        self.keep(Some(&old), new.clone())?;
        Ok(WriteResult::Updated(new))
    }

    fn created(&self, key: &ResourceKey, labels: &Labels, spec: &Bytes) -> Resource {
        // Who still holds a version of a deleted namesake must not match this one by chance.
        let version = self.table.tombstone(key).map_or(1, |tombstone| tombstone.revision.0 + 1);
        Resource {
            key: key.clone(),
            revision: self.table.revision().next(),
            version,
            generation: 1,
            labels: labels.clone(),
            spec: spec.clone(),
            computed: None,
            hash: ContentHash::of(labels, spec),
            created: self.now,
            modified: self.now,
        }
    }

    fn put_computed(&mut self, key: &ResourceKey, computed: Option<&Bytes>, expect: Expect) -> Result<WriteResult, StoreError> {
        if is_sealed(key.kind) {
            return Err(StoreError::Invalid { key: key.clone(), reason: "a sealed resource has no computed part".to_owned() });
        }
        if computed.is_some_and(|bytes| !is_json(bytes)) {
            return Err(StoreError::Invalid { key: key.clone(), reason: "the computed part is not JSON".to_owned() });
        }
        let Some(old) = self.expected(key, expect)? else { return Err(StoreError::NotFound(key.clone())) };
        if old.computed.as_ref() == computed {
            return Ok(WriteResult::Unchanged(old));
        }
        let mut new = Resource {
            revision: self.table.revision().next(),
            version: old.version + 1,
            computed: computed.cloned(),
            ..old.as_ref().clone()
        };
        new.hash = ContentHash::of(&new.labels, &new.document());
        let new = Arc::new(new);
        self.keep(Some(&old), new.clone())?;
        Ok(WriteResult::Updated(new))
    }

    fn delete(&mut self, key: &ResourceKey, expect: Expect) -> Result<WriteResult, StoreError> {
        let Some(old) = self.expected(key, expect)? else { return Ok(WriteResult::Absent) };
        let tombstone = Tombstone { key: key.clone(), revision: self.table.revision().next(), deleted: self.now };
        let tombstone = Arc::new(tombstone);
        self.record(tombstone.revision, Some(&old), None)?;
        self.changes.push((key.clone(), RowChange::Delete { tombstone: tombstone.clone(), recorded: self.actor.record }));
        self.table.apply(Change::Delete(tombstone));
        Ok(WriteResult::Deleted(old))
    }

    /// The resource, if what the caller expects of it holds.
    fn expected(&self, key: &ResourceKey, expect: Expect) -> Result<Option<Arc<Resource>>, StoreError> {
        let found = self.table.get(key).cloned();
        match (expect, &found) {
            (Expect::Any, _) | (Expect::Absent, None) | (Expect::Exists, Some(_)) => Ok(found),
            (Expect::Absent, Some(_)) => Err(StoreError::AlreadyExists(key.clone())),
            (Expect::Exists, None) => Err(StoreError::NotFound(key.clone())),
            (Expect::Version(expected), Some(resource)) if resource.version == expected => Ok(found),
            (Expect::Version(expected), other) => {
                let actual = other.as_ref().map(|resource| resource.version);
                Err(StoreError::Conflict { key: key.clone(), expected, actual })
            }
        }
    }

    fn keep(&mut self, old: Option<&Resource>, new: Arc<Resource>) -> Result<(), StoreError> {
        let sealed = self.seal(&new)?.map(Arc::new);
        self.record(new.revision, old, Some(&new))?;
        self.changes.push((new.key.clone(), RowChange::Put { resource: new.clone(), fresh: old.is_none(), sealed }));
        self.table.apply(Change::Put(new));
        Ok(())
    }

    /// What the journal gets in the place of the spec; `None` for kinds that are open.
    fn seal(&self, resource: &Resource) -> Result<Option<SealedSpec>, StoreError> {
        if !is_sealed(resource.key.kind) {
            return Ok(None);
        }
        match self.keys.get(&resource.key) {
            Some(key) => Ok(Some(key.seal(resource))),
            None => Err(StoreError::Invalid {
                key: resource.key.clone(),
                reason: "this plane has no key to seal secrets with".to_owned(),
            }),
        }
    }

    fn record(&mut self, revision: Revision, old: Option<&Resource>, new: Option<&Resource>) -> Result<(), StoreError> {
        if !self.actor.record {
            return Ok(());
        }
        let (action, key) = match (old, new) {
            (None, Some(new)) => (HistoryAction::Create, &new.key),
            (Some(_), Some(new)) => (HistoryAction::Update, &new.key),
            (Some(old), None) => (HistoryAction::Delete, &old.key),
            (None, None) => return Ok(()),
        };
        let before = old.map(|resource| self.image(resource)).transpose()?;
        let after = new.map(|resource| self.image(resource)).transpose()?;
        self.history.push(HistoryEntry {
            revision,
            at: self.now,
            subject: self.actor.subject.clone(),
            address: self.actor.address,
            action,
            key: key.clone(),
            key_id: self.keys.get(key).map(|sealing| sealing.key_id().to_owned()),
            before,
            after,
        });
        Ok(())
    }

    /// `{"labels":…,"spec":…}` with the spec's own bytes, or its sealed form.
    fn image(&self, resource: &Resource) -> Result<Bytes, StoreError> {
        let labels = resource::labels_json(&resource.labels);
        let spec = self.seal(resource)?.map_or_else(|| resource.spec.clone(), |sealed| sealed.spec);
        Ok([b"{\"labels\":", labels.as_slice(), b",\"spec\":", &spec, b"}"].concat().into())
    }
}

/// Why this cannot be stored on every journal, if so. What a spec must contain is not the store's business.
fn fault(key: &ResourceKey, labels: &Labels, spec: &[u8]) -> Option<&'static str> {
    let has_nul = |text: &str| text.contains('\0');
    if has_nul(&key.name) || has_nul(&key.mesh) || labels.iter().any(|(key, value)| has_nul(key) || has_nul(value)) {
        Some("names and labels cannot contain the character U+0000")
    } else if spec.len() > SPEC_MAX {
        Some("the spec has more than 1 MiB")
    } else if !is_json(spec) {
        Some("the spec is not JSON")
    } else {
        None
    }
}

fn is_json(bytes: &[u8]) -> bool {
    // Ignoring a value skips over strings without looking at their bytes, so UTF-8 is looked at first.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

impl Plan {
    /// Takes the rows out and leaves the table.
    pub(crate) fn take_rows(&mut self) -> Rows {
        mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests;
