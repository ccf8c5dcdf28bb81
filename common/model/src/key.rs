//! Identity of a resource: (kind, mesh, name, owner), and the order of changes.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// A mesh's, zone's or resource's name; cheap to clone. Empty stands for "no mesh" of global-scoped kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// The name of no mesh.
    pub fn none() -> Self {
        Self(Arc::from(""))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`Name::none`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The lasting identity of a zone. A zone that is created again under an old name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ZoneUid(pub uuid::Uuid);

impl fmt::Display for ZoneUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ZoneUid {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Who owns a resource, that is: the only plane that may change it. Known from the authenticated peer, never from a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The global control plane.
    Global,
    /// The zone with this identity.
    Zone(ZoneUid),
}

impl fmt::Display for Owner {
    /// Empty for global, the zone's UID otherwise: the form of the database and of the link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Global => Ok(()),
            Owner::Zone(uid) => uid.fmt(f),
        }
    }
}

impl FromStr for Owner {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Owner::Global) } else { Ok(Owner::Zone(text.parse()?)) }
    }
}

/// Identity of a resource on every plane. Its order is the order of lists: kind, mesh, name, owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// The kind.
    pub kind: Kind,
    /// The mesh; [`Name::none`] for global-scoped kinds.
    pub mesh: Name,
    /// The name that its author gave (Kuma: display name). Never changed by synchronisation.
    pub name: Name,
    /// The plane that owns it.
    pub owner: Owner,
}

impl ResourceKey {
    /// Makes a key.
    pub fn new(kind: Kind, mesh: impl Into<Name>, name: impl Into<Name>, owner: Owner) -> Self {
        Self { kind, mesh: mesh.into(), name: name.into(), owner }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind)?;
        if !self.mesh.is_empty() {
            write!(f, "{}/", self.mesh)?;
        }
        f.write_str(&self.name)?;
        match self.owner {
            Owner::Global => Ok(()),
            Owner::Zone(uid) => write!(f, "@{uid}"),
        }
    }
}

/// A place in the order of commits of one store. 0 is before the first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
