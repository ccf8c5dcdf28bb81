//! The roles of a table, compiled.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use atoll_model::{
    ContentHash, Kind, Name, Owner, Revision,
    kinds::{AccessRole, AccessRoleBinding, access_role_binding::SubjectKind},
};
use atoll_store::TableSnapshot;

use super::{Caller, Rights, rights::Part};

/// Who holds what. Only roles of the plane itself count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    users: BTreeMap<String, Vec<Arc<Part>>>,
    groups: BTreeMap<String, Vec<Arc<Part>>>,
}

impl Roles {
    /// The roles in a table of the plane that is `owner`. A role that this version cannot read gives nothing.
    pub fn of(table: &TableSnapshot, owner: Owner) -> Self {
        let own = |kind| table.list(kind, Some(&Name::none())).filter(move |resource| resource.key.owner == owner);
        let parts: BTreeMap<&str, Arc<Part>> = own(Kind::AccessRole)
            .filter_map(|resource| Some((&*resource.key.name, resource.parse::<AccessRole>().ok()?)))
            .map(|(name, role)| (name, Arc::new(Part::of(&role.rules))))
            .collect();
        let mut roles = Self::default();
        for binding in own(Kind::AccessRoleBinding).filter_map(|resource| resource.parse::<AccessRoleBinding>().ok()) {
            let given: Vec<_> = binding.roles.iter().filter_map(|name| parts.get(name.as_str())).cloned().collect();
            for subject in binding.subjects {
                let holders = match subject.kind {
                    SubjectKind::User => &mut roles.users,
                    SubjectKind::Group => &mut roles.groups,
                };
                holders.entry(subject.name).or_default().extend(given.iter().cloned());
            }
        }
        roles
    }

    /// What a caller holds.
    pub fn rights(&self, caller: &Caller) -> Rights {
        self.rights_of(&caller.name, &caller.groups)
    }

    /// What who has this name and these groups holds.
    pub(super) fn rights_of(&self, name: &str, groups: &[String]) -> Rights {
        if groups.iter().any(|group| group == super::ADMIN_GROUP) {
            return Rights::all();
        }
        let of_groups = groups.iter().filter_map(|group| self.groups.get(group));
        Rights::of(self.users.get(name).into_iter().chain(of_groups).flatten().cloned().collect())
    }
}

/// Compiles roles when they change, not when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct RoleCache(Mutex<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    /// Which roles and bindings they were made of. A revision alone may mean another role after the store went back.
    marks: Vec<(Revision, ContentHash)>,
    roles: Arc<Roles>,
}

impl RoleCache {
    /// The roles of a table.
    pub(crate) fn of(&self, table: &TableSnapshot, owner: Owner) -> Arc<Roles> {
        let kinds = [Kind::AccessRole, Kind::AccessRoleBinding].into_iter();
        let marks: Vec<_> =
            kinds.flat_map(|kind| table.list(kind, None)).map(|resource| (resource.revision, resource.hash)).collect();
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks != compiled.marks {
            *compiled = Compiled { marks, roles: Arc::new(Roles::of(table, owner)) };
        }
        Arc::clone(&compiled.roles)
    }
}
