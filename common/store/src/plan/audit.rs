//! What a batch adds to the audit.

use atoll_model::ResourceKey;

use super::Draft;
use crate::{AuditRecord, AuthMethod, Decision, StoreError, Write, WriteResult, audit::clean, seal::is_sealed};

impl Draft<'_> {
    /// Does a write and, for recorded actors, notes it: one row for each write, also for one that changes nothing.
    pub(super) fn write_audited(&mut self, write: &Write) -> Result<WriteResult, StoreError> {
        if !self.actor.record || matches!(write, Write::Check { .. }) {
            return self.write(write);
        }
        let before = self.digest(write.key());
        let result = self.write(write)?;
        let after = self.digest(write.key());
        let revision = match &result {
            WriteResult::Created(new) | WriteResult::Updated(new) => Some(new.revision),
            WriteResult::Deleted(_) => Some(self.table.revision()),
            WriteResult::Unchanged(_) | WriteResult::Absent => None,
        };
        let request = self.actor.request.as_ref();
        self.audit.push(AuditRecord {
            at: self.now,
            revision,
            request_id: request.map(|request| clean(&request.id)),
            subject: clean(&self.actor.subject),
            method: request.map_or(AuthMethod::None, |request| request.method),
            address: self.actor.address,
            verb: verb(&result).to_owned(),
            object: clean(&write.key().to_string()),
            before,
            after,
            decision: Decision::Allowed,
            reason: request.and_then(|request| request.reason.as_deref()).map(clean),
        });
        Ok(result)
    }

    fn digest(&self, key: &ResourceKey) -> Option<[u8; 16]> {
        let resource = self.table.get(key)?;
        // The content hash of a secret would tell whether a guess of it is right.
        Some(if is_sealed(key.kind) { self.keys.get(key)?.digest(resource) } else { resource.hash.to_bytes() })
    }
}

fn verb(result: &WriteResult) -> &'static str {
    match result {
        WriteResult::Created(_) => "create",
        WriteResult::Updated(_) | WriteResult::Unchanged(_) => "update",
        WriteResult::Deleted(_) | WriteResult::Absent => "delete",
    }
}
