//! Labels that planes compute on reading, and the checks of what users send.
//!
//! `kuma.io/origin`, `kuma.io/zone`, `kuma.io/mesh`, `kuma.io/display-name` and `kuma.io/env` are never stored, sent or hashed.

use crate::{Kind, Labels, Name, Owner, ResourceKey, Scope, Violation, ZoneUid, names, violation::Path};

/// The name that the author gave.
pub const DISPLAY_NAME: &str = "kuma.io/display-name";
/// The mesh of a mesh-scoped resource.
pub const MESH: &str = "kuma.io/mesh";
/// `global` or `zone`, as seen from the plane that answers.
pub const ORIGIN: &str = "kuma.io/origin";
/// The owning zone.
pub const ZONE: &str = "kuma.io/zone";
/// `universal`.
pub const ENV: &str = "kuma.io/env";
/// The workload that a dataplane belongs to.
pub const WORKLOAD: &str = "kuma.io/workload";
/// Set on a Dataplane with a zone ingress listener.
pub const LISTENER_ZONE_INGRESS: &str = "kuma.io/listener-zoneingress";
/// Set on a Dataplane with a zone egress listener.
pub const LISTENER_ZONE_EGRESS: &str = "kuma.io/listener-zoneegress";
/// Which generator made a resource.
pub const MANAGED_BY: &str = "kuma.io/managed-by";
/// `shadow`: shown, not in force.
pub const EFFECT: &str = "kuma.io/effect";
/// `disabled`: stays on its plane.
pub const KDS_SYNC: &str = "kuma.io/kds-sync";
/// Producer, consumer, system or workload-owner; `system` on universal.
pub const POLICY_ROLE: &str = "kuma.io/policy-role";
/// RFC 3339 time at which a generated service lost its last dataplane.
pub const DELETION_GRACE: &str = "kuma.io/deletion-grace-period-started-at";

/// The labels that planes compute.
pub const COMPUTED: [&str; 5] = [DISPLAY_NAME, MESH, ORIGIN, ZONE, ENV];

/// Which plane looks at a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewpoint {
    /// The global control plane.
    Global,
    /// A zone's control plane.
    Zone {
        /// Its name.
        name: Name,
        /// Its identity.
        uid: ZoneUid,
        /// Whether it has a global; a stand-alone zone takes every kind.
        federated: bool,
    },
}

impl Viewpoint {
    /// The owner of what this plane writes.
    pub fn owner(&self) -> Owner {
        match self {
            Viewpoint::Global => Owner::Global,
            Viewpoint::Zone { uid, .. } => Owner::Zone(*uid),
        }
    }

    /// Whether people may write `kind` here.
    pub fn may_write(&self, kind: Kind) -> bool {
        let row = kind.descriptor();
        match self {
            Viewpoint::Global => row.global_writes,
            Viewpoint::Zone { federated: true, .. } => row.zone_writes,
            Viewpoint::Zone { federated: false, .. } => row.global_writes || row.zone_writes,
        }
    }

    /// `kuma.io/origin` of a resource of `owner`, as this plane shows it: on a zone everything that came from global is
    /// `global`, other zones' services too; on global every zone's is `zone`.
    pub fn origin(&self, owner: Owner) -> &'static str {
        match (self, owner) {
            (Viewpoint::Global, Owner::Global) => "global",
            (Viewpoint::Global, Owner::Zone(_)) => "zone",
            (Viewpoint::Zone { uid, .. }, Owner::Zone(owner)) if *uid == owner => "zone",
            (Viewpoint::Zone { .. }, Owner::Global | Owner::Zone(_)) => "global",
        }
    }
}

/// The stored labels with the computed ones: what answers show and selectors see. `zone` is the name of the owning zone.
pub fn present(viewpoint: &Viewpoint, key: &ResourceKey, stored: &Labels, zone: Option<&str>) -> Labels {
    let mut labels = stored.clone();
    labels.insert(DISPLAY_NAME.to_owned(), key.name.to_string());
    labels.insert(ORIGIN.to_owned(), viewpoint.origin(key.owner).to_owned());
    if key.kind.descriptor().scope == Scope::Mesh {
        labels.insert(MESH.to_owned(), key.mesh.to_string());
    }
    if let Some(zone) = zone {
        labels.insert(ZONE.to_owned(), zone.to_owned());
        labels.insert(ENV.to_owned(), "universal".to_owned());
    }
    labels
}

/// Takes out the labels that planes compute: what is stored.
#[must_use]
pub fn stored(mut labels: Labels) -> Labels {
    labels.retain(|key, _| !COMPUTED.contains(&key.as_str()));
    labels
}

