//! What callers ask the store to change, and what they get back.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use atoll_model::{Labels, Resource, ResourceKey, Revision};
use bytes::Bytes;

use crate::seal::is_sealed;

/// Writes that are done together or not at all.
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// In the order in which they are done.
    pub writes: Vec<Write>,
    /// On whose behalf.
    pub actor: Actor,
    /// Makes a repeated request do nothing; for [`crate::Store::commit`] only.
    pub once: Option<Once>,
}

impl WriteBatch {
    /// A batch.
    pub fn new(actor: Actor, writes: Vec<Write>) -> Self {
        Self { writes, actor, once: None }
    }

    /// A batch of one write.
    pub fn one(actor: Actor, write: Write) -> Self {
        Self::new(actor, vec![write])
    }

    /// The same batch, done once only.
    #[must_use]
    pub fn once(mut self, once: Once) -> Self {
        self.once = Some(once);
        self
    }
}

/// Makes a repeated request do nothing: kept for 24 hours, in the transaction of the writes. A batch that was refused is not
/// kept, and may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Whose key it is; the keys of two subjects have nothing to do with each other.
    pub subject: String,
    /// What the caller repeats.
    pub key: String,
    /// SHA-256 of method, path, query and body.
    pub request: [u8; 32],
}

/// One change of one resource.
#[derive(Clone, PartialEq)]
pub enum Write {
    /// Creates or replaces labels and spec; the computed part stays.
    Put {
        /// Which resource.
        key: ResourceKey,
        /// Without the labels that planes compute.
        labels: Labels,
        /// JSON; kept byte for byte.
        spec: Bytes,
        /// What must hold.
        expect: Expect,
    },
    /// Replaces the part of the spec that the plane computes. The resource must exist.
    PutComputed {
        /// Which resource.
        key: ResourceKey,
        /// A JSON object, or nothing.
        computed: Option<Bytes>,
        /// What must hold.
        expect: Expect,
    },
    /// Changes nothing: the batch is done only if this holds of a resource that others may write meanwhile, such as the mesh of
    /// what the batch writes.
    Check {
        /// Which resource.
        key: ResourceKey,
        /// What must hold.
        expect: Expect,
    },
    /// Deletes a resource. Nothing else is deleted with it.
    Delete {
        /// Which resource.
        key: ResourceKey,
        /// What must hold.
        expect: Expect,
    },
}

impl Write {
    /// Creates or replaces, whatever there is.
    pub fn put(key: ResourceKey, labels: Labels, spec: impl Into<Bytes>) -> Self {
        Self::Put { key, labels, spec: spec.into(), expect: Expect::Any }
    }

    /// Creates; refused when there is such a resource.
    pub fn create(key: ResourceKey, labels: Labels, spec: impl Into<Bytes>) -> Self {
        Self::Put { key, labels, spec: spec.into(), expect: Expect::Absent }
    }

    /// Deletes, if it is there.
    pub fn delete(key: ResourceKey) -> Self {
        Self::Delete { key, expect: Expect::Any }
    }

    /// Which resource is meant.
    pub fn key(&self) -> &ResourceKey {
        match self {
            Write::Put { key, .. } | Write::PutComputed { key, .. } | Write::Check { key, .. } | Write::Delete { key, .. } => key,
        }
    }
}

impl fmt::Debug for Write {
    /// Shows no spec of a sealed kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Put { key, labels, spec, expect } => {
                let spec = shown(key, spec);
                f.debug_struct("Put")
                    .field("key", key)
                    .field("labels", labels)
                    .field("spec", &spec)
                    .field("expect", expect)
                    .finish()
            }
            Write::PutComputed { key, computed, expect } => {
                f.debug_struct("PutComputed").field("key", key).field("computed", computed).field("expect", expect).finish()
            }
            Write::Check { key, expect } => f.debug_struct("Check").field("key", key).field("expect", expect).finish(),
            Write::Delete { key, expect } => f.debug_struct("Delete").field("key", key).field("expect", expect).finish(),
        }
    }
}

/// A spec as it may be seen in logs.
pub(crate) fn shown(key: &ResourceKey, spec: &Bytes) -> Bytes {
    if is_sealed(key.kind) { Bytes::from_static(b"(sealed)") } else { spec.clone() }
}

