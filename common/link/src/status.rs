//! What a plane knows of a link.

use std::collections::BTreeMap;

use atoll_model::{Clock, Name, Revision, Timestamp, ZoneUid};
use atoll_runtime::clock::SystemClock;
use atoll_sync::{Cursor, Session};

use crate::drive::End;

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No stream.
    #[default]
    Disconnected,
    /// Changes flow.
    Connected,
    /// The peer has another history: what it sends is not taken until an operator says so. Serving goes on.
    OtherHistory,
    /// This zone lost its newest state and takes global's copy of its own resources first.
    Restoring,
}

/// A link as one of its ends sees it. A connection alone proves nothing: look at the revisions and their age.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkStatus {
    /// How far the session is.
    pub phase: Phase,
    /// The zone at the other end, or this zone.
    pub zone: Option<(Name, ZoneUid)>,
    /// The other end's process and program version.
    pub instance: String,
    /// Version of the other end's program.
    pub software: String,
    /// The newest epoch that the other end has shown of its history.
    pub peer_epoch: Option<uuid::Uuid>,
    /// Since when the stream is open, or was lost.
    pub since: Option<Timestamp>,
    /// When anything last came from the other end.
    pub last_seen: Option<Timestamp>,
    /// The newest of this plane's revisions that the peer has been sent completely.
    pub sent: Revision,
    /// … that the peer has applied.
    pub applied: Revision,
    /// … that the peer's journal has.
    pub durable: Revision,
    /// The newest of the peer's revisions that this plane has received, applied and made durable.
    pub received: Revision,
    /// … that this plane has applied.
    pub received_applied: Revision,
    /// … that this plane's journal has.
    pub received_durable: Revision,
    /// Revision at which the peer last compared what it has of this plane's with our digest, and the kinds that differed.
    pub peer_compared: Option<(Revision, Vec<String>)>,
    /// The same for what this plane has of the peer's.
    pub compared: Option<(Revision, Vec<String>)>,
    /// What the peer rejects of ours: key and reason.
    pub rejected_by_peer: Vec<(String, String)>,
    /// What this plane rejects of the peer's.
    pub rejected: Vec<(String, String)>,
    /// Implied deletions that wait for an operator here, per kind.
    pub held: BTreeMap<String, u64>,
    /// … and at the peer.
    pub held_by_peer: BTreeMap<String, u64>,
    /// Kinds that were sent as a complete snapshot after a difference, since the process started.
    pub healed: u64,
    /// Why the last stream ended.
    pub last_error: Option<String>,
}

/// Writes what a session knows into a status.
pub(crate) fn read(session: &Session, status: &mut LinkStatus) {
    let phase = match session.phase() {
        atoll_sync::Phase::Greeting => Phase::Disconnected,
        atoll_sync::Phase::Open => Phase::Connected,
        atoll_sync::Phase::OtherHistory => Phase::OtherHistory,
        atoll_sync::Phase::Restoring => Phase::Restoring,
    };
    if phase != status.phase {
        status.phase = phase;
        status.since = Some(SystemClock.now());
    }
    if phase == Phase::Connected {
        status.last_error = None;
    }
    let (progress, receiver, greeting) = (session.progress(), session.receiver(), session.greeting());
    status.instance.clone_from(&greeting.instance);
    status.software.clone_from(&greeting.software);
    status.peer_epoch = greeting.epoch.or(status.peer_epoch);
    (status.sent, status.applied, status.durable) = (progress.sent, progress.applied, progress.durable);
    let revision = |cursor: Option<Cursor>| cursor.map_or(Revision(0), |cursor| cursor.revision);
    [status.received, status.received_applied, status.received_durable] = receiver.places().map(revision);
    status.peer_compared.clone_from(&progress.compared);
    status.compared = receiver.compared();
    status.rejected_by_peer.clone_from(&progress.rejected);
    status.rejected = receiver.rejected();
    status.held = receiver.held();
    status.held_by_peer.clone_from(&progress.held);
}

/// Notes that the stream is over, and why.
pub(crate) fn ended(status: &mut LinkStatus, end: &End) {
    status.phase = Phase::Disconnected;
    status.since = Some(SystemClock.now());
    status.last_error = Some(end.to_string());
}

/// Notes that there is no stream, and why.
pub(crate) fn failed(status: &mut LinkStatus, reason: String) {
    status.last_error = Some(reason);
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Fault(fault) => fault.fmt(f),
            End::Broken(Some(status)) => f.write_str(status.message()),
            End::Broken(None) => f.write_str("the connection was lost"),
            End::Superseded => f.write_str("the same zone opened a newer stream to another instance"),
            End::Shutdown => f.write_str("this control plane ends"),
            End::Ordered => f.write_str("ended by this control plane"),
        }
    }
}
