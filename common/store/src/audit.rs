//! Who asked for what, and what became of it: append only, each row chained to the one before by its hash.

use std::{fmt, net::IpAddr, str::FromStr};

use atoll_model::{Revision, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::AuthMethod;

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place among all rows of the journal; the cursor of [`AuditFilter::before`].
    pub position: u64,
    /// What was asked, by whom, and what became of it.
    pub record: AuditRecord,
    /// Its place in its chain.
    pub link: Link,
}

/// What a row of the audit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// The revision that the change took; `None` when nothing was changed.
    pub revision: Option<Revision>,
    /// Which request, as in logs and answers.
    pub request_id: Option<String>,
    /// Who, as in [`crate::Actor::subject`].
    pub subject: String,
    /// How they showed it.
    pub method: AuthMethod,
    /// From where.
    pub address: Option<IpAddr>,
    /// What was asked: `create`, `update`, `delete` and the like.
    pub verb: String,
    /// Of what: a resource as `Kind/mesh/name`, or what else was asked for.
    pub object: String,
    /// The content hash of the resource before; of a sealed one, a hash of what is stored.
    pub before: Option<[u8; 16]>,
    /// The same after.
    pub after: Option<[u8; 16]>,
    /// Whether it was done.
    pub decision: Decision,
    /// Why.
    pub reason: Option<String>,
}

impl AuditRecord {
    /// As it is read back.
    pub(crate) fn settled(self) -> Self {
        let clean_all = |text: Option<String>| text.map(|text| clean(&text));
        Self {
            at: micros(self.at),
            request_id: clean_all(self.request_id),
            subject: clean(&self.subject),
            verb: clean(&self.verb),
            object: clean(&self.object),
            reason: clean_all(self.reason),
            ..self
        }
    }
}

/// Whether something that was asked for was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was done.
    Allowed,
    /// It was refused.
    Denied,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
        })
    }
}

impl FromStr for Decision {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "allowed" => Ok(Decision::Allowed),
            "denied" => Ok(Decision::Denied),
            other => Err(format!("unknown decision {other:?}")),
        }
    }
}

/// A request that was refused, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// When.
    pub at: Timestamp,
    /// Which request, as in logs and answers.
    pub request_id: String,
    /// Who, as far as it is known.
    pub subject: String,
    /// How they showed it.
    pub method: AuthMethod,
    /// From where.
    pub address: Option<IpAddr>,
    /// What was asked.
    pub verb: String,
    /// Of what.
    pub object: String,
    /// Why it was refused.
    pub reason: String,
}

impl From<Denied> for AuditRecord {
    fn from(denied: Denied) -> Self {
        Self {
            at: micros(denied.at),
            revision: None,
            request_id: Some(clean(&denied.request_id)),
            subject: clean(&denied.subject),
            method: denied.method,
            address: denied.address,
            verb: clean(&denied.verb),
            object: clean(&denied.object),
            before: None,
            after: None,
            decision: Decision::Denied,
            reason: Some(clean(&denied.reason)),
        }
    }
}

/// What strangers send is kept short, and without what a journal cannot hold.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(1024).collect()
}

/// Postgres keeps microseconds: what is hashed must be what is read back.
fn micros(time: Timestamp) -> Timestamp {
    chrono::SubsecRound::trunc_subsecs(time, 6)
}

/// Which rows to read, newest first. Every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Rows of this subject.
    pub subject: Option<String>,
    /// Rows of this verb.
    pub verb: Option<String>,
    /// Rows of this object.
    pub object: Option<String>,
    /// Rows with this decision.
    pub decision: Option<Decision>,
    /// Rows of this request.
    pub request_id: Option<String>,
    /// Rows at or after this time.
    pub since: Option<Timestamp>,
    /// Rows before this position: the next page begins before the last row of this one.
    pub before: Option<u64>,
    /// At most so many; 0 stands for 100, more than 1,000 for 1,000.
    pub limit: u32,
}

impl AuditFilter {
    /// The number of rows to read at most.
    pub(crate) fn rows(&self) -> i64 {
        match self.limit {
            0 => 100,
            limit => i64::from(limit.min(1000)),
        }
    }
}

