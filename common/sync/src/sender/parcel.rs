//! A batch in the making.

use atoll_model::{Resource, ResourceKey, Revision};
use prost::Message;

use crate::{Cursor, proto, wire};

/// What a field of a repeated message costs beside the message itself, at most.
const FRAME: usize = 6;
/// What the rest of a batch takes of the peer's credit.
const BASE: usize = 64;

/// Collects resources and removals up to a size.
pub(super) struct Parcel {
    batch: proto::Batch,
    size: usize,
    max: usize,
    pub(super) completes: Option<Cursor>,
    /// Where its contents stand, when that is beyond what it completes.
    pub(super) reaches: Option<Cursor>,
}

impl Parcel {
    pub(super) fn new(max: usize) -> Self {
        Self { batch: proto::Batch::default(), size: 0, max, completes: None, reaches: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.resources.is_empty() && self.batch.removals.is_empty() && self.batch.snapshot.is_none()
    }

    /// Adds a resource unless there is no room; the first one always has room.
    pub(super) fn put(&mut self, resource: &Resource) -> bool {
        let message = proto::Resource::from(resource);
        let fits = self.take(message.encoded_len());
        if fits {
            self.batch.resources.push(message);
        }
        fits
    }

    /// Adds a removal unless there is no room.
    pub(super) fn remove(&mut self, key: &ResourceKey, revision: Revision) -> bool {
        let message = wire::removal(key, revision);
        let fits = self.take(message.encoded_len());
        if fits {
            self.batch.removals.push(message);
        }
        fits
    }

    /// Makes it a part of a complete snapshot.
    pub(super) fn mark(&mut self, snapshot: proto::Snapshot) {
        self.batch.snapshot = Some(snapshot);
    }

    fn take(&mut self, size: usize) -> bool {
        let size = size + FRAME;
        let fits = self.size == 0 || self.size + size <= self.max;
        self.size += if fits { size } else { 0 };
        fits
    }

    /// The batch, unless it would say nothing.
    pub(super) fn finish(mut self) -> Option<proto::Batch> {
        if self.is_empty() && self.completes.is_none() {
            return None;
        }
        self.batch.completes = self.completes.map(Into::into);
        self.batch.reaches = self.reaches.map(Into::into);
        self.batch.cost = (self.size + BASE) as u64;
        Some(self.batch)
    }
}
