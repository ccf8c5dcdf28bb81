//! What a session must know before it starts.

use atoll_model::{Name, Revision, ZoneUid};
use uuid::Uuid;

use crate::sender::Has;

/// What global knows of the zone whose stream opens.
#[derive(Clone, Debug)]
pub struct GlobalSetup {
    /// The cluster.
    pub cluster: Uuid,
    /// The zone, from its certificate.
    pub zone: ZoneUid,
    /// Its name, from the registry.
    pub name: Name,
    /// What the store has of the zone's history.
    pub has: Has,
    /// Epochs of the zone that were [reported](crate::Event::Epochs) before.
    pub known: Vec<Uuid>,
    /// This plane's revision that contains all that it has of the peer.
    pub local: Revision,
    /// This process.
    pub instance: String,
    /// The program's version.
    pub software: String,
}

/// What a zone knows when it dials.
#[derive(Clone, Debug)]
pub struct ZoneSetup {
    /// The cluster that it joined.
    pub cluster: Uuid,
    /// Its identity.
    pub zone: ZoneUid,
    /// Its name.
    pub name: Name,
    /// What the store has of global's history.
    pub has: Has,
    /// An epoch of global that an operator accepted.
    pub follow: Option<Uuid>,
    /// This plane's revision that contains all that it has of the peer.
    pub local: Revision,
    /// This process.
    pub instance: String,
    /// The program's version.
    pub software: String,
}

/// Which end a session is.
#[derive(Debug)]
pub(super) enum Side {
    Global(GlobalSetup),
    Zone(ZoneSetup),
}
