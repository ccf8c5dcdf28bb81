//! Which zone is which: names, identities, certificates and the tokens by which a zone joins; and which tokens were revoked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_model::{Name, Timestamp, ZoneUid};
use uuid::Uuid;

/// A one-time token by which a zone joins. The secret itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The part of the token by which the row is found.
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The only zone name that it lets in.
    pub zone: Name,
    /// When it ends.
    pub expires: Timestamp,
}

/// What became of a try to use a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redeem {
    /// Used for the first time.
    Accepted,
    /// Used again within 15 minutes with the same key: the first answer was lost.
    Repeated,
    /// Not taken. Peers are never told which of these it was.
    Refused(Refusal),
}

/// Why a join token was not taken; for logs and operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No token with this id and secret.
    Unknown,
    /// It is for another zone.
    OtherZone,
    /// It has ended.
    Expired,
    /// It was used with another key, or too long ago.
    Used,
}

/// Who holds a zone name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneHolder {
    /// The name.
    pub name: Name,
    /// The identity that holds it.
    pub uid: ZoneUid,
    /// Since when.
    pub bound: Timestamp,
    /// When its right to connect was withdrawn.
    pub revoked: Option<Timestamp>,
}

/// What became of binding a name to an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The identity holds the name, now or since long.
    Bound(ZoneHolder),
    /// Another identity holds the name.
    Taken(ZoneHolder),
    /// The identity holds another name.
    Renamed(ZoneHolder),
}

/// A certificate that was issued to a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneCertificate {
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Whose.
    pub zone: ZoneUid,
    /// Which instance of the zone's plane.
    pub instance: String,
    /// SHA-256 of the public key.
    pub spki: [u8; 32],
    /// From when.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// When it was withdrawn.
    pub revoked: Option<Timestamp>,
}

/// A token that ends before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRevocation {
    /// The token's `jti`.
    pub id: String,
    /// When the token ends by itself; after that it need not be known any longer.
    pub until: Timestamp,
    /// When it was revoked.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// The zones that may connect and the tokens that may not be used, in memory and followed by every instance within a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    pub(crate) holders: BTreeMap<Name, ZoneHolder>,
    pub(crate) revoked_serials: BTreeSet<String>,
    /// The newest session with each peer.
    pub(crate) sessions: BTreeMap<String, Uuid>,
    /// The `jti` of the tokens that were revoked, and when each ends by itself.
    pub revoked: Arc<BTreeMap<String, Timestamp>>,
}

impl Registry {
    /// Who holds a name.
    pub fn holder(&self, name: &str) -> Option<&ZoneHolder> {
        self.holders.get(name)
    }

    /// What an identity holds.
    pub fn by_uid(&self, uid: ZoneUid) -> Option<&ZoneHolder> {
        self.holders.values().find(|holder| holder.uid == uid)
    }

    /// Whether the token with this `jti` was revoked.
    pub fn is_revoked(&self, id: &str) -> bool {
        self.revoked.contains_key(id)
    }

    /// Whether a newer session with the peer was begun, on whichever instance. Never on SQLite, which has one process.
    pub fn is_superseded(&self, peer: &str, session: Uuid) -> bool {
        self.sessions.get(peer).is_some_and(|newest| *newest != session)
    }

    /// Every holder, by name.
    pub fn holders(&self) -> impl Iterator<Item = &ZoneHolder> {
        self.holders.values()
    }

    /// Whether the zone `uid` may connect with the certificate `serial`: it holds a name and neither was revoked.
    pub fn admits(&self, uid: ZoneUid, serial: &str) -> bool {
        self.by_uid(uid).is_some_and(|holder| holder.revoked.is_none()) && !self.revoked_serials.contains(serial)
    }
}