/// What must hold for a write to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// The resource does not exist.
    Absent,
    /// It exists.
    Exists,
    /// It exists at this version.
    Version(u64),
}

/// On whose behalf something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `user:…`, `zone:…`, `dataplane:…` or `plane`.
    pub subject: String,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Whether history and audit are written, in the same transaction: for people and tokens. Deletions of such actors stay
    /// known for 30 days, those of others for 24 hours.
    pub record: bool,
    /// Which request of theirs; for the audit.
    pub request: Option<RequestInfo>,
}

/// A request of a person or a token, as the audit knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// Names the request in logs and answers.
    pub id: String,
    /// How the caller showed who they are.
    pub method: AuthMethod,
    /// Why, where the caller has to say it.
    pub reason: Option<String>,
}

/// How a caller showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// A token of this deployment.
    Token,
    /// A token of an identity provider.
    Oidc,
    /// A client certificate.
    Certificate,
    /// Not at all.
    None,
}

impl AuthMethod {
    /// Its name in the audit.
    pub fn name(self) -> &'static str {
        match self {
            AuthMethod::Token => "token",
            AuthMethod::Oidc => "oidc",
            AuthMethod::Certificate => "certificate",
            AuthMethod::None => "none",
        }
    }
}

impl FromStr for AuthMethod {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [AuthMethod::Token, AuthMethod::Oidc, AuthMethod::Certificate, AuthMethod::None]
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| format!("unknown method {text:?}"))
    }
}

impl Actor {
    /// The plane itself: no history.
    pub fn plane() -> Self {
        Self { subject: "plane".to_owned(), address: None, record: false, request: None }
    }

    /// A person or a token: with history and audit.
    pub fn recorded(subject: impl Into<String>, address: Option<IpAddr>) -> Self {
        Self { subject: subject.into(), address, record: true, request: None }
    }

    /// The same actor, with the request that the audit names.
    #[must_use]
    pub fn asking(mut self, request: RequestInfo) -> Self {
        self.request = Some(request);
        self
    }
}

/// A batch that was done and lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The revision of the batch's last change; when nothing changed, that of the table the batch was checked against.
    pub revision: Revision,
    /// One for each write, in their order; empty when the batch was done before.
    pub results: Vec<WriteResult>,
    /// Set when the batch was done before, and so was not done now.
    pub repeated: Option<Repeated>,
}

/// What a batch did when it was done for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// As in [`Committed::revision`].
    pub revision: Revision,
    /// One for each write, in their order.
    pub outcomes: Vec<OutcomeKind>,
}

/// What a write did, without the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeKind {
    /// A new resource.
    Created,
    /// The resource was changed.
    Updated,
    /// It was like that already, or only checked.
    Unchanged,
    /// The resource is gone.
    Deleted,
    /// There was nothing to delete, or nothing as checked.
    Absent,
}

impl OutcomeKind {
    /// One byte, as the journal keeps it.
    pub(crate) fn code(self) -> u8 {
        match self {
            OutcomeKind::Created => b'c',
            OutcomeKind::Updated => b'u',
            OutcomeKind::Unchanged => b'=',
            OutcomeKind::Deleted => b'd',
            OutcomeKind::Absent => b'-',
        }
    }

    /// Reads [`OutcomeKind::code`].
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        use OutcomeKind::{Absent, Created, Deleted, Unchanged, Updated};
        [Created, Updated, Unchanged, Deleted, Absent].into_iter().find(|kind| kind.code() == code)
    }
}

/// What a write did.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteResult {
    /// A new resource.
    Created(Arc<Resource>),
    /// The resource as it is now.
    Updated(Arc<Resource>),
    /// It was like that already, or only checked; no revision was taken.
    Unchanged(Arc<Resource>),
    /// The resource as it was.
    Deleted(Arc<Resource>),
    /// There was nothing to delete, or nothing as checked; no revision was taken.
    Absent,
}

impl WriteResult {
    /// What was done, without the resource.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            WriteResult::Created(_) => OutcomeKind::Created,
            WriteResult::Updated(_) => OutcomeKind::Updated,
            WriteResult::Unchanged(_) => OutcomeKind::Unchanged,
            WriteResult::Deleted(_) => OutcomeKind::Deleted,
            WriteResult::Absent => OutcomeKind::Absent,
        }
    }
}
