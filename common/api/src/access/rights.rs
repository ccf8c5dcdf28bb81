//! Rights in a form that decides fast and can be compared: whether one set holds all of another.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{
    Kind,
    kinds::access_role::{Access, Rule, must_be_named},
};

use super::Object;

/// What one caller holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Everything, whatever the rest says.
    all: bool,
    /// What each role gives.
    parts: Vec<Arc<Part>>,
}

/// What one role gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part(BTreeMap<Access, Vec<Scope>>);

/// On what a right is held.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    kind: KindScope,
    mesh: Pattern,
    zone: Pattern,
    name: Pattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KindScope {
    /// What is no resource.
    NoResource,
    /// Every kind that a rule need not name.
    Every,
    /// One kind.
    One(Kind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Any,
    Exact(String),
    Prefix(String),
}

impl Rights {
    /// Everything.
    pub fn all() -> Self {
        Self { all: true, parts: Vec::new() }
    }

    pub(super) fn of(parts: Vec<Arc<Part>>) -> Self {
        Self { all: false, parts }
    }

    /// Whether they hold everything.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether this right is held on this object.
    pub(super) fn may(&self, access: Access, object: &Object<'_>) -> bool {
        self.all || self.scopes(access).any(|scope| scope.matches(object))
    }

    /// Whether this right is held on anything of the kind; of no kind: on anything at all.
    pub(super) fn may_ever(&self, access: Access, kind: Option<Kind>) -> bool {
        self.all || self.scopes(access).any(|scope| kind.is_none_or(|kind| scope.kind.includes(Some(kind))))
    }

    /// Whether any right is held on anything of the kind.
    pub(super) fn touch(&self, kind: Kind) -> bool {
        self.all || self.every_scope().any(|(_, scope)| scope.kind.includes(Some(kind)))
    }

    /// Whether any right is held on something of the kind in the mesh.
    pub(super) fn touch_mesh(&self, kind: Kind, mesh: &str) -> bool {
        self.all || self.every_scope().any(|(_, scope)| scope.kind.includes(Some(kind)) && scope.mesh.matches(mesh))
    }

    /// Whether all of `other` is held. A right counts as held if one right of ours is at least as wide.
    pub(super) fn cover(&self, other: &Self) -> bool {
        self.all || (!other.all && other.every_scope().all(|(access, wanted)| self.scopes(access).any(|own| own.covers(wanted))))
    }

    fn scopes(&self, access: Access) -> impl Iterator<Item = &Scope> {
        self.parts.iter().filter_map(move |part| part.0.get(&access)).flatten()
    }

    fn every_scope(&self) -> impl Iterator<Item = (Access, &Scope)> {
        self.parts.iter().flat_map(|part| part.0.iter()).flat_map(|(access, scopes)| scopes.iter().map(|scope| (*access, scope)))
    }
}

impl Part {
    /// What rules give.
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut part = Self::default();
        for rule in rules {
            part.add(rule);
        }
        part
    }

    fn add(&mut self, rule: &Rule) {
        let (kinds, every) = rule.kinds();
        let every = every.then_some(KindScope::Every);
        let kinds: Vec<KindScope> = every.into_iter().chain(kinds.into_iter().map(KindScope::One)).collect();
        for access in rule.accesses() {
            let kinds = if access.is_of_resources() { kinds.as_slice() } else { &[KindScope::NoResource] };
            for kind in kinds {
                let sealed = matches!(kind, KindScope::One(kind) if kind.descriptor().sealed);
                if access == Access::ReadSecret && !sealed {
                    continue;
                }
                let names =
                    if rule.names.is_empty() { vec![Pattern::Any] } else { rule.names.iter().map(|n| Pattern::of(n)).collect() };
                self.0.entry(access).or_default().extend(names.into_iter().map(|name| Scope {
                    kind: *kind,
                    mesh: Pattern::of_optional(rule.mesh.as_deref()),
                    zone: Pattern::of_optional(rule.zone.as_deref()),
                    name,
                }));
            }
        }
    }
}

impl Scope {
    fn matches(&self, object: &Object<'_>) -> bool {
        self.kind.includes(object.kind)
            && self.mesh.matches(object.mesh)
            && self.zone.matches(object.zone)
            && self.name.matches(object.name)
    }

    fn covers(&self, other: &Self) -> bool {
        self.kind.covers(other.kind)
            && self.mesh.covers(&other.mesh)
            && self.zone.covers(&other.zone)
            && self.name.covers(&other.name)
    }
}

impl KindScope {
    fn includes(self, kind: Option<Kind>) -> bool {
        match (self, kind) {
            (KindScope::NoResource, None) => true,
            (KindScope::Every, Some(kind)) => !must_be_named(kind),
            (KindScope::One(own), Some(kind)) => own == kind,
            (KindScope::NoResource, Some(_)) | (KindScope::Every | KindScope::One(_), None) => false,
        }
    }

    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (KindScope::Every, KindScope::Every) | (KindScope::NoResource, KindScope::NoResource) => true,
            (own, KindScope::One(kind)) => own.includes(Some(kind)),
            (KindScope::NoResource | KindScope::One(_), KindScope::Every)
            | (KindScope::Every | KindScope::One(_), KindScope::NoResource) => false,
        }
    }
}