/// Whether every label of `selector` stands in `labels` with the same value.
pub fn matches(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Checks the labels of a write on this plane, before [`stored`]; in Kuma's order.
pub fn check(viewpoint: &Viewpoint, kind: Kind, mesh: &Name, labels: &Labels) -> Vec<Violation> {
    let root = Path::root("labels");
    let mut faults = Vec::new();
    check_origin(viewpoint, kind, labels, &root, &mut faults);
    if let Viewpoint::Zone { name, .. } = viewpoint {
        check_on_zone(name, mesh, labels, &root, &mut faults);
    }
    if let Some(role) = labels.get(POLICY_ROLE).filter(|role| kind.descriptor().policy.is_some() && *role != "system") {
        faults.push(root.key(POLICY_ROLE).violation(format!("kuma.io/policy-role label should have system value, got {role}")));
    }
    for (key, value) in labels {
        let messages = names::label_key_faults(key).into_iter().chain(names::label_value_faults(value));
        faults.extend(messages.map(|fault| root.key(key).violation(fault)));
    }
    faults
}

fn check_origin(viewpoint: &Viewpoint, kind: Kind, labels: &Labels, root: &Path, faults: &mut Vec<Violation>) {
    let given = labels.get(ORIGIN).map(String::as_str);
    let path = root.key(ORIGIN);
    if let Some(other) = given.filter(|given| !matches!(*given, "global" | "zone")) {
        faults.push(path.violation(format!("unknown resource origin {other:?}")));
    }
    match viewpoint {
        Viewpoint::Global => {
            if given.is_some_and(|given| given != "global") {
                faults.push(path.violation("the origin label must be set to 'global'"));
            }
        }
        // Kuma's dialect at HEAD: a federated zone wants the label on every new-style kind.
        Viewpoint::Zone { federated: true, .. } => {
            if kind.descriptor().style == crate::Style::Spec && given != Some("zone") {
                faults.push(path.violation("the origin label must be set to 'zone'"));
            }
        }
        Viewpoint::Zone { federated: false, .. } => {}
    }
}

/// What comes from global may say another zone and mesh; whether it may be written here is another question.
fn check_on_zone(zone: &Name, mesh: &Name, labels: &Labels, root: &Path, faults: &mut Vec<Violation>) {
    if labels.get(ORIGIN).is_some_and(|origin| origin == "global") {
        return;
    }
    if labels.get(ZONE).is_some_and(|given| given != zone.as_str()) {
        faults.push(root.key(ZONE).violation(format!("kuma.io/zone label should have {zone} value")));
    }
    if labels.get(MESH).is_some_and(|given| given != mesh.as_str()) {
        faults.push(root.key(MESH).violation("kuma.io/mesh label must not differ from mesh set on resource"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, id: u128) -> Viewpoint {
        Viewpoint::Zone { name: name.into(), uid: ZoneUid(uuid::Uuid::from_u128(id)), federated: true }
    }

    #[test]
    fn origin_describes_the_last_hop() {
        let (a, b) = (zone("a", 1), zone("b", 2));
        assert_eq!(a.origin(a.owner()), "zone");
        assert_eq!(b.origin(a.owner()), "global");
        assert_eq!(b.origin(Owner::Global), "global");
        assert_eq!(Viewpoint::Global.origin(a.owner()), "zone");
    }

    #[test]
    fn computed_labels_are_shown_and_never_stored() {
        let key = ResourceKey::new(Kind::MeshService, "default", "api", zone("a", 1).owner());
        let own = Labels::from([("team".to_owned(), "x".to_owned())]);
        let shown = present(&zone("b", 2), &key, &own, Some("a"));
        let expected =
            [(DISPLAY_NAME, "api"), (ENV, "universal"), (MESH, "default"), (ORIGIN, "global"), (ZONE, "a"), ("team", "x")];
        assert_eq!(shown, expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(stored(shown), own);
    }

    #[test]
    fn a_federated_zone_wants_its_origin_and_its_name() {
        let labels = Labels::from([(ZONE.to_owned(), "other".to_owned())]);
        let fields: Vec<_> =
            check(&zone("a", 1), Kind::MeshTimeout, &"default".into(), &labels).into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, [r#"labels["kuma.io/origin"]"#, r#"labels["kuma.io/zone"]"#]);
    }

    #[test]
    fn a_policys_role_is_system_everywhere_and_keys_are_named_last() {
        let labels = Labels::from([
            (POLICY_ROLE.to_owned(), "producer".to_owned()),
            (ORIGIN.to_owned(), "elsewhere".to_owned()),
            ("a b".to_owned(), "x".to_owned()),
        ]);
        let fields = |kind| -> Vec<String> {
            check(&Viewpoint::Global, kind, &"default".into(), &labels).into_iter().map(|fault| fault.field).collect()
        };
        let (origin, role) = (r#"labels["kuma.io/origin"]"#, r#"labels["kuma.io/policy-role"]"#);
        assert_eq!(fields(Kind::MeshTimeout), [origin, origin, role, r#"labels["a b"]"#]);
        assert_eq!(fields(Kind::MeshService), [origin, origin, r#"labels["a b"]"#]);
    }
}
