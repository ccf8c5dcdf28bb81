use std::collections::BTreeMap;

use atoll_model::{ContentHash, Labels};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 3] = [Kind::Mesh, Kind::MeshService, Kind::MeshTimeout];
const MESHES: [&str; 3] = ["", "a", "b"];
const NAMES: [&str; 3] = ["x", "x-1", "y"];

fn owner(n: usize) -> Owner {
    if n == 0 { Owner::Global } else { Owner::Zone(ZoneUid(uuid::Uuid::from_u128(n as u128))) }
}

fn resource(key: ResourceKey, revision: u64, spec: &str) -> Arc<Resource> {
    Arc::new(Resource {
        key,
        revision: Revision(revision),
        version: 1,
        generation: 1,
        labels: Labels::new(),
        spec: Bytes::from(spec.to_owned()),
        computed: None,
        hash: ContentHash::default(),
        created: Timestamp::default(),
        modified: Timestamp::default(),
    })
}

fn tombstone(key: ResourceKey, revision: u64) -> Arc<Tombstone> {
    Arc::new(Tombstone { key, revision: Revision(revision), deleted: Timestamp::default() })
}

fn keys() -> impl Strategy<Value = ResourceKey> {
    (0..3usize, 0..3usize, 0..3usize, 0..3usize)
        .prop_map(|(kind, mesh, name, zone)| ResourceKey::new(KINDS[kind], MESHES[mesh], NAMES[name], owner(zone)))
}

fn feed(table: &TableSnapshot, after: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    table.changes(Revision(after), &mut |change| {
        changes.push(change.clone());
        true
    });
    changes
}

proptest! {
    /// The table against a list of everything that ever happened.
    #[test]
    fn the_table_is_what_happened(
        happened in prop::collection::vec((keys(), any::<bool>()), 0..80),
        horizon in 0..90u64,
        durable in 0..90u64,
    ) {
        let mut table = TableSnapshot::default();
        let mut model: BTreeMap<ResourceKey, Change> = BTreeMap::new();
        let mut shared = Vec::new();
        for (at, (key, there)) in happened.iter().enumerate() {
            let revision = at as u64 + 1;
            let change = if *there {
                Change::Put(resource(key.clone(), revision, "{}"))
            } else {
                Change::Delete(tombstone(key.clone(), revision))
            };
            shared.push((table.clone(), model.clone()));
            table.apply(change.clone());
            model.insert(key.clone(), change);
        }
        table.set_durable(Revision(durable));
        table.set_horizon(Revision(horizon));
        model.retain(|_, change| matches!(change, Change::Put(_)) || change.revision() > Revision(horizon));
        check(&table, &model)?;

        let expected = in_order(&model).into_iter().filter(|change| change.revision() <= Revision(durable));
        for after in 0..=happened.len() as u64 {
            let expected: Vec<_> = expected.clone().filter(|change| change.revision() > Revision(after)).collect();
            prop_assert_eq!(feed(&table, after), expected);
        }
        for (old, model) in shared {
            check(&old, &model)?;
        }
    }
}

fn in_order(model: &BTreeMap<ResourceKey, Change>) -> Vec<Change> {
    let mut changes: Vec<Change> = model.values().cloned().collect();
    changes.sort_by_key(Change::revision);
    changes
}

