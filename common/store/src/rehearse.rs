//! Batches that are judged and not done.

use atoll_model::Timestamp;

use crate::{Committed, Store, StoreError, WriteBatch, plan::Plan};

impl Store {
    /// What [`Store::commit`] of this batch would do to the present table: the same results and the same refusals, nothing
    /// written, whether the journal takes writes or not. Whether the batch was done before under its key is not looked up.
    ///
    /// # Errors
    /// The first write that cannot be done.
    pub fn rehearse(&self, batch: &WriteBatch, now: Timestamp) -> Result<Committed, StoreError> {
        Plan::over(&self.snapshot(), now).write(batch)
    }
}
