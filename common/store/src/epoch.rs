//! Stretches of one history. A revision means something only together with the epoch that it belongs to: a store that was
//! restored from a backup gives the same numbers to other changes.

use std::sync::Arc;

use atoll_model::Revision;
use uuid::Uuid;

/// A stretch of history: from its first revision to the one before the next epoch's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Random.
    pub id: Uuid,
    /// The first revision that could be given in it.
    pub first: Revision,
}

/// All epochs of a store, oldest first. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs(Arc<[Epoch]>);

impl Epochs {
    /// Makes the list; the caller gives them in the order in which they were opened.
    pub fn new(epochs: Vec<Epoch>) -> Self {
        Self(epochs.into())
    }

    /// The epochs, oldest first.
    pub fn as_slice(&self) -> &[Epoch] {
        &self.0
    }

    /// The epoch that is open.
    pub fn current(&self) -> Option<Epoch> {
        self.0.last().copied()
    }

    /// The epoch that `revision` belongs to. Revision 0, before all changes, belongs to the oldest.
    pub fn of(&self, revision: Revision) -> Option<Epoch> {
        self.0.iter().rev().find(|epoch| epoch.first <= revision).or(self.0.first()).copied()
    }

    /// Whether `revision` of the epoch `id` is part of this history, which has come to `head`. A peer with another pair has
    /// seen another history.
    pub fn holds(&self, id: Uuid, revision: Revision, head: Revision) -> bool {
        revision <= head && self.of(revision).is_some_and(|epoch| epoch.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_belongs_to_the_epoch_that_was_open() {
        let id = Uuid::from_u128;
        let epoch = |n, first| Epoch { id: id(n), first: Revision(first) };
        let epochs = Epochs::new(vec![epoch(1, 1), epoch(2, 4), epoch(3, 4), epoch(4, 9)]);
        for (revision, expected) in [(0, 1), (1, 1), (3, 1), (4, 3), (8, 3), (9, 4), (99, 4)] {
            assert_eq!(epochs.of(Revision(revision)).map(|epoch| epoch.id), Some(id(expected)), "{revision}");
        }
        assert!(epochs.holds(id(3), Revision(8), Revision(10)));
        assert!(!epochs.holds(id(1), Revision(8), Revision(10)), "that revision was given in a later epoch here");
        assert!(!epochs.holds(id(4), Revision(11), Revision(10)), "this history has not come so far");
        assert!(!epochs.holds(id(7), Revision(2), Revision(10)));
        assert_eq!(Epochs::default().of(Revision(1)), None);
    }
}
