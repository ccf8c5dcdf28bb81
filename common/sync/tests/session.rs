//! The session, message by message.

mod support;

use atoll_model::Kind;
use atoll_sync::{Fault, Message, Phase, Session, proto};
use support::*;

/// A test over one global plane and one zone.
macro_rules! case {
    ($(#[$doc:meta])* $name:ident, $net:ident, $body:block) => {
        #[test]
        $(#[$doc])*
        fn $name() {
            #[allow(unused_mut)]
            let mut $net = Net::new();
            $body
        }
    };
}

case!(a_new_zone_gets_all_and_gives_all, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    net.global.write(Kind::MeshTimeout, "t", "{}");
    net.zone.write(Kind::MeshService, "api", "{}");
    net.connect().assert_equal();
    assert_eq!(net.sent_down(), ["+z0", "+default", "+t"]);
    assert_eq!(net.sent_up(), ["+api"]);
});

case!(a_change_goes_at_once_and_alone, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    net.connect().clear();
    let key = net.global.write(Kind::MeshTimeout, "t", r#"{"a":1}"#);
    net.run().assert_equal();
    net.global.delete(&key);
    net.run().assert_equal();
    assert_eq!(net.sent_down(), ["+t", "-t"]);
    assert_eq!(net.sent_up(), [] as [&str; 0]);
});

case!(a_reconnect_without_a_change_sends_nothing, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    net.zone.write(Kind::Dataplane, "dp", "{}");
    net.connect().wait(40);
    net.cut().clear().connect().wait(20);
    assert_eq!((net.sent_down(), net.sent_up()), (vec![], vec![]));
});

case!(a_reconnect_sends_what_changed_meanwhile, net, {
    let gone = net.global.write(Kind::MeshTimeout, "gone", "{}");
    net.global.write(Kind::MeshTimeout, "stays", "{}");
    net.connect().cut().clear();
    net.global.delete(&gone);
    net.global.write(Kind::MeshTimeout, "new", "{}");
    net.connect().assert_equal();
    assert_eq!(net.sent_down(), ["+new", "-gone"]);
});

case!(a_fresh_zone_is_told_of_no_deletions, net, {
    let key = net.global.write(Kind::MeshTimeout, "gone", "{}");
    net.global.delete(&key);
    net.connect();
    assert_eq!(net.sent_down(), ["+z0"]);
});

