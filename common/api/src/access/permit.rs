//! What the guard hands to handlers: whom they serve, and what that one may do to each object.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use atoll_model::{Kind, Name, ResourceKey, kinds::Access};
use atoll_store::{Expect, TableSnapshot};

use super::{Caller, Decision, Object, Rights, decide};
use crate::{Plane, Problem, present};

/// Whom a handler serves. A request that passed no guard has one that allows nothing.
#[derive(Clone, Debug, Default)]
pub struct Permit(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    caller: Option<Caller>,
    rights: Option<Rights>,
    /// Whether something was hidden that the request named; for the audit.
    hid: AtomicBool,
}

impl Permit {
    pub(super) fn new(caller: Option<Caller>, rights: Option<Rights>) -> Self {
        Self(Arc::new(Held { caller, rights, hid: AtomicBool::new(false) }))
    }

    /// Who asks.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.caller.as_ref()
    }

    /// What they hold.
    pub fn rights(&self) -> Option<&Rights> {
        self.0.rights.as_ref()
    }

    /// Whether they may do everything.
    pub fn is_all(&self) -> bool {
        self.rights().is_some_and(Rights::is_all)
    }

    /// The decision on a resource.
    pub fn decide(&self, plane: &Plane, table: &TableSnapshot, access: Access, key: &ResourceKey) -> Decision {
        if self.is_all() {
            return Decision::Allow;
        }
        let zone = match key.kind {
            Kind::Zone => Some(key.name.clone()),
            _ => present::zone(plane, table, key),
        };
        let mesh = if key.kind == Kind::Mesh { &key.name } else { &key.mesh };
        let object = Object { kind: Some(key.kind), mesh, zone: zone.as_deref().unwrap_or_default(), name: &key.name };
        decide(self.rights(), access, &object)
    }

    /// Whether they may.
    pub fn may(&self, plane: &Plane, table: &TableSnapshot, access: Access, key: &ResourceKey) -> bool {
        self.decide(plane, table, access, key) == Decision::Allow
    }

    /// Whether a name in an answer to them tells nothing that is hidden from them.
    pub fn sees(&self, plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> bool {
        [Access::Get, Access::List].into_iter().any(|access| self.may(plane, table, access, key))
    }

    /// Whether they hold this right on anything of a kind.
    ///
    /// # Errors
    /// 403 with the reason.
    pub(crate) fn require_some(&self, access: Access, kind: Kind) -> Result<(), Problem> {
        let may = self.rights().is_some_and(|rights| rights.may_ever(access, Some(kind)));
        if may { Ok(()) } else { Err(self.denied(access, &Object { kind: Some(kind), ..Object::default() })) }
    }

    /// Whether they may do this to a resource.
    ///
    /// # Errors
    /// 403 with the reason; 404 under `title` when they may not learn whether it is there.
    pub(crate) fn require(
        &self,
        plane: &Plane,
        table: &TableSnapshot,
        access: Access,
        key: &ResourceKey,
        title: &'static str,
    ) -> Result<(), Problem> {
        let object = Object { kind: Some(key.kind), mesh: &key.mesh, zone: "", name: &key.name };
        match self.decide(plane, table, access, key) {
            Decision::Allow => Ok(()),
            Decision::Hidden => Err(self.hide(title)),
            Decision::Deny | Decision::Unauthenticated => Err(self.denied(access, &object)),
        }
    }

    /// Whether they may do this to what is no resource.
    ///
    /// # Errors
    /// 403 with the reason.
    pub(crate) fn require_object(&self, access: Access, object: &Object<'_>) -> Result<(), Problem> {
        match decide(self.rights(), access, object) {
            Decision::Allow => Ok(()),
            Decision::Deny | Decision::Hidden | Decision::Unauthenticated => Err(self.denied(access, object)),
        }
    }

    /// Whether they may put a resource as it is now, and what must then still hold of it at the commit.
    ///
    /// # Errors
    /// As [`Permit::require`].
    pub(crate) fn require_put(
        &self,
        plane: &Plane,
        table: &TableSnapshot,
        key: &ResourceKey,
        title: &'static str,
    ) -> Result<Guarded, Problem> {
        let there = table.get(key).is_some();
        self.require(plane, table, if there { Access::Update } else { Access::Create }, key, title)?;
        Ok(self.expectation(plane, table, key))
    }

    /// What must hold at the commit of a put that they may do now.
    pub(crate) fn expectation(&self, plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> Guarded {
        let may = |access| self.may(plane, table, access, key);
        match (may(Access::Create), may(Access::Update)) {
            (true, true) => Guarded::Free,
            (_, true) => Guarded::Only(Expect::Exists),
            (_, false) => Guarded::Only(Expect::Absent),
        }
    }

    /// Whether they may know of a mesh: they may see it, or hold a right in it on the kind that they ask for.
    pub(crate) fn knows_mesh(&self, kind: Kind, mesh: &Name) -> bool {
        self.rights().is_some_and(|rights| {
            let itself = Object { kind: Some(Kind::Mesh), mesh, zone: "", name: mesh };
            rights.touch_mesh(kind, mesh) || [Access::Get, Access::List].iter().any(|access| rights.may(*access, &itself))
        })
    }

    /// The answer about what they may not know of: as if it were not there.
    pub(crate) fn hide(&self, title: &'static str) -> Problem {
        self.0.hid.store(true, Ordering::Relaxed);
        Problem::not_found(title)
    }

    pub(super) fn hid(&self) -> bool {
        self.0.hid.load(Ordering::Relaxed)
    }

    /// 403, with what they would need.
    pub(crate) fn denied(&self, access: Access, object: &Object<'_>) -> Problem {
        let user = self.caller().map(|caller| format!("{}/{}", caller.name, caller.groups.join(","))).unwrap_or_default();
        let right = access.name();
        Problem::denied(match object.kind {
            Some(kind) => {
                let place = if object.mesh.is_empty() { String::new() } else { format!(" in mesh {:?}", object.mesh) };
                let kind = kind.name();
                format!(
                    "user {user:?} cannot access the resource of type {kind:?}{place}: no AccessRole gives them {right} on it"
                )
            }
            None => format!("user {user:?} cannot do this: no AccessRole gives them {right} on it"),
        })
    }
}

/// What must hold at the commit of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guarded {
    /// Nothing more.
    Free,
    /// They may create and not change, or the other way round: what others do meanwhile must not turn one into the other.
    Only(Expect),
}

impl Guarded {
    /// What must hold, with what the client asked for.
    pub(crate) fn with(self, asked: Expect) -> Expect {
        match (self, asked) {
            (Guarded::Only(needed), Expect::Any) => needed,
            (Guarded::Free | Guarded::Only(_), asked) => asked,
        }
    }
}
