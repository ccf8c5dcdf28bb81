//! Nobody gives what they do not hold: roles, bindings and tokens are held against the rights of who makes them.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{
    Kind, Name, ResourceKey, Violation,
    document::Document,
    kinds::{AccessRole, AccessRoleBinding},
};
use atoll_store::TableSnapshot;
use serde_json::Value;

use super::{AUTHENTICATED_GROUP, Caller, Permit, Rights, rights::Part};
use crate::{Plane, Problem};

/// The rights of who writes, and the roles as they will be.
pub(crate) struct Grants<'a> {
    plane: &'a Plane,
    table: &'a TableSnapshot,
    permit: &'a Permit,
    /// Roles that the same request writes.
    made: BTreeMap<Name, AccessRole>,
}

/// Why something must not be given.
#[derive(Debug)]
pub(crate) enum GrantFault {
    /// It names what is not there.
    Invalid(Vec<Violation>),
    /// It is more than who writes holds.
    TooMuch(String),
}

impl<'a> Grants<'a> {
    pub(crate) fn new(plane: &'a Plane, table: &'a TableSnapshot, permit: &'a Permit) -> Self {
        Self { plane, table, permit, made: BTreeMap::new() }
    }

    /// Takes a role into account that the same request writes.
    pub(crate) fn will_be(&mut self, key: &ResourceKey, spec: &[u8]) {
        if key.kind == Kind::AccessRole
            && let Ok(role) = serde_json::from_slice(spec)
        {
            self.made.insert(key.name.clone(), role);
        }
    }

    /// Takes a role into account without which the request does nothing at all.
    pub(crate) fn would_be(&mut self, document: &Value) {
        if document["type"] == Kind::AccessRole.name()
            && let Ok(document) = Document::from_value(document.clone(), None)
            && let Ok(role) = serde_json::from_value(document.spec)
        {
            self.made.insert(document.name, role);
        }
    }

    /// Whether who writes may write this.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, kind: Kind, spec: &[u8]) -> Result<(), GrantFault> {
        match kind {
            Kind::AccessRole => match serde_json::from_slice::<AccessRole>(spec) {
                Ok(role) => self.hold(&[&role], "the role gives"),
                Err(_) => Ok(()),
            },
            Kind::AccessRoleBinding => match serde_json::from_slice::<AccessRoleBinding>(spec) {
                Ok(binding) => self.binding(&binding),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn binding(&self, binding: &AccessRoleBinding) -> Result<(), GrantFault> {
        let (mut roles, mut faults) = (Vec::new(), Vec::new());
        for (i, name) in binding.roles.iter().enumerate() {
            match self.role(&name.as_str().into()) {
                Some(role) => roles.push(role),
                // Whoever made the role later would give it to people that they may not know of.
                None => faults.push(Violation::new(format!("roles[{i}]"), format!("there is no AccessRole {name} here"))),
            }
        }
        if !faults.is_empty() {
            return Err(GrantFault::Invalid(faults));
        }
        self.hold(&roles.iter().collect::<Vec<_>>(), "the roles give")
    }

    fn role(&self, name: &Name) -> Option<AccessRole> {
        let key = ResourceKey::new(Kind::AccessRole, Name::none(), name.clone(), self.plane.viewpoint.owner());
        self.made.get(name).cloned().or_else(|| self.table.get(&key)?.parse().ok())
    }

    fn hold(&self, roles: &[&AccessRole], what: &str) -> Result<(), GrantFault> {
        let given = Rights::of(roles.iter().map(|role| Arc::new(Part::of(&role.rules))).collect());
        if self.permit.rights().is_some_and(|own| own.cover(&given)) {
            return Ok(());
        }
        Err(GrantFault::TooMuch(format!("{what} more than you hold: nobody can give rights that they do not have")))
    }

    /// Whether who asks may let somebody act as the user `name` with `groups`.
    ///
    /// # Errors
    /// 403 with the reason.
    pub(crate) fn check_user(&self, name: &str, groups: &[String]) -> Result<(), Problem> {
        let groups = groups.iter().cloned().chain([AUTHENTICATED_GROUP.to_owned()]);
        let given = self.plane.roles(self.table).rights(&Caller::new(name, groups));
        if self.permit.rights().is_some_and(|own| own.cover(&given)) {
            return Ok(());
        }
        Err(Problem::denied("the token would give more than you hold: nobody can give rights that they do not have"))
    }
}

/// The bindings that name a role: while there are any, it stays.
pub(crate) fn bindings_of<'a>(
    plane: &Plane,
    table: &'a TableSnapshot,
    key: &'a ResourceKey,
) -> impl Iterator<Item = &'a ResourceKey> {
    let owner = plane.viewpoint.owner();
    let bindings = table.list(Kind::AccessRoleBinding, None).filter(move |_| key.kind == Kind::AccessRole);
    let own = bindings.filter(move |resource| resource.key.owner == owner);
    own.filter(|resource| {
        resource.parse::<AccessRoleBinding>().is_ok_and(|binding| binding.roles.iter().any(|role| *role == *key.name))
    })
    .map(|resource| &resource.key)
}
