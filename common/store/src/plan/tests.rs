use std::collections::BTreeMap;

use atoll_model::{Kind, Owner};
use proptest::prelude::*;

use super::*;
use crate::{PeerCursor, TableSnapshot};

impl Plan {
    /// A batch without sealed resources.
    fn write_open(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        self.write(batch, &DataKeys::new())
    }
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::MeshTimeout, "default", name, Owner::Global)
}

fn now() -> Timestamp {
    Timestamp::from_timestamp(1_900_000_000, 123_456_789).unwrap()
}

fn user() -> Actor {
    Actor::recorded("user:ada", None)
}

fn put(name: &str, spec: &str) -> Write {
    Write::put(key(name), Labels::new(), spec.to_owned())
}

fn with(expect: Expect, mut write: Write) -> Write {
    match &mut write {
        Write::Put { expect: held, .. }
        | Write::PutComputed { expect: held, .. }
        | Write::Check { expect: held, .. }
        | Write::Delete { expect: held, .. } => *held = expect,
    }
    write
}

/// A table with `a` at version 2.
fn table() -> TableSnapshot {
    let mut plan = Plan::over(&TableSnapshot::default(), now());
    for spec in ["{\"n\":1}", "{\"n\":2}"] {
        plan.write_open(&WriteBatch::one(user(), put("a", spec))).unwrap();
    }
    plan.table
}

fn try_one(write: Write) -> Result<WriteResult, StoreError> {
    let mut plan = Plan::over(&table(), now());
    plan.write_open(&WriteBatch::one(user(), write)).map(|mut done| done.results.remove(0))
}

#[test]
fn preconditions() {
    use Expect::{Absent, Any, Exists, Version};
    let check = |name: &str, expect, expected: &str| {
        for write in [put(name, "{\"n\":3}"), Write::delete(key(name))] {
            let said = match try_one(with(expect, write)) {
                Ok(WriteResult::Created(_) | WriteResult::Absent) => "new".to_owned(),
                Ok(WriteResult::Updated(_) | WriteResult::Deleted(_)) => "done".to_owned(),
                Ok(WriteResult::Unchanged(_)) => "unchanged".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected, "{name} {expect:?}");
        }
    };
    check("a", Any, "done");
    check("b", Any, "new");
    check("a", Exists, "done");
    check("b", Exists, "MeshTimeout/default/b does not exist");
    check("a", Absent, "MeshTimeout/default/a exists already");
    check("b", Absent, "new");
    check("a", Version(2), "done");
    check("a", Version(1), "MeshTimeout/default/a is not at version 1");
    check("b", Version(1), "MeshTimeout/default/b is not at version 1");
}

#[test]
fn a_check_holds_the_batch_and_changes_nothing() {
    let mut plan = Plan::over(&table(), now());
    let check = |name: &str| Write::Check { key: key(name), expect: Expect::Exists };
    let done = plan.write_open(&WriteBatch::new(user(), vec![check("a"), put("b", "{}")])).unwrap();
    assert!(matches!(done.results[..], [WriteResult::Unchanged(_), WriteResult::Created(_)]));
    assert_eq!((done.revision, plan.rows.history.len()), (Revision(3), 1));
    let refused = plan.write_open(&WriteBatch::new(user(), vec![put("c", "{}"), check("nobody")]));
    assert!(matches!(refused, Err(StoreError::NotFound(refused)) if refused == key("nobody")));
    assert_eq!(plan.table.get(&key("c")), None);
}

#[test]
fn a_conflict_tells_the_version_that_there_is() {
    let error = try_one(with(Expect::Version(1), put("a", "{}"))).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { expected: 1, actual: Some(2), .. }), "{error:?}");
    let error = try_one(with(Expect::Version(1), put("b", "{}"))).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { expected: 1, actual: None, .. }), "{error:?}");
}

