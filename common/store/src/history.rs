//! Who changed what, from where and when; written in the transaction of the change itself.

use std::{fmt, net::IpAddr, str::FromStr};

use atoll_model::{Kind, Name, Owner, ResourceKey, Revision, Timestamp};
use bytes::Bytes;

/// One change by a person or a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The revision that the change took.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// Who, as in [`crate::Actor::subject`].
    pub subject: String,
    /// From where.
    pub address: Option<IpAddr>,
    /// What was done.
    pub action: HistoryAction,
    /// To which resource.
    pub key: ResourceKey,
    /// The key-encryption key that the images need, on their way to the journal.
    pub(crate) key_id: Option<String>,
    /// `{"labels":…,"spec":…}` before; `None` for a creation. The spec of a sealed kind is its sealed form.
    pub before: Option<Bytes>,
    /// The same after; `None` for a deletion.
    pub after: Option<Bytes>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryAction {
    /// It was not there before.
    Create,
    /// It is different now.
    Update,
    /// It is gone.
    Delete,
}

impl fmt::Display for HistoryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HistoryAction::Create => "create",
            HistoryAction::Update => "update",
            HistoryAction::Delete => "delete",
        })
    }
}

impl FromStr for HistoryAction {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "create" => Ok(HistoryAction::Create),
            "update" => Ok(HistoryAction::Update),
            "delete" => Ok(HistoryAction::Delete),
            other => Err(format!("unknown action {other:?}")),
        }
    }
}

/// Which entries to read, newest first. Every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// Changes of this kind.
    pub kind: Option<Kind>,
    /// Changes in this mesh.
    pub mesh: Option<Name>,
    /// Changes of resources with this name.
    pub name: Option<Name>,
    /// Changes of resources of this owner.
    pub owner: Option<Owner>,
    /// Changes by this subject.
    pub subject: Option<String>,
    /// Changes at or after this time.
    pub since: Option<Timestamp>,
    /// Changes before this revision: the next page begins before the last entry of this one.
    pub before: Option<Revision>,
    /// At most so many; 0 stands for 100, more than 1,000 for 1,000.
    pub limit: u32,
}

impl HistoryFilter {
    /// The number of entries to read at most.
    pub(crate) fn rows(&self) -> i64 {
        match self.limit {
            0 => 100,
            limit => i64::from(limit.min(1000)),
        }
    }
}