impl Pattern {
    fn of(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Pattern::Any,
            Some(stem) => Pattern::Prefix(stem.to_owned()),
            None => Pattern::Exact(text.to_owned()),
        }
    }

    fn of_optional(text: Option<&str>) -> Self {
        text.map_or(Pattern::Any, Self::of)
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(own) => own == text,
            Pattern::Prefix(stem) => text.starts_with(stem.as_str()),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Pattern::Any, _) => true,
            (Pattern::Exact(own), Pattern::Exact(other)) => own == other,
            (Pattern::Prefix(stem), Pattern::Exact(other) | Pattern::Prefix(other)) => other.starts_with(stem.as_str()),
            (Pattern::Exact(_) | Pattern::Prefix(_), Pattern::Any) | (Pattern::Exact(_), Pattern::Prefix(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rights(rules: Value) -> Rights {
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap();
        Rights::of(vec![Arc::new(Part::of(&rules))])
    }

    fn object(kind: Kind, mesh: &'static str, zone: &'static str, name: &'static str) -> Object<'static> {
        Object { kind: Some(kind), mesh, zone, name }
    }

    #[test]
    fn a_rule_matches_by_all_of_its_conditions() {
        let own = rights(json!([
            {"types": ["MeshTimeout"], "names": ["a", "team-*"], "mesh": "default", "access": ["UPDATE"]},
            {"types": ["*"], "zone": "azure", "access": ["READ"]},
        ]));
        for (access, object, expected) in [
            (Access::Update, object(Kind::MeshTimeout, "default", "", "a"), true),
            (Access::Update, object(Kind::MeshTimeout, "default", "", "team-7"), true),
            (Access::Update, object(Kind::MeshTimeout, "default", "", "b"), false),
            (Access::Update, object(Kind::MeshTimeout, "other", "", "a"), false),
            (Access::Update, object(Kind::MeshTls, "default", "", "a"), false),
            (Access::Create, object(Kind::MeshTimeout, "default", "", "a"), false),
            (Access::Get, object(Kind::Dataplane, "other", "azure", "x"), true),
            (Access::Get, object(Kind::Dataplane, "other", "gcp", "x"), false),
            (Access::Get, object(Kind::Mesh, "other", "", "other"), false),
        ] {
            assert_eq!(own.may(access, &object), expected, "{access:?} {object:?}");
        }
    }

    #[test]
    fn wildcards_hold_no_secret_and_no_role() {
        let own = rights(json!([{"types": ["*"], "accessAll": true}]));
        for kind in Kind::ALL {
            let named = matches!(kind, Kind::Secret | Kind::GlobalSecret | Kind::AccessRole | Kind::AccessRoleBinding);
            assert_eq!(own.may(Access::Get, &object(*kind, "m", "", "x")), !named, "{kind}");
            assert!(!own.may(Access::ReadSecret, &object(*kind, "m", "", "x")), "{kind}");
        }
    }

    #[track_caller]
    fn covers(own: Value, other: Value, expected: bool) {
        assert_eq!(rights(own.clone()).cover(&rights(other.clone())), expected, "{own} over {other}");
    }

    #[test]
    fn nothing_wider_is_covered() {
        let rule = |more: Value| {
            let mut rule = json!({"types": ["MeshTimeout"], "access": ["UPDATE"]});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([rule])
        };
        covers(rule(json!({})), rule(json!({"mesh": "a", "names": ["x"], "zone": "z"})), true);
        covers(rule(json!({"mesh": "a"})), rule(json!({})), false);
        covers(rule(json!({"names": ["team-*"]})), rule(json!({"names": ["team-a", "team-b*"]})), true);
        covers(rule(json!({"names": ["team-*"]})), rule(json!({"names": ["team-a", "t*"]})), false);
        covers(rule(json!({"names": ["team-a"]})), rule(json!({"names": ["team-a*"]})), false);
        covers(rule(json!({"types": ["*"]})), rule(json!({})), true);
        covers(rule(json!({})), rule(json!({"types": ["*"]})), false);
        covers(rule(json!({"types": ["*"]})), rule(json!({"types": ["Secret"]})), false);
        covers(rule(json!({})), rule(json!({"access": ["UPDATE", "DELETE"]})), false);
        covers(json!([{"access": ["DEBUG"]}]), json!([{"access": ["DEBUG"], "mesh": "a"}]), true);
        covers(json!([{"access": ["DEBUG"], "mesh": "a"}]), json!([{"access": ["DEBUG"]}]), false);
        assert!(Rights::all().cover(&Rights::all()));
        assert!(!rights(json!([{"types": ["*"], "accessAll": true}])).cover(&Rights::all()));
    }
}
