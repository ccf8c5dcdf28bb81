//! What the MeshPassthroughs of a proxy say together.

use atoll_model::{Kind, Owner, policies::mesh_passthrough::Mode};
use atoll_policy::PolicySet;
use serde_json::{Value, json};

use crate::make::{labels, policy, zone};

fn passthrough(name: &str, top: Value, default: Value) -> std::sync::Arc<atoll_policy::Policy> {
    policy(Kind::MeshPassthrough, name, Owner::Global, json!({"targetRef": top, "default": default}))
}

#[test]
fn destinations_are_joined_and_the_most_specific_mode_holds() {
    let one = |value: &str| json!([{"type": "IP", "value": value, "protocol": "tcp"}]);
    let web = json!({"kind": "Dataplane", "labels": {"app": "web"}});
    let set = PolicySet::new([
        passthrough("mesh", json!({"kind": "Mesh"}), json!({"passthroughMode": "All", "appendMatch": one("10.0.0.1")})),
        passthrough("web", web.clone(), json!({"passthroughMode": "Matched", "appendMatch": one("10.0.0.2")})),
        passthrough("also-web", web, json!({"appendMatch": one("10.0.0.3")})),
    ]);
    let of = |app: &str| {
        let selected = set.for_proxy(&labels(&[("app", app)]), zone(1));
        let passthrough = selected.passthrough().unwrap();
        let values: Vec<_> = passthrough.append_match.iter().map(|one| one.value.clone()).collect();
        (passthrough.passthrough_mode, values)
    };
    assert_eq!(of("db"), (Some(Mode::All), vec!["10.0.0.1".to_owned()]));
    let (mode, values) = of("web");
    assert_eq!((mode, values.len()), (Some(Mode::Matched), 3));
    assert!(PolicySet::default().for_proxy(&labels(&[]), zone(1)).passthrough().is_none());
}