fn check(table: &TableSnapshot, model: &BTreeMap<ResourceKey, Change>) -> Result<(), TestCaseError> {
    let live: Vec<&Arc<Resource>> = model
        .values()
        .filter_map(|change| match change {
            Change::Put(resource) => Some(resource),
            Change::Delete(_) => None,
        })
        .collect();
    prop_assert_eq!(table.len(), live.len());
    prop_assert_eq!(table.changes_since(Revision(0)).collect::<Vec<_>>(), in_order(model));
    for mesh in MESHES.map(Name::from) {
        let inside = |found: &&&Arc<Resource>| found.key.mesh == mesh && found.key.kind != Kind::Mesh;
        prop_assert_eq!(table.len_of_mesh(&mesh), live.iter().filter(inside).count());
    }
    for kind in KINDS {
        let of_kind = || live.iter().copied().filter(move |found| found.key.kind == kind);
        prop_assert_eq!(table.list(kind, None).collect::<Vec<_>>(), of_kind().collect::<Vec<_>>());
        for mesh in MESHES.map(Name::from) {
            let of_mesh = || of_kind().filter(|found| found.key.mesh == mesh);
            prop_assert_eq!(table.list(kind, Some(&mesh)).collect::<Vec<_>>(), of_mesh().collect::<Vec<_>>());
            for name in NAMES.map(Name::from) {
                let named: Vec<_> = of_mesh().filter(|found| found.key.name == name).collect();
                prop_assert_eq!(table.by_name(kind, &mesh, &name).collect::<Vec<_>>(), named);
            }
        }
    }
    for (key, change) in model {
        match change {
            Change::Put(resource) => {
                prop_assert_eq!((table.get(key), table.tombstone(key)), (Some(resource), None));
            }
            Change::Delete(tombstone) => {
                prop_assert_eq!((table.get(key), table.tombstone(key)), (None, Some(tombstone)));
            }
        }
    }
    Ok(())
}

#[test]
fn a_reader_may_stop_early() {
    let mut table = TableSnapshot::default();
    for revision in 1..=5 {
        table.apply(Change::Put(resource(ResourceKey::new(Kind::Mesh, "", revision.to_string(), Owner::Global), revision, "{}")));
    }
    table.set_durable(Revision(5));
    let mut seen = Vec::new();
    table.changes(Revision(1), &mut |change| {
        seen.push(change.revision().0);
        seen.len() < 2
    });
    assert_eq!(seen, [2, 3]);
    assert_eq!(table.head(), Revision(5));
}

#[test]
fn zones_are_known_by_identity() {
    let mut table = TableSnapshot::default();
    let uid = |n| ZoneUid(uuid::Uuid::from_u128(n));
    let zone = |name: &str| ResourceKey::new(Kind::Zone, "", name, Owner::Global);
    let spec = |n| format!("{{\"uid\":\"{}\"}}", uid(n));
    table.apply(Change::Put(resource(zone("azure"), 1, "{}")));
    assert_eq!(table.zone_name(uid(1)), None);
    table.apply(Change::Put(resource(zone("azure"), 2, &spec(1))));
    table.apply(Change::Put(resource(zone("gcp"), 3, &spec(2))));
    assert_eq!(table.zone_name(uid(1)), Some("azure".into()));
    table.apply(Change::Put(resource(zone("azure"), 4, &spec(3))));
    assert_eq!((table.zone_name(uid(1)), table.zone_name(uid(3))), (None, Some("azure".into())), "it was made again");
    table.apply(Change::Delete(tombstone(zone("azure"), 5)));
    assert_eq!((table.zone_name(uid(3)), table.zone_name(uid(2))), (None, Some("gcp".into())));
}

#[test]
fn a_table_that_was_too_far_behind_sees_what_went() {
    let mesh = |name: &str| ResourceKey::new(Kind::Mesh, "", name, Owner::Global);
    let mut old = TableSnapshot::default();
    for (revision, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        old.apply(Change::Put(resource(mesh(name), revision, "{}")));
    }
    // Since then: a deleted at 5, b changed at 6, c deleted at 7, e made at 8, d deleted at 9; pruned up to 7.
    let everything = vec![
        Change::Put(resource(mesh("b"), 6, "1")),
        Change::Put(resource(mesh("e"), 8, "{}")),
        Change::Delete(tombstone(mesh("d"), 9)),
    ];
    let new = old.caught_up(everything, Revision(7), Timestamp::default());
    let seen: Vec<(u64, bool, String)> = new
        .changes_since(old.revision())
        .map(|change| (change.revision().0, matches!(change, Change::Put(_)), change.key().name.to_string()))
        .collect();
    let row = |revision, put, name: &str| (revision, put, name.to_owned());
    let expected = [row(5, false, "a"), row(6, true, "b"), row(7, false, "c"), row(8, true, "e"), row(9, false, "d")];
    assert_eq!(seen, expected);
    assert_eq!((new.revision(), new.horizon(), new.len()), (Revision(9), Revision(7), 2));
    assert!(new.continues(&old) && !old.continues(&new) && !old.other_history().continues(&old));
}
