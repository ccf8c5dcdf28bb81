//! AccessRole: what its holders may do, as Kong Mesh writes it. Every role adds rights, none takes any away, and what no role
//! gives is refused. Fields that this version does not know are faults: one that was meant to narrow a grant must not be lost.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Kind, Scope, Violation,
    document::{Checked, check_as},
    violation::Path,
};

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reads one resource.
    Get,
    /// Finds resources in lists and overviews.
    List,
    /// Follows a list.
    Watch,
    /// Creates.
    Create,
    /// Changes.
    Update,
    /// Removes.
    Delete,
    /// Reads what a secret holds; only of kinds that the rule names.
    ReadSecret,
    /// Issues tokens of users, with no more rights than the issuer's own.
    IssueUserToken,
    /// Issues tokens of dataplanes.
    IssueDataplaneToken,
    /// Issues the tokens by which zones join.
    IssueZoneToken,
    /// Revokes tokens, and sees which are.
    Revoke,
    /// Reads the audit.
    Audit,
    /// Reads settings and the state of the plane.
    View,
    /// Looks into proxies and links.
    Debug,
    /// Lets held deletions and other stopped changes go on.
    Release,
}

use Access::{
    Audit, Create, Delete, Get, IssueDataplaneToken, IssueUserToken, IssueZoneToken, List, ReadSecret, Release, Revoke, Update,
    View, Watch,
};

impl Access {
    /// What `accessAll` gives. Secrets are read only by who was given that by name.
    pub const ALL: &'static [Access] = &[
        Get,
        List,
        Watch,
        Create,
        Update,
        Delete,
        IssueUserToken,
        IssueDataplaneToken,
        IssueZoneToken,
        Revoke,
        Audit,
        View,
        Access::Debug,
        Release,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        let own = WORDS.iter().find(|(_, gives)| **gives == [self]);
        own.map_or("READ", |(name, _)| name)
    }

    /// Whether it is about resources, so that a rule must say of which kinds.
    pub fn is_of_resources(self) -> bool {
        match self {
            Get | List | Watch | Create | Update | Delete | ReadSecret => true,
            IssueUserToken | IssueDataplaneToken | IssueZoneToken | Revoke | Audit | View | Access::Debug | Release => false,
        }
    }
}

/// The words of `access`, and what each gives: Kong Mesh's, and those that guard what Kong Mesh leaves open.
const WORDS: [(&str, &[Access]); 23] = [
    ("READ", &[Get, List, Watch]),
    ("GET", &[Get]),
    ("LIST", &[List]),
    ("WATCH", &[Watch]),
    ("CREATE", &[Create]),
    ("UPDATE", &[Update]),
    ("DELETE", &[Delete]),
    ("READ_SECRET", &[ReadSecret]),
    ("ISSUE_TOKEN", &[IssueUserToken, IssueDataplaneToken, IssueZoneToken]),
    ("GENERATE_USER_TOKEN", &[IssueUserToken]),
    ("GENERATE_DATAPLANE_TOKEN", &[IssueDataplaneToken]),
    ("GENERATE_ZONE_TOKEN", &[IssueZoneToken]),
    ("GENERATE_ZONE_CP_TOKEN", &[IssueZoneToken]),
    ("REVOKE", &[Revoke]),
    ("AUDIT", &[Audit]),
    ("VIEW_CONTROL_PLANE_METADATA", &[View]),
    ("VIEW", &[View]),
    ("VIEW_CONFIG_DUMP", &[Access::Debug]),
    ("VIEW_STATS", &[Access::Debug]),
    ("VIEW_CLUSTERS", &[Access::Debug]),
    ("VIEW_XDS", &[Access::Debug]),
    ("DEBUG", &[Access::Debug]),
    ("RELEASE", &[Release]),
];

/// What a word of `access` gives, in any case, with `-` or `_`.
pub fn meaning(word: &str) -> Option<&'static [Access]> {
    let word = word.to_ascii_uppercase().replace('-', "_");
    WORDS.iter().find(|(name, _)| *name == word).map(|(_, gives)| *gives)
}

/// The fields of an AccessRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRole {
    /// What it gives, all together.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Rights on what all of its conditions match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Kinds by name; `*` is every kind but secrets and access itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Names; one that ends in `*` is a prefix. None: every name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The mesh: resources in it, and the Mesh itself. None: every mesh, and what is beside the meshes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// The zone that owns the resource, or is it. None: whoever owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Words for rights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<String>,
    /// Every right but that to read secrets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_all: bool,
    /// Kong Mesh's further conditions; this version has none and refuses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Value>,
}

/// Stands for every kind that no rule must name by itself.
pub const EVERY_KIND: &str = "*";

/// Whether only a rule that names this kind gives rights on it: secrets, and the kinds that give rights.
pub fn must_be_named(kind: Kind) -> bool {
    kind.descriptor().sealed || matches!(kind, Kind::AccessRole | Kind::AccessRoleBinding)
}

impl Rule {
    /// The rights.
    pub fn accesses(&self) -> BTreeSet<Access> {
        let all = if self.access_all { Access::ALL } else { &[] };
        let named = self.access.iter().filter_map(|word| meaning(word)).flatten();
        all.iter().chain(named).copied().collect()
    }

    /// The kinds that the rule names, and whether it names every kind.
    pub fn kinds(&self) -> (BTreeSet<Kind>, bool) {
        (self.types.iter().filter_map(|name| name.parse().ok()).collect(), self.types.iter().any(|name| name == EVERY_KIND))
    }
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<AccessRole>(spec, "", |role, root| {
        if role.rules.is_empty() {
            return vec![root.field("rules").violation("must not be empty")];
        }
        role.rules.iter().enumerate().flat_map(|(i, rule)| check_rule(rule, &root.field("rules").index(i))).collect()
    })
}

