//! Rows of the audit, as both journals read them.

use std::{net::IpAddr, str::FromStr};

use atoll_model::{Revision, Timestamp};
use uuid::Uuid;

use crate::{
    AuditEntry, AuditRecord, AuthMethod, Broken, Decision, Link, Verified,
    audit::{Chain, Walk},
};

/// How many rows are read at once while all are walked.
pub(super) const PAGE: i64 = 5000;

#[derive(sqlx::FromRow)]
pub(super) struct AuditRow {
    position: i64,
    chain: String,
    sequence: i64,
    previous: Vec<u8>,
    hash: Vec<u8>,
    at: Timestamp,
    revision: Option<i64>,
    request_id: Option<String>,
    subject: String,
    method: String,
    address: Option<String>,
    verb: String,
    object: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    decision: String,
    reason: Option<String>,
}

impl TryFrom<AuditRow> for AuditEntry {
    type Error = String;
    fn try_from(row: AuditRow) -> Result<Self, String> {
        let position = row.position.cast_unsigned();
        let link = Link {
            chain: Uuid::from_str(&row.chain).map_err(|error| format!("audit row {position}: chain: {error}"))?,
            sequence: row.sequence.cast_unsigned(),
            previous: bytes(position, "previous", row.previous)?,
            hash: bytes(position, "hash", row.hash)?,
        };
        let address = row.address.map(|text| IpAddr::from_str(&text)).transpose();
        let record = AuditRecord {
            at: row.at,
            revision: row.revision.map(|revision| Revision(revision.cast_unsigned())),
            request_id: row.request_id,
            subject: row.subject,
            method: AuthMethod::from_str(&row.method).map_err(|error| format!("audit row {position}: {error}"))?,
            address: address.map_err(|error| format!("audit row {position}: address: {error}"))?,
            verb: row.verb,
            object: row.object,
            before: row.before.map(|digest| bytes(position, "before", digest)).transpose()?,
            after: row.after.map(|digest| bytes(position, "after", digest)).transpose()?,
            decision: Decision::from_str(&row.decision).map_err(|error| format!("audit row {position}: {error}"))?,
            reason: row.reason,
        };
        Ok(Self { position, record, link })
    }
}

fn bytes<const N: usize>(position: u64, column: &str, bytes: Vec<u8>) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("audit row {position}: {column} of {} bytes", bytes.len()))
}

/// Walks pages of rows; a row that cannot be read is a break as well.
#[derive(Default)]
pub(super) struct Verifier {
    walk: Walk,
    /// Up to where rows were read.
    pub(super) position: i64,
}

impl Verifier {
    /// Takes the next page; gives what to say when a row is broken.
    pub(super) fn page(mut self, rows: Vec<AuditRow>) -> Result<Self, Verified> {
        for row in rows {
            self.position = row.position;
            let place = Broken {
                position: row.position.cast_unsigned(),
                chain: Uuid::from_str(&row.chain).unwrap_or_default(),
                sequence: row.sequence.cast_unsigned(),
                what: "it cannot be read",
            };
            let step = AuditEntry::try_from(row).map_err(|_| place).and_then(|entry| self.walk.step(&entry));
            if let Err(broken) = step {
                return Err(self.walk.broken(broken));
            }
        }
        Ok(self)
    }

    /// Compares with how long the chains should be.
    pub(super) fn end(self, lengths: &[(String, i64)]) -> Verified {
        let lengths = lengths.iter().filter_map(|(chain, length)| Some((Uuid::from_str(chain).ok()?, length.cast_unsigned())));
        self.walk.end(&lengths.collect::<Vec<_>>())
    }
}

/// The links of rows that are added to a chain, and the chain after them.
pub(crate) fn links(mut chain: Chain, rows: &[AuditRecord]) -> (Vec<Link>, Chain) {
    let links = rows.iter().map(|row| chain.add(row)).collect();
    (links, chain)
}
