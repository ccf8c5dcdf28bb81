//! One type for what both ends send, and its two forms on the wire.

use crate::proto::{
    Ack, Batch, Drain, Heartbeat, Hello, Query, QueryPart, Resync, Soft, ToGlobal, ToZone, Welcome, to_global, to_zone,
};

/// A message of the link.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// First of a zone.
    Hello(Hello),
    /// Global's answer.
    Welcome(Welcome),
    /// Changes.
    Batch(Batch),
    /// Progress.
    Ack(Ack),
    /// Sign of life, with digests.
    Heartbeat(Heartbeat),
    /// A value that is replaced often.
    Soft(Soft),
    /// A question.
    Query(Query),
    /// Part of an answer.
    QueryPart(QueryPart),
    /// A request for complete snapshots.
    Resync(Resync),
    /// The stream ends.
    Drain(Drain),
    /// Nothing that this version knows; still a sign of life.
    Unknown,
}

impl Message {
    /// The form that a zone sends. A welcome has none.
    pub fn into_to_global(self) -> ToGlobal {
        use to_global::Message as M;
        let message = match self {
            Message::Hello(hello) => Some(M::Hello(hello)),
            Message::Batch(batch) => Some(M::Batch(batch)),
            Message::Ack(ack) => Some(M::Ack(ack)),
            Message::Heartbeat(heartbeat) => Some(M::Heartbeat(heartbeat)),
            Message::Soft(soft) => Some(M::Soft(soft)),
            Message::Query(query) => Some(M::Query(query)),
            Message::QueryPart(part) => Some(M::QueryPart(part)),
            Message::Resync(resync) => Some(M::Resync(resync)),
            Message::Drain(drain) => Some(M::Drain(drain)),
            Message::Welcome(_) | Message::Unknown => None,
        };
        ToGlobal { message }
    }

    /// The form that global sends. A hello has none.
    pub fn into_to_zone(self) -> ToZone {
        use to_zone::Message as M;
        let message = match self {
            Message::Welcome(welcome) => Some(M::Welcome(welcome)),
            Message::Batch(batch) => Some(M::Batch(batch)),
            Message::Ack(ack) => Some(M::Ack(ack)),
            Message::Heartbeat(heartbeat) => Some(M::Heartbeat(heartbeat)),
            Message::Soft(soft) => Some(M::Soft(soft)),
            Message::Query(query) => Some(M::Query(query)),
            Message::QueryPart(part) => Some(M::QueryPart(part)),
            Message::Resync(resync) => Some(M::Resync(resync)),
            Message::Drain(drain) => Some(M::Drain(drain)),
            Message::Hello(_) | Message::Unknown => None,
        };
        ToZone { message }
    }
}

impl From<ToGlobal> for Message {
    fn from(message: ToGlobal) -> Self {
        use to_global::Message as M;
        match message.message {
            Some(M::Hello(hello)) => Message::Hello(hello),
            Some(M::Batch(batch)) => Message::Batch(batch),
            Some(M::Ack(ack)) => Message::Ack(ack),
            Some(M::Heartbeat(heartbeat)) => Message::Heartbeat(heartbeat),
            Some(M::Soft(soft)) => Message::Soft(soft),
            Some(M::Query(query)) => Message::Query(query),
            Some(M::QueryPart(part)) => Message::QueryPart(part),
            Some(M::Resync(resync)) => Message::Resync(resync),
            Some(M::Drain(drain)) => Message::Drain(drain),
            None => Message::Unknown,
        }
    }
}

impl From<ToZone> for Message {
    fn from(message: ToZone) -> Self {
        use to_zone::Message as M;
        match message.message {
            Some(M::Welcome(welcome)) => Message::Welcome(welcome),
            Some(M::Batch(batch)) => Message::Batch(batch),
            Some(M::Ack(ack)) => Message::Ack(ack),
            Some(M::Heartbeat(heartbeat)) => Message::Heartbeat(heartbeat),
            Some(M::Soft(soft)) => Message::Soft(soft),
            Some(M::Query(query)) => Message::Query(query),
            Some(M::QueryPart(part)) => Message::QueryPart(part),
            Some(M::Resync(resync)) => Message::Resync(resync),
            Some(M::Drain(drain)) => Message::Drain(drain),
            None => Message::Unknown,
        }
    }
}