/// Where a row stands in its chain. Each start of an instance, and each of its failures to write, begins chains anew: one of
/// what was done to resources, one of what was done beside them, one of what was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The chain.
    pub chain: Uuid,
    /// From 1 without gaps.
    pub sequence: u64,
    /// The hash of the row before; zeros at first.
    pub previous: [u8; 32],
    /// SHA-256 over the row and `previous`.
    pub hash: [u8; 32],
}

/// The end of a chain, to which rows are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) id: Uuid,
    pub(crate) sequence: u64,
    pub(crate) head: [u8; 32],
}

impl Chain {
    /// A chain without rows.
    pub(crate) fn new(id: Uuid) -> Self {
        Self { id, sequence: 0, head: [0; 32] }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, record: &AuditRecord) -> Link {
        let (sequence, previous) = (self.sequence + 1, self.head);
        let hash = hash(self.id, sequence, &previous, record);
        *self = Self { id: self.id, sequence, head: hash };
        Link { chain: self.id, sequence, previous, hash }
    }
}

/// SHA-256 over a form of the row in which every field has its length, so that two rows never have the same form.
fn hash(chain: Uuid, sequence: u64, previous: &[u8; 32], record: &AuditRecord) -> [u8; 32] {
    let mut form = Form(Sha256::new());
    form.field(b"atoll audit 1");
    form.field(chain.as_bytes());
    form.field(&sequence.to_be_bytes());
    form.field(previous);
    form.field(&record.at.timestamp_micros().to_be_bytes());
    form.optional(record.revision.map(|revision| revision.0.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    form.optional(record.request_id.as_deref().map(str::as_bytes));
    form.field(record.subject.as_bytes());
    form.field(record.method.name().as_bytes());
    form.optional(record.address.map(|address| address.to_string()).as_deref().map(str::as_bytes));
    form.field(record.verb.as_bytes());
    form.field(record.object.as_bytes());
    form.optional(record.before.as_ref().map(<[u8; 16]>::as_slice));
    form.optional(record.after.as_ref().map(<[u8; 16]>::as_slice));
    form.field(record.decision.to_string().as_bytes());
    form.optional(record.reason.as_deref().map(str::as_bytes));
    form.0.finalize().into()
}

struct Form(Sha256);

impl Form {
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.0.update(u64::MAX.to_be_bytes()),
        }
    }
}

/// What came of walking all chains of the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The rows that were read.
    pub rows: u64,
    /// The chains that they belong to.
    pub chains: u64,
    /// The first row that is not as it was written; `None` when all are.
    pub broken: Option<Broken>,
}

/// Where a chain of the audit is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The row, or the last one before the break.
    pub position: u64,
    /// The chain.
    pub chain: Uuid,
    /// The row that should stand there.
    pub sequence: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit row {} (row {} of chain {}): {}", self.position, self.sequence, self.chain, self.what)
    }
}

/// Walks rows in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    chains: std::collections::BTreeMap<Uuid, (u64, Chain)>,
    rows: u64,
}

impl Walk {
    /// Takes the next row; an error is the first break.
    pub(crate) fn step(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        let link = &entry.link;
        let (position, chain) = self.chains.entry(link.chain).or_insert_with(|| (0, Chain::new(link.chain)));
        let broken = |sequence, what| Broken { position: entry.position, chain: link.chain, sequence, what };
        if link.sequence != chain.sequence + 1 {
            return Err(broken(chain.sequence + 1, "a row is missing before it, or it stands in another place"));
        }
        if link.previous != chain.head {
            return Err(broken(link.sequence, "it does not follow the row before"));
        }
        if chain.add(&entry.record).hash != link.hash {
            return Err(broken(link.sequence, "its content was changed"));
        }
        *position = entry.position;
        self.rows += 1;
        Ok(())
    }

    /// Compares with how long the chains should be.
    pub(crate) fn end(self, lengths: &[(Uuid, u64)]) -> Verified {
        let short = lengths.iter().find_map(|(id, length)| {
            let (position, chain) = self.chains.get(id).copied().unwrap_or_else(|| (0, Chain::new(*id)));
            let what = "rows are missing at the end of its chain";
            (chain.sequence < *length).then_some(Broken { position, chain: *id, sequence: chain.sequence + 1, what })
        });
        Verified { rows: self.rows, chains: self.chains.len() as u64, broken: short }
    }

    /// What to say when a row is broken.
    pub(crate) fn broken(self, broken: Broken) -> Verified {
        Verified { rows: self.rows, chains: self.chains.len() as u64, broken: Some(broken) }
    }
}
