//! AccessRoleBinding: who holds which AccessRoles, as Kong Mesh writes it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{Checked, check_as};

/// The group of everybody without a credential: in Kong Mesh's defaults, and never given anything here.
const STRANGERS: &str = "mesh-system:unauthenticated";

/// The fields of an AccessRoleBinding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRoleBinding {
    /// Who.
    #[serde(default)]
    pub subjects: Vec<Subject>,
    /// Names of AccessRoles of the same plane.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// A user or everybody in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Which of both.
    #[serde(rename = "type")]
    pub kind: SubjectKind,
    /// The name, as tokens say it.
    pub name: String,
}

/// What a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubjectKind {
    /// One user.
    User,
    /// Everybody in a group.
    Group,
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<AccessRoleBinding>(spec, "", |binding, root| {
        let mut faults = Vec::new();
        for (field, is_empty) in [("subjects", binding.subjects.is_empty()), ("roles", binding.roles.is_empty())] {
            if is_empty {
                faults.push(root.field(field).violation("must not be empty"));
            }
        }
        for (i, subject) in binding.subjects.iter().enumerate() {
            let at = root.field("subjects").index(i).field("name");
            if subject.name.is_empty() {
                faults.push(at.violation("cannot be empty"));
            } else if subject.kind == SubjectKind::Group && subject.name == STRANGERS {
                faults.push(at.violation("nobody without a credential has any rights"));
            }
        }
        let empty = binding.roles.iter().enumerate().filter(|(_, role)| role.is_empty());
        faults.extend(empty.map(|(i, _)| root.field("roles").index(i).violation("cannot be empty")));
        faults
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strangers_and_nobody_get_nothing() {
        let user = json!({"type": "User", "name": "john.doe@example.com"});
        assert_eq!(check(&json!({"subjects": [user], "roles": ["role-1"]})), Checked::default());
        for (spec, field) in [
            (json!({"subjects": [user], "roles": []}), "roles"),
            (json!({"subjects": [], "roles": ["a"]}), "subjects"),
            (json!({"subjects": [{"type": "Group", "name": STRANGERS}], "roles": ["a"]}), "subjects[0].name"),
            (json!({"subjects": [{"type": "Robot", "name": "r2"}], "roles": ["a"]}), "subjects[0].type"),
            (json!({"subjects": [user], "roles": [""]}), "roles[0]"),
        ] {
            assert_eq!(check(&spec).violations.first().map(|fault| fault.field.as_str()), Some(field), "{spec}");
        }
    }
}