#[test]
fn what_no_journal_can_hold_is_refused() {
    let check = |write: Write, expected: &str| {
        assert!(matches!(try_one(write), Err(StoreError::Invalid { reason, .. }) if reason == expected), "{expected}");
    };
    check(put("a", "{"), "the spec is not JSON");
    check(put("a", ""), "the spec is not JSON");
    check(Write::put(key("a"), Labels::new(), vec![b'"', 0xff, b'"']), "the spec is not JSON");
    check(put("a\0", "{}"), "names and labels cannot contain the character U+0000");
    let labels = Labels::from([("a".to_owned(), "\0".to_owned())]);
    check(Write::put(key("a"), labels, "{}"), "names and labels cannot contain the character U+0000");
    check(put("a", &format!("\"{}\"", "x".repeat(1 << 20))), "the spec has more than 1 MiB");
    check(Write::PutComputed { key: key("a"), computed: Some("x".into()), expect: Expect::Any }, "the computed part is not JSON");
    assert!(try_one(put("a", r#"{"text":"\u0000","huge":1e999999}"#)).is_ok(), "good JSON, whatever jsonb thinks");
}

#[test]
fn versions_generations_and_times() {
    let table = table();
    let first = table.get(&key("a")).unwrap().clone();
    assert_eq!((first.version, first.generation, first.revision), (2, 2, Revision(2)));
    assert_eq!(first.created.timestamp_subsec_nanos(), 123_456_000, "what every journal can give back");

    let later = now() + chrono::TimeDelta::seconds(5);
    let mut plan = Plan::over(&table, later);
    let labels = Labels::from([("team".to_owned(), "x".to_owned())]);
    plan.write_open(&WriteBatch::one(user(), Write::put(key("a"), labels, first.spec.clone()))).unwrap();
    let labelled = plan.table.get(&key("a")).unwrap().clone();
    assert_eq!((labelled.version, labelled.generation, labelled.revision), (3, 2, Revision(3)));
    assert_eq!((labelled.created, labelled.modified > first.modified), (first.created, true));
    assert_ne!(labelled.hash, first.hash);

    let computed = Write::PutComputed { key: key("a"), computed: Some("{\"state\":\"Up\"}".into()), expect: Expect::Any };
    plan.write_open(&WriteBatch::one(Actor::plane(), computed.clone())).unwrap();
    let joined = plan.table.get(&key("a")).unwrap().clone();
    assert_eq!((joined.version, joined.generation, joined.modified), (4, 2, labelled.modified));
    assert_eq!(joined.document(), "{\"n\":2,\"state\":\"Up\"}");
    assert_eq!(joined.hash, ContentHash::of(&joined.labels, &joined.document()));
    assert!(matches!(plan.write_open(&WriteBatch::one(user(), computed)).unwrap().results[0], WriteResult::Unchanged(_)));

    plan.write_open(&WriteBatch::one(user(), put("a", "{\"n\":9}"))).unwrap();
    let put = plan.table.get(&key("a")).unwrap();
    assert_eq!(put.document(), "{\"n\":9,\"state\":\"Up\"}", "a put leaves the computed part");
    assert_eq!(put.hash, ContentHash::of(&put.labels, &put.document()));
}

#[test]
fn a_resource_that_was_made_again_is_never_at_a_version_that_somebody_knows() {
    let mut plan = Plan::over(&table(), now());
    let batch = WriteBatch::new(user(), vec![Write::delete(key("a")), put("a", "{}")]);
    plan.write_open(&batch).unwrap();
    assert!(plan.table.get(&key("a")).unwrap().version > 2);
    assert!(matches!(plan.rows.changes[&key("a")], RowChange::Put { fresh: true, .. }), "the tombstone must go");
}

#[test]
fn a_batch_is_done_as_a_whole_or_leaves_no_trace() {
    let mut plan = Plan::over(&table(), now());
    let writes = vec![put("b", "{}"), with(Expect::Absent, put("a", "{}"))];
    assert!(plan.write_open(&WriteBatch::new(user(), writes)).is_err());
    assert!(plan.rows.is_empty());
    assert!(plan.table.get(&key("b")).is_none());
    assert_eq!(plan.table.revision(), Revision(2));
    plan.write_open(&WriteBatch::one(user(), put("c", "{}"))).unwrap();
    assert_eq!(plan.table.revision(), Revision(3), "the next of the group is not hurt");
}

#[test]
fn what_changes_nothing_takes_no_revision_and_no_history() {
    let mut plan = Plan::over(&table(), now());
    let done = plan.write_open(&WriteBatch::new(user(), vec![put("a", "{\"n\":2}"), Write::delete(key("b"))])).unwrap();
    assert!(matches!(done.results[..], [WriteResult::Unchanged(_), WriteResult::Absent]));
    assert_eq!(done.revision, Revision(2));
    assert!(plan.rows.changes.is_empty() && plan.rows.history.is_empty());
    assert_eq!(plan.rows.audit.len(), 2, "the audit knows that it was asked");
    let mut plan = Plan::over(&table(), now());
    plan.write_open(&WriteBatch::one(Actor::plane(), put("a", "{\"n\":2}"))).unwrap();
    assert!(plan.rows.is_empty(), "a plane's writes that change nothing are not written anywhere");
}

#[test]
fn history_is_for_people_and_tokens() {
    let mut plan = Plan::over(&table(), now());
    plan.write_open(&WriteBatch::one(Actor::plane(), put("p", "{}"))).unwrap();
    assert!(plan.rows.history.is_empty());
    plan.write_open(&WriteBatch::new(user(), vec![put("a", "{}"), Write::delete(key("a"))])).unwrap();
    let entries: Vec<_> =
        plan.rows.history.iter().map(|e| (e.revision.0, e.action, e.before.as_deref(), e.after.as_deref())).collect();
    assert_eq!(
        entries,
        [
            (4, HistoryAction::Update, Some(&br#"{"labels":{},"spec":{"n":2}}"#[..]), Some(&br#"{"labels":{},"spec":{}}"#[..])),
            (5, HistoryAction::Delete, Some(&br#"{"labels":{},"spec":{}}"#[..]), None),
        ]
    );
}

#[test]
fn an_item_of_a_peer_that_cannot_be_stored_does_not_stop_the_others() {
    let mut plan = Plan::over(&table(), now());
    let item = |name: &str, spec: &str| RemoteItem::Put { key: key(name), labels: Labels::new(), spec: spec.to_owned().into() };
    let cursor = PeerCursor { epoch: uuid::Uuid::from_u128(7), revision: Revision(40) };
    let items =
        vec![item("x", "{}"), item("bad", "{"), RemoteItem::Delete { key: key("a") }, RemoteItem::Delete { key: key("?") }];
    let batch = RemoteBatch { peer: "global".to_owned(), items, cursor: Some(cursor), actor: Actor::plane() };
    let (revision, rejected) = plan.remote(&batch, &DataKeys::new());
    assert_eq!(revision, Revision(4));
    assert_eq!(rejected, [Rejected { key: key("bad"), reason: "the spec is not JSON".to_owned() }]);
    assert!(plan.table.get(&key("x")).is_some() && plan.table.get(&key("a")).is_none());
    assert_eq!(plan.rows.cursors, BTreeMap::from([("global".to_owned(), cursor)]));
}

#[derive(Clone, Debug)]
enum Step {
    Put { name: u8, spec: u8 },
    Delete { name: u8 },
    Group,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u8, 0..3u8).prop_map(|(name, spec)| Step::Put { name, spec }),
        2 => (0..6u8).prop_map(|name| Step::Delete { name }),
        1 => Just(Step::Group),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Rows that are written group by group give the same as the table, whatever was merged inside a group.
    #[test]
    fn the_rows_of_all_groups_are_the_table(steps in steps()) {
        let mut resources: BTreeMap<ResourceKey, Arc<Resource>> = BTreeMap::new();
        let mut tombstones: BTreeMap<ResourceKey, Arc<Tombstone>> = BTreeMap::new();
        let mut plan = Plan::over(&TableSnapshot::default(), now());
        for step in steps.into_iter().chain([Step::Group]) {
            match step {
                Step::Put { name, spec } => {
                    plan.write_open(&WriteBatch::one(user(), put(&name.to_string(), &spec.to_string()))).unwrap();
                }
                Step::Delete { name } => {
                    plan.write_open(&WriteBatch::one(user(), Write::delete(key(&name.to_string())))).unwrap();
                }
                Step::Group => {
                    for (key, change) in plan.take_rows().changes {
                        match change {
                            RowChange::Put { resource, fresh, .. } => {
                                if fresh {
                                    tombstones.remove(&key);
                                }
                                resources.insert(key, resource);
                            }
                            RowChange::Delete { tombstone, .. } => {
                                resources.remove(&key);
                                tombstones.insert(key, tombstone);
                            }
                        }
                    }
                }
            }
        }
        let mut journal: Vec<Change> =
            resources.into_values().map(Change::Put).chain(tombstones.into_values().map(Change::Delete)).collect();
        journal.sort_by_key(Change::revision);
        prop_assert_eq!(journal, plan.table.changes_since(Revision(0)).collect::<Vec<_>>());
    }
}