fn check_rule(rule: &Rule, path: &Path) -> Vec<Violation> {
    let mut faults = check_access(rule, path);
    for (i, name) in rule.types.iter().enumerate() {
        if name != EVERY_KIND && name.parse::<Kind>().is_err() {
            faults.push(path.field("types").index(i).violation(format!("unknown kind {name:?}")));
        }
    }
    if rule.types.is_empty() && rule.accesses().into_iter().any(Access::is_of_resources) {
        let message =
            format!("must name the kinds, or {EVERY_KIND:?} for every kind but secrets, AccessRole and AccessRoleBinding");
        faults.push(path.field("types").violation(message));
    }
    let mut patterns: Vec<(Path, &str)> =
        rule.names.iter().enumerate().map(|(i, name)| (path.field("names").index(i), name.as_str())).collect();
    patterns.extend(rule.mesh.as_deref().map(|mesh| (path.field("mesh"), mesh)));
    patterns.extend(rule.zone.as_deref().map(|zone| (path.field("zone"), zone)));
    faults.extend(patterns.into_iter().filter_map(|(path, text)| Some(path.violation(pattern_fault(text)?))));
    faults.extend(check_mesh(rule, path));
    if !rule.when.is_empty() {
        faults.push(path.field("when").violation("conditions are not supported: the rule would give more than it says"));
    }
    faults
}

fn check_access(rule: &Rule, path: &Path) -> Vec<Violation> {
    let at = path.field("access");
    if rule.access.is_empty() && !rule.access_all {
        return vec![at.violation("must not be empty, unless accessAll is true")];
    }
    let mut faults = Vec::new();
    for (i, word) in rule.access.iter().enumerate() {
        if meaning(word).is_none() {
            let known: Vec<_> = WORDS.iter().map(|(name, _)| *name).collect();
            faults.push(at.index(i).violation(format!("unknown access {word:?}; use {}", known.join(", "))));
        }
    }
    let names_a_secret = rule.kinds().0.into_iter().any(|kind| kind.descriptor().sealed);
    if rule.accesses().contains(&ReadSecret) && !names_a_secret {
        faults.push(at.violation("READ_SECRET needs Secret or GlobalSecret among types"));
    }
    faults
}

/// A rule for one mesh says nothing of kinds that are beside the meshes.
fn check_mesh(rule: &Rule, path: &Path) -> Vec<Violation> {
    if rule.mesh.is_none() {
        return Vec::new();
    }
    let beside =
        |name: &str| name.parse::<Kind>().is_ok_and(|kind| kind != Kind::Mesh && kind.descriptor().scope == Scope::Global);
    let at = path.field("types");
    let faults = rule.types.iter().enumerate().filter(|(_, name)| beside(name));
    faults.map(|(i, name)| at.index(i).violation(format!("{name} is in no mesh: leave it out, or leave out mesh"))).collect()
}

fn pattern_fault(text: &str) -> Option<&'static str> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() {
        Some("cannot be empty")
    } else if stem.contains('*') {
        Some("takes '*' only at its end")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kong_meshs_documents_are_taken() {
        let role = json!({"rules": [
            {"types": ["MeshTimeout", "Mesh"], "names": ["a", "team-*"], "mesh": "default", "access": ["CREATE", "update"]},
            {"access": ["GENERATE_DATAPLANE_TOKEN", "issue-token", "VIEW_CONTROL_PLANE_METADATA"]},
            {"types": ["*"], "accessAll": true, "zone": "azure"},
        ]});
        assert_eq!(check(&role), Checked::default());
        let role: AccessRole = serde_json::from_value(role).unwrap();
        assert_eq!(role.rules[0].accesses(), [Create, Update].into());
        assert_eq!(role.rules[1].accesses(), [IssueUserToken, IssueDataplaneToken, IssueZoneToken, View].into());
        assert!(!role.rules[2].accesses().contains(&ReadSecret), "no wildcard reads secrets");
    }

    fn fault(rule: Value, field: &str, words: &str) {
        let checked = check(&json!({"rules": [rule]}));
        let found = checked.violations.iter().any(|fault| fault.field == field && fault.message.contains(words));
        assert!(found, "{checked:?}");
    }

    #[test]
    fn what_would_give_more_or_less_than_it_says_is_a_fault() {
        fault(json!({"access": ["CREATE"]}), "rules[0].types", "name the kinds");
        fault(json!({"types": ["Mesh"]}), "rules[0].access", "must not be empty");
        fault(json!({"types": ["Nope"], "access": ["GET"]}), "rules[0].types[0]", "unknown kind");
        fault(json!({"types": ["Mesh"], "access": ["PEEK"]}), "rules[0].access[0]", "unknown access");
        fault(json!({"types": ["*"], "access": ["READ_SECRET"]}), "rules[0].access", "Secret");
        fault(json!({"types": ["Zone"], "mesh": "default", "access": ["GET"]}), "rules[0].types[0]", "in no mesh");
        fault(json!({"types": ["Mesh"], "access": ["GET"], "when": [{"dpToken": {}}]}), "rules[0].when", "not supported");
        fault(json!({"types": ["Mesh"], "access": ["GET"], "names": ["a*b"]}), "rules[0].names[0]", "only at its end");
        fault(json!({"types": ["Mesh"], "access": ["GET"], "meshes": ["a"]}), "rules[0].meshes", "unknown field");
    }
}
