//! Histories: epochs, and places in them.

use atoll_model::Revision;
use uuid::Uuid;

use crate::proto;

/// A stretch of one store's history. A plane appends one at each start and at each reconnect to its store, so that a store
/// that was put back in time differs from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Random.
    pub id: Uuid,
    /// The first revision that may be taken in it; it reaches up to the next epoch's first, or to the head.
    pub first: Revision,
}

/// A revision with the epoch that it belongs to: a place in one history and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The epoch's id.
    pub epoch: Uuid,
    /// The revision.
    pub revision: Revision,
}

impl Cursor {
    /// The place of `revision` in the history of `epochs` (oldest first); `None` without epochs.
    pub fn at(epochs: &[Epoch], revision: Revision) -> Option<Self> {
        let epoch = epochs.iter().rev().find(|epoch| epoch.first <= revision).or(epochs.first())?;
        Some(Self { epoch: epoch.id, revision })
    }

    /// Whether a store with this history has been at this place.
    pub fn standing(&self, epochs: &[Epoch], head: Revision) -> Standing {
        let Some(index) = epochs.iter().position(|epoch| epoch.id == self.epoch) else { return Standing::Other };
        if index > 0 && epochs[index].first > self.revision {
            return Standing::Other;
        }
        let reach = match epochs.get(index + 1) {
            Some(next) => Revision(next.first.0.saturating_sub(1)),
            None if self.revision > head => return Standing::Ahead,
            None => head,
        };
        if self.revision <= reach { Standing::Held } else { Standing::Other }
    }
}

/// What a store thinks of a peer's cursor; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The store has been there.
    Held,
    /// Same history, but this reader of the store has not read that far yet.
    Ahead,
    /// Another history.
    Other,
}

impl From<Cursor> for proto::Cursor {
    fn from(cursor: Cursor) -> Self {
        Self { epoch: bytes::Bytes::copy_from_slice(cursor.epoch.as_bytes()), revision: cursor.revision.0 }
    }
}

impl TryFrom<&proto::Cursor> for Cursor {
    type Error = uuid::Error;
    fn try_from(cursor: &proto::Cursor) -> Result<Self, uuid::Error> {
        Ok(Self { epoch: Uuid::from_slice(&cursor.epoch)?, revision: Revision(cursor.revision) })
    }
}

impl From<Epoch> for proto::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self { id: bytes::Bytes::copy_from_slice(epoch.id.as_bytes()), first: epoch.first.0 }
    }
}

impl TryFrom<&proto::Epoch> for Epoch {
    type Error = uuid::Error;
    fn try_from(epoch: &proto::Epoch) -> Result<Self, uuid::Error> {
        Ok(Self { id: Uuid::from_slice(&epoch.id)?, first: Revision(epoch.first) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn check(epochs: &[(u128, u64)], head: u64, cursor: (u128, u64), expected: Standing) {
        let epochs: Vec<_> = epochs.iter().map(|(n, first)| Epoch { id: id(*n), first: Revision(*first) }).collect();
        let cursor = Cursor { epoch: id(cursor.0), revision: Revision(cursor.1) };
        assert_eq!(cursor.standing(&epochs, Revision(head)), expected, "{cursor:?} in {epochs:?} up to {head}");
    }

    #[test]
    fn a_store_holds_what_its_epochs_reach() {
        check(&[(1, 1)], 50, (1, 50), Standing::Held);
        check(&[(1, 1)], 50, (1, 0), Standing::Held);
        check(&[(1, 1), (2, 51)], 70, (1, 50), Standing::Held);
        check(&[(1, 1), (2, 51)], 70, (2, 51), Standing::Held);
        check(&[(1, 1), (2, 51), (3, 51)], 70, (3, 60), Standing::Held);
    }

    #[test]
    fn a_store_put_back_in_time_has_another_history_however_high_it_grows() {
        check(&[(1, 1), (2, 51)], 70, (1, 60), Standing::Other);
        check(&[(1, 1), (2, 51)], 70, (9, 60), Standing::Other);
        check(&[(1, 1), (2, 51), (3, 51)], 70, (2, 51), Standing::Other);
        check(&[(1, 1), (2, 51)], 70, (2, 40), Standing::Other);
    }

    #[test]
    fn an_instance_that_reads_late_is_behind_not_different() {
        check(&[(1, 1)], 50, (1, 51), Standing::Ahead);
        check(&[(1, 1), (2, 40)], 50, (1, 51), Standing::Other);
    }

    #[test]
    fn a_revision_belongs_to_the_newest_epoch_that_began_before_it() {
        let epochs = [Epoch { id: id(1), first: Revision(1) }, Epoch { id: id(2), first: Revision(5) }];
        let at = |revision| Cursor::at(&epochs, Revision(revision)).map(|cursor| cursor.epoch);
        assert_eq!([at(0), at(4), at(5)], [Some(id(1)), Some(id(1)), Some(id(2))]);
    }
}