case!(a_deletion_during_the_first_sync_is_told, net, {
    for n in 0..200 {
        net.global.write(Kind::MeshTimeout, &format!("t{n}"), &format!(r#"{{"pad":"{}"}}"#, "x".repeat(8000)));
    }
    net.stream = Some((global_session(&net.global, 0), zone_session(&net.zone, 0, None)));
    net.step();
    net.step();
    net.step();
    let some = net.zone.memory.rows.len();
    assert!(some > 0 && some < 200, "in the middle of it: {some}");
    for n in [0, 1, 199] {
        let key = net.global.key(Kind::MeshTimeout, &format!("t{n}"));
        net.global.delete(&key);
    }
    net.run().assert_equal();
});

case!(behind_the_horizon_comes_a_complete_snapshot, net, {
    let gone = net.global.write(Kind::MeshTimeout, "gone", "{}");
    net.global.write(Kind::MeshTimeout, "stays", "{}");
    net.connect().cut().clear();
    net.global.delete(&gone);
    net.global.prune();
    net.global.write(Kind::MeshTimeout, "new", "{}");
    net.connect().assert_equal();
    assert!(net.sent_down().contains(&"+stays".to_owned()));
    assert!(!net.zone.has(&gone));
    net.cut().clear().connect();
    assert_eq!(net.sent_down(), [] as [&str; 0], "the snapshot gave a new place to resume from");
});

case!(a_peer_that_is_outrun_by_the_horizon_gets_a_snapshot, net, {
    let gone = net.global.write(Kind::MeshTimeout, "gone", "{}");
    net.connect();
    // Nothing flows while it is deleted and forgotten.
    net.global.delete(&gone);
    net.global.prune();
    net.run().assert_equal();
    net.wait(12);
    assert_eq!(net.sessions().1.receiver().healed(), 0);
});

case!(a_snapshot_that_ends_in_the_middle_deletes_nothing, net, {
    let pad = "x".repeat(8000);
    for n in 0..40 {
        net.global.write(Kind::MeshTimeout, &format!("t{n:02}"), &format!(r#"{{"pad":"{pad}"}}"#));
    }
    net.connect().cut();
    let gone = net.global.key(Kind::MeshTimeout, "t07");
    net.global.delete(&gone);
    net.global.prune();
    for steps in 1..12 {
        net.stream = Some((global_session(&net.global, 0), zone_session(&net.zone, 0, None)));
        for _ in 0..steps {
            let mut session = net.stream.take().expect("open");
            // One message each way, then perhaps the end.
            if let Some(message) = session.1.poll_send(&net.zone.view, net.now) {
                session.0.on_message(message, &net.global.view, net.now).expect("taken");
            }
            if let Some(message) = session.0.poll_send(&net.global.view, net.now) {
                session.1.on_message(message, &net.zone.view, net.now).expect("taken");
            }
            while let Some(apply) = session.1.poll_apply(&net.zone.view, &net.zone.review, net.now) {
                let local = net.zone.apply("global", &apply);
                net.zone.flush();
                session.1.on_applied(local, Vec::new(), net.now);
            }
            net.stream = Some(session);
        }
        net.cut();
        assert!(net.zone.foreign(0).len() >= 40, "after {steps} steps");
    }
    net.connect().assert_equal();
    assert!(!net.zone.has(&gone));
});

case!(many_implied_deletions_are_held_until_an_operator_speaks, net, {
    let keys: Vec<_> = (0..30).map(|n| net.global.write(Kind::MeshTimeout, &format!("t{n}"), "{}")).collect();
    net.connect().cut();
    keys.iter().take(11).for_each(|key| net.global.delete(key));
    net.global.prune();
    net.connect().wait(20);
    assert!(keys.iter().all(|key| net.zone.has(key)), "nothing was deleted");
    assert_eq!(net.sessions().1.receiver().held().get("MeshTimeout"), Some(&11));
    assert_eq!(net.sessions().0.progress().held.get("MeshTimeout"), Some(&11), "global shows it too");
    assert_eq!(net.sessions().1.receiver().healed(), 0, "it is no difference to heal");
    net.stream.as_mut().expect("open").1.release(Kind::MeshTimeout);
    net.run().assert_equal();
    assert!(net.sessions().1.receiver().held().is_empty());
});

case!(few_implied_deletions_are_done, net, {
    let keys: Vec<_> = (0..30).map(|n| net.global.write(Kind::MeshTimeout, &format!("t{n}"), "{}")).collect();
    net.connect().cut();
    keys.iter().take(10).for_each(|key| net.global.delete(key));
    net.global.prune();
    net.connect().assert_equal();
});

case!(a_rejected_resource_holds_up_no_other_and_is_shown_at_both_ends, net, {
    net.zone.review.refuses_bad = true;
    net.global.write(Kind::MeshTimeout, "good", "{}");
    let bad = net.global.write(Kind::MeshTimeout, "poor", r#"{"bad":1}"#);
    net.global.write(Kind::MeshTimeout, "fine", "{}");
    net.connect().wait(20);
    assert!(!net.zone.has(&bad));
    assert_eq!(net.zone.foreign(0).len(), 3);
    let expected = [("MeshTimeout/default/poor".to_owned(), "it is bad".to_owned())];
    assert_eq!(net.sessions().1.receiver().rejected(), expected);
    assert_eq!(net.sessions().0.progress().rejected, expected);
    assert_eq!(net.sessions().1.receiver().healed(), 0, "a rejected resource is no difference to heal");
    net.global.write(Kind::MeshTimeout, "poor", r#"{"ok":1}"#);
    net.run().assert_equal();
    assert_eq!(net.sessions().0.progress().rejected, []);
});

case!(a_rejected_change_leaves_the_last_good_one, net, {
    net.zone.review.refuses_bad = true;
    let key = net.global.write(Kind::MeshTimeout, "t", r#"{"n":1}"#);
    net.connect();
    let good = net.zone.memory.rows[&key].spec.clone();
    net.global.write(Kind::MeshTimeout, "t", r#"{"bad":2}"#);
    net.run().wait(12);
    assert_eq!(net.zone.memory.rows[&key].spec, good);
    assert_eq!(net.sessions().1.receiver().healed(), 0);
});

case!(what_was_rejected_is_tried_again_when_the_table_changes, net, {
    net.zone.review.refuses_bad = true;
    let key = net.global.write(Kind::MeshTimeout, "t", r#"{"bad":2}"#);
    net.connect();
    net.zone.review.refuses_bad = false;
    net.global.write(Kind::Mesh, "other", "{}");
    net.wait(2);
    assert!(net.zone.has(&key));
    net.assert_equal();
    assert_eq!(net.sessions().0.progress().rejected, []);
});

case!(a_kind_of_a_newer_version_is_rejected_by_name, net, {
    net.connect();
    let key =
        proto::Key { kind: "MeshFuture".to_owned(), mesh: "default".to_owned(), owner: String::new(), name: "x".to_owned() };
    let resource = proto::Resource { key: Some(key), revision: 99, spec: "{}".into(), ..Default::default() };
    let batch = proto::Batch { resources: vec![resource], cost: 100, ..Default::default() };
    let view = net.zone.view.clone();
    net.stream.as_mut().expect("open").1.on_message(Message::Batch(batch), &view, net.now).expect("taken");
    net.run();
    let reason = "this version does not know the kind \"MeshFuture\"".to_owned();
    assert_eq!(net.sessions().1.receiver().rejected(), [("MeshFuture/default/x".to_owned(), reason)]);
    net.wait(12).assert_equal();
});

/// Lets the zone claim something; gives what global says of it.
fn claim(net: &mut Net, kind: Kind, owner: &str) -> Vec<(String, String)> {
    let labels = bytes::Bytes::from_static(b"{}");
    let hash = atoll_model::ContentHash::of(&Default::default(), b"{}").to_bytes();
    let mesh = if kind.descriptor().scope == atoll_model::Scope::Mesh { "default" } else { "" };
    let key = proto::Key { kind: kind.name().to_owned(), mesh: mesh.to_owned(), owner: owner.to_owned(), name: "x".to_owned() };
    let (spec, hash) = (bytes::Bytes::from_static(b"{}"), bytes::Bytes::copy_from_slice(&hash));
    let resource = proto::Resource { key: Some(key), revision: 99, labels, spec, hash };
    let batch = proto::Batch { resources: vec![resource], cost: 100, ..Default::default() };
    let view = net.global.view.clone();
    net.stream.as_mut().expect("open").0.on_message(Message::Batch(batch), &view, net.now).expect("taken");
    net.run();
    net.sessions().0.receiver().rejected()
}

case!(a_zone_may_send_only_what_it_owns, net, {
    net.connect();
    assert_eq!(claim(&mut net, Kind::MeshService, &uid(0).to_string()), []);
    let before = net.global.memory.rows.len();
    let other = claim(&mut net, Kind::MeshService, &uid(1).to_string());
    assert_eq!(other[0].1, "a zone may send only what it owns");
    assert!(claim(&mut net, Kind::MeshTimeout, "").iter().any(|(_, reason)| reason == "a zone may not send what global owns"));
    assert!(claim(&mut net, Kind::Mesh, &uid(0).to_string()).iter().any(|(_, reason)| reason == "Mesh does not travel this way"));
    assert_eq!(net.global.memory.rows.len(), before);
});

case!(a_forged_removal_removes_nothing, net, {
    let key = net.global.write(Kind::MeshTimeout, "t", "{}");
    net.connect();
    let removal = proto::Removal { key: Some((&key).into()), revision: 99 };
    let batch = proto::Batch { removals: vec![removal], cost: 100, ..Default::default() };
    let view = net.global.view.clone();
    net.stream.as_mut().expect("open").0.on_message(Message::Batch(batch), &view, net.now).expect("taken");
    net.run();
    assert!(net.global.has(&key));
});

case!(global_cannot_change_a_zones_own_unasked, net, {
    let key = net.zone.write(Kind::MeshService, "api", r#"{"n":1}"#);
    net.connect();
    let labels = bytes::Bytes::from_static(b"{}");
    let hash = atoll_model::ContentHash::of(&Default::default(), br#"{"n":2}"#).to_bytes();
    let (spec, hash) = (bytes::Bytes::from_static(br#"{"n":2}"#), bytes::Bytes::copy_from_slice(&hash));
    let resource = proto::Resource { key: Some((&key).into()), revision: 99, labels, spec, hash };
    let empty = proto::Total { count: 0, digest: vec![0; 16].into() };
    let snapshot = |own, total| proto::Snapshot { kind: "MeshService".to_owned(), own, first: true, total, unknown: false };
    let batches = [
        proto::Batch { resources: vec![resource.clone()], cost: 100, ..Default::default() },
        proto::Batch { resources: vec![resource], snapshot: Some(snapshot(true, None)), cost: 100, ..Default::default() },
        proto::Batch { snapshot: Some(snapshot(true, Some(empty.clone()))), cost: 100, ..Default::default() },
        proto::Batch { snapshot: Some(snapshot(false, Some(empty))), cost: 100, ..Default::default() },
        proto::Batch {
            removals: vec![proto::Removal { key: Some((&key).into()), revision: 100 }],
            cost: 100,
            ..Default::default()
        },
    ];
    for batch in batches {
        let view = net.zone.view.clone();
        net.stream.as_mut().expect("open").1.on_message(Message::Batch(batch), &view, net.now).expect("taken");
        net.run();
        assert_eq!(&net.zone.memory.rows[&key].spec[..], br#"{"n":1}"#);
    }
});

case!(a_damaged_resource_is_rejected, net, {
    net.connect();
    let key = proto::Key { kind: "Mesh".to_owned(), name: "m".to_owned(), ..Default::default() };
    let resource =
        proto::Resource { key: Some(key), labels: "{}".into(), spec: "{}".into(), hash: vec![1; 16].into(), revision: 9 };
    let batch = proto::Batch { resources: vec![resource], cost: 100, ..Default::default() };
    let view = net.zone.view.clone();
    net.stream.as_mut().expect("open").1.on_message(Message::Batch(batch), &view, net.now).expect("taken");
    net.run();
    assert_eq!(net.sessions().1.receiver().rejected()[0].1, "its hash is not that of its contents");
});

case!(a_label_keeps_a_resource_at_home_and_calls_it_back, net, {
    net.global.write_labelled(Kind::MeshTimeout, "home", &local_only(), "{}");
    let key = net.global.write(Kind::MeshTimeout, "t", "{}");
    net.connect().clear();
    assert!(net.zone.has(&key));
    net.global.write_labelled(Kind::MeshTimeout, "t", &local_only(), "{}");
    net.run().assert_equal();
    assert_eq!(net.sent_down(), ["-t"]);
    net.global.write(Kind::MeshTimeout, "t", "{}");
    net.run().assert_equal();
    assert_eq!(net.sent_down(), ["-t", "+t"]);
});

/// Global holds two services of another zone.
fn with_other_zone(net: &mut Net) {
    net.global.zone_row(1, true);
    for name in ["s1", "s2"] {
        let key = atoll_model::ResourceKey::new(Kind::MeshService, "default", name, atoll_model::Owner::Zone(uid(1)));
        let put = atoll_sync::Item::Put { key, labels: Default::default(), spec: "{}".into() };
        net.global.apply(&peer_of(1), &atoll_sync::Apply { items: vec![put], cursor: None, reached: None });
    }
    net.global.flush();
}

case!(a_disabled_zone_leaves_the_others_and_comes_back, net, {
    with_other_zone(&mut net);
    net.connect().clear();
    assert_eq!(net.zone.foreign(0).len(), 4);
    net.global.zone_row(1, false);
    net.run().assert_equal();
    assert_eq!(net.sent_down(), ["+z1", "-s1", "-s2"]);
    net.clear().global.zone_row(1, true);
    net.run().assert_equal();
    assert_eq!(net.sent_down(), ["+z1", "+s1", "+s2"]);
});

case!(a_zone_disabled_while_nobody_listens_leaves_too, net, {
    with_other_zone(&mut net);
    net.connect().cut();
    net.global.zone_row(1, false);
    net.global.crash();
    net.connect().assert_equal();
    net.cut();
    net.global.zone_row(1, true);
    net.connect().assert_equal();
    assert_eq!(net.zone.foreign(0).len(), 4);
});

case!(a_deleted_zone_leaves_the_others, net, {
    with_other_zone(&mut net);
    net.connect().cut();
    let key = net.global.key(Kind::Zone, "z1");
    net.global.delete(&key);
    net.global.crash();
    net.connect().wait(12).assert_equal();
    assert_eq!(net.zone.foreign(0).len(), 1);
    assert_eq!(net.sessions().1.receiver().healed(), 0);
});

case!(a_difference_is_found_named_and_healed, net, {
    let key = net.global.write(Kind::MeshTimeout, "t", "{}");
    net.connect().wait(6);
    assert_eq!(net.sessions().1.receiver().compared().map(|(_, kinds)| kinds), Some(vec![]));
    // Somebody edits the zone's database by hand.
    net.zone.delete(&key);
    net.zone.write(Kind::MeshService, "own", "{}");
    net.wait(12).assert_equal();
    assert!(net.zone.has(&key));
    assert_eq!(net.sessions().1.receiver().healed(), 1);
    assert!(net.events.iter().any(|event| *event == atoll_sync::Event::Healing(vec!["MeshTimeout".to_owned()])));
    assert_eq!(
        net.sessions().0.progress().compared.as_ref().map(|(_, kinds)| kinds.len()),
        Some(0),
        "global knows that it is equal"
    );
});

case!(an_instance_that_is_behind_sends_the_zone_away, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    let old = net.global.durable.clone();
    net.global.write(Kind::MeshTimeout, "t", "{}");
    net.connect().cut();
    // Another process on the same database that has not yet read the newest change.
    let mut index = atoll_sync::Index::new();
    let epochs = old.epochs.clone().into();
    net.global.view = index.advance(std::sync::Arc::new(old), epochs);
    net.connect();
    assert_eq!(net.fault, Some(Fault::Behind));
});

case!(a_global_put_back_in_time_changes_nothing_until_an_operator_says_so, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    let backup = net.global.durable.clone();
    let lost = net.global.write(Kind::MeshTimeout, "lost", "{}");
    net.connect().cut();
    net.global.restore(backup);
    for n in 0..5 {
        net.global.write(Kind::MeshTimeout, &format!("n{n}"), "{}");
    }
    net.connect().wait(30);
    assert_eq!(net.phase(), Phase::OtherHistory);
    assert!(net.zone.has(&lost), "the zone goes on serving");
    assert_eq!(net.zone.foreign(0).len(), 3);
    net.zone.write(Kind::MeshService, "api", "{}");
    net.run();
    assert_eq!(net.global.foreign(0).len(), 1, "what the zone owns still travels");
    // The operator follows.
    net.follow = net.sessions().1.greeting().epoch;
    net.cut().connect().assert_equal();
    assert_eq!(net.phase(), Phase::Open);
    assert!(!net.zone.has(&lost));
    net.follow = None;
    net.cut().clear().connect();
    assert_eq!((net.phase(), net.sent_down()), (Phase::Open, vec![]));
});

case!(a_zone_put_back_in_time_takes_globals_copy_of_its_own_first, net, {
    let old = net.zone.write(Kind::MeshService, "old", r#"{"n":1}"#);
    let gone = net.zone.write(Kind::MeshService, "gone", "{}");
    net.connect().cut();
    let backup = net.zone.durable.clone();
    net.zone.write(Kind::MeshService, "old", r#"{"n":2}"#);
    let newer = net.zone.write(Kind::MeshService, "newer", "{}");
    net.zone.delete(&gone);
    net.connect().cut().clear();
    net.zone.restore(backup);
    let alive = net.zone.write(Kind::Dataplane, "alive", "{}");
    net.connect().assert_equal();
    assert_eq!(net.phase(), Phase::Open);
    assert_eq!(&net.zone.memory.rows[&old].spec[..], br#"{"n":2}"#);
    assert!(net.zone.has(&newer) && !net.zone.has(&gone), "what was deleted does not come back");
    assert!(net.global.has(&alive), "proxies that are alive speak");
    net.cut().clear().connect();
    assert_eq!(net.sent_up(), [] as [&str; 0]);
});

case!(a_zone_that_lost_much_waits_for_its_operator_before_it_deletes_its_own, net, {
    let keys: Vec<_> = (0..30).map(|n| net.zone.write(Kind::MeshService, &format!("s{n}"), "{}")).collect();
    let backup = net.zone.durable.clone();
    keys.iter().for_each(|key| net.zone.delete(key));
    net.connect().wait(1).cut();
    net.zone.restore(backup);
    net.connect().wait(10);
    assert_eq!(net.phase(), Phase::Restoring);
    assert_eq!(net.global.foreign(0).len(), 0, "nothing that was deleted comes back");
    assert!(keys.iter().all(|key| net.zone.has(key)));
    net.stream.as_mut().expect("open").1.keep(Kind::MeshService);
    net.run().assert_equal();
    assert_eq!((net.phase(), net.global.foreign(0).len()), (Phase::Open, 30));
});

case!(a_zone_of_another_name_or_cluster_is_refused, net, {
    let mut setup = atoll_sync::GlobalSetup {
        cluster: CLUSTER,
        zone: uid(0),
        name: "other".into(),
        has: Default::default(),
        known: Vec::new(),
        local: Default::default(),
        instance: String::new(),
        software: String::new(),
    };
    let mut try_with = |setup: atoll_sync::GlobalSetup| {
        net.stream = Some((Session::global(setup), zone_session(&net.zone, 0, None)));
        net.fault = None;
        net.run();
        net.fault.clone()
    };
    assert!(matches!(try_with(setup.clone()), Some(Fault::Protocol(_))));
    setup.name = "z0".into();
    setup.cluster = uuid::Uuid::from_u128(7);
    assert_eq!(try_with(setup), Some(Fault::OtherCluster(uuid::Uuid::from_u128(7))));
});

case!(a_silent_peer_is_given_up, net, {
    net.connect();
    let (global, _) = net.stream.as_mut().expect("open");
    assert_eq!(global.on_tick(std::time::Duration::from_secs(14)), Ok(()));
    assert_eq!(global.on_tick(std::time::Duration::from_secs(16)), Err(Fault::Silent));
});

case!(signs_of_life_keep_a_stream, net, {
    net.connect().wait(60);
    let now = net.now;
    let (global, zone) = net.stream.as_mut().expect("open");
    assert_eq!((global.on_tick(now), zone.on_tick(now)), (Ok(()), Ok(())));
});

case!(the_peer_is_told_what_is_applied_and_what_is_durable, net, {
    net.connect();
    net.global.write(Kind::MeshTimeout, "t", "{}");
    let head = net.global.view.head();
    let (global, zone) = net.stream.as_mut().expect("open");
    let batch = global.poll_send(&net.global.view, net.now).expect("a batch");
    zone.on_message(batch, &net.zone.view, net.now).expect("taken");
    let apply = zone.poll_apply(&net.zone.view, &net.zone.review, net.now).expect("changes");
    let local = net.zone.apply("global", &apply); // in memory only
    zone.on_applied(local, Vec::new(), net.now);
    assert_eq!(zone.poll_apply(&net.zone.view, &net.zone.review, net.now), None);
    while let Some(message) = zone.poll_send(&net.zone.view, net.now) {
        global.on_message(message, &net.global.view, net.now).expect("taken");
    }
    assert_eq!(global.progress().applied, head);
    assert!(global.progress().durable < head);
    net.zone.flush();
    net.run();
    assert_eq!(net.sessions().0.progress().durable, head);
});

case!(only_what_is_durable_is_sent, net, {
    net.connect().clear();
    let key = net.global.key(Kind::MeshTimeout, "t");
    let put = atoll_sync::Item::Put { key, labels: Default::default(), spec: "{}".into() };
    net.global.apply("nobody", &atoll_sync::Apply { items: vec![put], cursor: None, reached: None });
    net.run();
    assert_eq!(net.sent_down(), [] as [&str; 0]);
    net.global.flush();
    net.run();
    assert_eq!(net.sent_down(), ["+t"]);
});

case!(batches_stay_within_their_size_and_credit, net, {
    for n in 0..300 {
        net.global.write(Kind::MeshTimeout, &format!("t{n}"), &format!(r#"{{"pad":"{}"}}"#, "x".repeat(8000)));
    }
    let (mut global, mut zone) = (global_session(&net.global, 0), zone_session(&net.zone, 0, None));
    let hello = zone.poll_send(&net.zone.view, net.now).expect("hello");
    global.on_message(hello, &net.global.view, net.now).expect("taken");
    let (mut bytes, mut largest) = (0, 0);
    while let Some(message) = global.poll_send(&net.global.view, net.now) {
        if let Message::Batch(batch) = message {
            let size = prost::Message::encoded_len(&batch) as u64;
            assert!(size <= batch.cost, "cost covers what is sent");
            bytes += size;
            largest = largest.max(size);
        }
    }
    assert!(largest <= 64 * 1024, "{largest}");
    assert!(bytes > 900 * 1024 && bytes < 1200 * 1024, "a mebibyte of credit: {bytes}");
});

case!(soft_values_come_newest_only_and_answers_in_parts, net, {
    net.connect();
    let (global, zone) = net.stream.as_mut().expect("open");
    zone.put_soft("k".to_owned(), Some("1".into()));
    zone.put_soft("k".to_owned(), Some("2".into()));
    zone.put_soft("gone".to_owned(), None);
    global.ask(proto::Query { id: 7, path: "proxy/config".to_owned(), body: "x".into() });
    net.run();
    let softs: Vec<_> = net.events.iter().filter(|event| matches!(event, atoll_sync::Event::Soft(..))).cloned().collect();
    let soft = |key: &str, value: Option<&'static str>| atoll_sync::Event::Soft(key.to_owned(), value.map(Into::into));
    assert_eq!(softs, [soft("gone", None), soft("k", Some("2"))]);
    assert!(net.events.iter().any(|event| matches!(event, atoll_sync::Event::Query(query) if query.id == 7)));
    net.clear();
    net.stream.as_mut().expect("open").1.answer(7, Ok(vec![0; 150_000].into()));
    net.run();
    let parts: Vec<_> = net
        .events
        .iter()
        .filter_map(
            |event| if let atoll_sync::Event::QueryPart(part) = event { Some((part.body.len(), part.last)) } else { None },
        )
        .collect();
    assert_eq!(parts, [(65536, false), (65536, false), (18928, true)]);
});

case!(a_drain_says_why, net, {
    net.connect();
    let (global, _) = net.stream.as_mut().expect("open");
    global.drain(proto::drain::Code::Revoked, "the zone was deleted", std::time::Duration::ZERO);
    net.run();
    let Some(Fault::Drained { code, reason, .. }) = &net.fault else { panic!("{:?}", net.fault) };
    assert_eq!((*code, reason.as_str()), (proto::drain::Code::Revoked, "the zone was deleted"));
});

case!(digests_are_those_of_the_one_rule, net, {
    with_other_zone(&mut net);
    net.global.write_labelled(Kind::MeshTimeout, "home", &local_only(), "{}");
    let gone = net.global.write(Kind::MeshTimeout, "gone", "{}");
    net.global.write(Kind::MeshTimeout, "t", r#"{"n":1}"#);
    net.global.delete(&gone);
    net.global.write(Kind::MeshTimeout, "t", r#"{"n":2}"#);
    for enabled in [true, false, true] {
        net.global.zone_row(1, enabled);
        for zone in 0..2 {
            let route = atoll_sync::Route::Down(uid(zone));
            let mut expected = std::collections::BTreeMap::<Kind, atoll_sync::digest::Sum>::new();
            for (key, hash) in net.global.shown(route) {
                expected.entry(key.kind).or_default().add(atoll_sync::digest::contribution_of(&key, hash));
            }
            let mut totals = net.global.view.totals(route);
            totals.retain(|_, sum| sum.count > 0);
            assert_eq!(totals, expected);
        }
    }
});

case!(an_instance_that_did_not_know_an_epoch_yet_lets_the_zone_come_again, net, {
    net.global.write(Kind::Mesh, "default", "{}");
    let old = net.global.durable.clone();
    net.global.crash(); // Another instance begins an epoch.
    net.global.write(Kind::MeshTimeout, "t", "{}");
    net.connect().cut();
    let newest = net.global.view.clone();
    let epochs = old.epochs.clone().into();
    net.global.view = atoll_sync::Index::new().advance(std::sync::Arc::new(old), epochs);
    net.connect();
    assert_eq!(net.phase(), Phase::OtherHistory);
    net.global.view = newest.clone();
    let (global, _) = net.stream.as_mut().expect("open");
    assert_eq!(global.on_view(&newest), Err(Fault::Behind));
    net.cut().clear().connect();
    assert_eq!((net.phase(), net.sent_down()), (Phase::Open, vec![]));
});

/// The peer that Atoll is measured against ordered healthy zones to delete thousands of resources when another zone's stream
/// ended in the middle of its first sync.
#[test]
fn a_stream_that_ends_in_the_middle_of_a_cold_sync_a_hundred_times_costs_nobody_anything() {
    const RESOURCES: usize = 25_000;
    let mut net = Net::new();
    net.global.zone_row(1, true);
    let name = |n: usize| format!("t{n}");
    net.global.fill(Kind::MeshTimeout, RESOURCES, name);
    net.connect();
    assert_eq!(net.zone.foreign(0).len(), RESOURCES + 2);
    net.clear();
    let healthy = net.stream.take().expect("open");
    let mut joining = Plane::new(atoll_model::Owner::Zone(uid(1)));
    for round in 0..100 {
        let (mut global, mut zone) = (global_session(&net.global, 1), zone_session(&joining, 1, None));
        let hello = zone.poll_send(&joining.view, net.now).expect("hello");
        global.on_message(hello, &net.global.view, net.now).expect("taken");
        for _ in 0..round % 7 {
            let Some(message) = global.poll_send(&net.global.view, net.now) else { break };
            zone.on_message(message, &joining.view, net.now).expect("taken");
            while let Some(apply) = zone.poll_apply(&joining.view, &joining.review, net.now) {
                assert!(apply.items.iter().all(|item| matches!(item, atoll_sync::Item::Put { .. })));
                joining.apply("global", &apply);
                zone.on_applied(joining.memory.revision, Vec::new(), net.now);
            }
        }
        if round % 10 == 9 {
            joining.flush();
        }
    }
    net.stream = Some(healthy);
    net.wait(20).assert_equal();
    assert_eq!(net.sent_down(), [] as [&str; 0], "the healthy zone was told nothing");
    assert!(joining.memory.rows.len() > 1000, "the joining one got on");
}
