//! The decision.

use atoll_model::{Kind, kinds::Access};

use super::Rights;

/// To what something is done. What an object does not have is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its kind; none for what is no resource.
    pub kind: Option<Kind>,
    /// Its mesh; of a Mesh, its own name.
    pub mesh: &'a str,
    /// The zone that owns it; of a Zone, its own name.
    pub zone: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// An answer to "may they?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// No, and they must not learn whether there is such an object.
    Hidden,
    /// Who asks must say who they are.
    Unauthenticated,
}

/// The decision. `None`: who asks has not said who they are.
///
/// An object is hidden from who holds rights on its kind but may not see it. Who holds none on the kind is told so: that says
/// nothing of what there is.
pub fn decide(rights: Option<&Rights>, access: Access, object: &Object<'_>) -> Decision {
    let Some(rights) = rights else { return Decision::Unauthenticated };
    if allows(rights, access, object) {
        return Decision::Allow;
    }
    match object.kind {
        Some(kind) if rights.touch(kind) && !sees(rights, object) => Decision::Hidden,
        Some(_) | None => Decision::Deny,
    }
}

fn allows(rights: &Rights, access: Access, object: &Object<'_>) -> bool {
    let shows = matches!(access, Access::Get | Access::List | Access::Watch);
    let is_sealed = object.kind.is_some_and(|kind| kind.descriptor().sealed);
    rights.may(access, object) && (!(shows && is_sealed) || rights.may(Access::ReadSecret, object))
}

fn sees(rights: &Rights, object: &Object<'_>) -> bool {
    [Access::Get, Access::List].into_iter().any(|access| allows(rights, access, object))
}
