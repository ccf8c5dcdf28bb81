//! Message by message. A configuration is written as `cds a=1 b=1 | eds a=1 | lds l=1`, a response as `cds +a=1 -b`.

mod client;
mod converges;

use std::time::{Duration, Instant};

use client::{Client, config};

use super::*;

#[test]
fn an_envoy_that_starts_is_answered_even_with_nothing() {
    let mut envoy = Client::start("");
    envoy.ask("cds *");
    envoy.gets(["cds"]);
    envoy.ack("cds");
    envoy.ask("lds *");
    envoy.gets(["lds"]);
}

#[test]
fn what_is_referred_to_comes_first() {
    let mut envoy = Client::start("cds a=1 b=1 | eds a=1 b=1 | lds l=1 | sds s=1 | ecds f=1");
    envoy.ask("cds *");
    envoy.gets(["cds +a=1 +b=1"]);
    envoy.ask("eds a b");
    envoy.gets(["eds +a=1 +b=1"]);
    envoy.ask("lds *");
    envoy.ask("sds s");
    envoy.ask("ecds f");
    envoy.gets(["lds +l=1", "sds +s=1", "ecds +f=1"]);
}

#[test]
fn one_response_of_a_type_is_under_way_and_changes_merge() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=2 | lds l=1");
    envoy.gets(["cds +a=2"]);
    envoy.set("cds a=3 b=1 | lds l=1");
    envoy.set("cds a=4 b=1 | lds l=1");
    envoy.gets([]);
    envoy.ack("cds");
    envoy.gets(["cds +a=4 +b=1"]);
}

#[test]
fn what_was_changed_back_meanwhile_is_sent_back() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=2 | lds l=1");
    envoy.gets(["cds +a=2"]);
    envoy.set("cds a=1 | lds l=1");
    envoy.ack("cds");
    envoy.gets(["cds +a=1"]);
}

#[test]
fn endpoints_follow_a_changed_cluster_at_once_even_unchanged() {
    let mut envoy = Client::settled("cds a=1 b=1 | eds a=1 b=1 | lds l=1");
    envoy.set("cds a=2 b=1 | eds a=1 b=1 | lds l=1");
    envoy.gets(["cds +a=2", "eds +a=1"]);
}

#[test]
fn endpoints_under_way_do_not_count_for_a_cluster_that_changed_later() {
    let mut envoy = Client::settled("cds a=1 | eds a=1 | lds l=1");
    envoy.set("cds a=1 | eds a=2 | lds l=1");
    envoy.gets(["eds +a=2"]);
    envoy.set("cds a=2 | eds a=2 | lds l=1");
    envoy.gets(["cds +a=2"]);
    envoy.ack("eds");
    envoy.gets(["eds +a=2"]);
}

#[test]
fn removals_go_last_alone_and_in_the_opposite_order() {
    let mut envoy = Client::settled("cds a=1 b=1 | eds a=1 b=1 | lds k=1 l=1");
    envoy.set("cds a=2 | eds a=1 | lds l=1");
    envoy.gets(["cds +a=2", "eds +a=1"]);
    envoy.ack("eds");
    envoy.gets([]);
    envoy.ack("cds");
    envoy.gets(["lds -k"]);
    envoy.ack("lds");
    envoy.gets(["cds -b"]);
    envoy.ack("cds");
    envoy.drop_names("eds b");
    envoy.gets([]);
    assert_eq!(envoy.applied(), Some(2));
}

#[test]
fn a_listener_waits_for_its_place() {
    let mut envoy = Client::settled("cds a=1 | lds k=1@80 l=1@81");
    envoy.set("cds a=2 | lds l=2@81 m=1@80 n=1@82");
    envoy.gets(["cds +a=2", "lds +l=2 +n=1"]);
    envoy.ack("lds");
    envoy.gets([]);
    envoy.ack("cds");
    envoy.gets(["lds -k"]);
    envoy.ack("lds");
    envoy.gets(["lds +m=1"]);
    envoy.ack("lds");
    envoy.gets([]);
    assert_eq!(envoy.applied(), Some(2));
}

#[test]
fn what_was_refused_is_tried_again_when_something_is_gone() {
    let mut envoy = Client::settled("cds a=1 | lds k=1");
    envoy.set("cds a=1 | lds l=1");
    envoy.gets(["lds +l=1"]);
    envoy.nack("lds", "it is in the way");
    envoy.gets(["lds -k"]);
    envoy.ack("lds");
    envoy.gets(["lds +l=1"]);
    envoy.nack("lds", "it is bad");
    envoy.gets([]);
}

#[test]
fn removed_endpoints_are_none() {
    let mut envoy = Client::settled("cds a=1 | eds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=1");
    envoy.gets(["eds +a=none"]);
    envoy.ack("eds");
    envoy.gets([]);
    envoy.set("cds a=1 | eds a=1 | lds l=1");
    envoy.gets(["eds +a=1"]);
}

#[test]
fn after_a_refusal_the_rest_is_sent_again_at_once() {
    let mut envoy = Client::settled("cds a=1 | lds k=1 l=1");
    envoy.set("cds a=1 | lds k=2 l=2 m=1");
    envoy.gets(["lds +k=2 +l=2 +m=1"]);
    envoy.nack("lds", "goo.gle/x \nError adding/updating listener(s) l: it is bad\n");
    envoy.gets(["lds +k=2 +m=1"]);
    envoy.ack("lds");
    envoy.gets([]);
    assert_eq!(envoy.refused(), ["Listener l=2: Error adding/updating listener(s) l: it is bad"]);
    assert_eq!(envoy.applied(), Some(2));
}

#[test]
fn what_was_refused_is_sent_when_it_changes() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=2");
    envoy.gets(["lds +l=2"]);
    envoy.nack("lds", "no");
    envoy.gets([]);
    envoy.set("cds a=2 | lds l=2");
    envoy.gets(["cds +a=2"]);
    envoy.ack("cds");
    envoy.set("cds a=2 | lds l=3");
    envoy.gets(["lds +l=3"]);
    envoy.ack("lds");
    envoy.gets([]);
    assert_eq!(envoy.refused(), [""; 0]);
}

#[test]
fn going_back_to_what_it_kept_is_sent_and_not_assumed() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=2");
    envoy.gets(["lds +l=2"]);
    envoy.nack("lds", "no");
    envoy.gets([]);
    envoy.set("cds a=1 | lds l=1");
    envoy.gets(["lds +l=1"]);
}

#[test]
fn a_refused_resource_that_is_not_wanted_any_more_is_removed() {
    let mut envoy = Client::settled("cds a=1 | lds k=1");
    envoy.set("cds a=1 | lds k=1 l=1");
    envoy.gets(["lds +l=1"]);
    envoy.nack("lds", "no");
    envoy.gets([]);
    envoy.set("cds a=1 | lds k=1");
    envoy.gets(["lds -l"]);
}

#[test]
fn a_refusal_that_names_nothing_is_found_by_halves() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=1 m=1 n=1 o=1");
    envoy.gets(["lds +m=1 +n=1 +o=1"]);
    envoy.nack("lds", "something is wrong");
    envoy.gets(["lds +m=1"]);
    envoy.ack("lds");
    envoy.gets(["lds +n=1 +o=1"]);
    envoy.nack("lds", "something is wrong");
    envoy.gets(["lds +n=1"]);
    envoy.nack("lds", "something is wrong");
    envoy.gets(["lds +o=1"]);
    envoy.ack("lds");
    envoy.gets([]);
    assert_eq!(envoy.refused(), ["Listener n=1: something is wrong"]);
}

#[test]
fn a_refused_removal_is_not_repeated() {
    let mut envoy = Client::settled("cds a=1 | lds k=1 l=1");
    envoy.set("cds a=1 | lds k=1");
    envoy.gets(["lds -l"]);
    envoy.nack("lds", "no");
    envoy.gets([]);
}

#[test]
fn an_envoy_that_comes_back_unchanged_gets_nothing() {
    let mut envoy = Client::settled("cds a=1 b=1 | eds a=1 b=1 | lds l=1 | sds s=1");
    envoy.reconnect();
    envoy.gets([]);
    assert_eq!(envoy.applied(), Some(1));
}

#[test]
fn an_envoy_that_comes_back_gets_what_changed() {
    let mut envoy = Client::settled("cds a=1 b=1 | eds a=1 b=1 | lds k=1 l=1 | sds s=1");
    envoy.disconnect();
    envoy.set("cds a=2 | eds a=1 | lds l=1 | sds s=2");
    envoy.connect();
    // The endpoints of the changed cluster too, although it says that it has them.
    envoy.gets(["cds +a=2", "eds +a=1", "sds +s=2"]);
    envoy.ack("sds");
    envoy.ack("eds");
    envoy.ack("cds");
    envoy.gets(["lds -k"]);
    envoy.ack("lds");
    envoy.gets(["cds -b"]);
}

#[test]
fn nothing_is_removed_before_the_listeners_are_known() {
    let mut envoy = Client::settled("cds a=1 b=1 | lds k=1 l=1");
    envoy.disconnect();
    envoy.set("cds a=1 | lds l=1");
    envoy.connect_with(["cds"]);
    envoy.gets([]);
    envoy.ask_again("lds");
    envoy.gets(["lds -k"]);
}

#[test]
fn what_was_refused_before_a_reconnect_is_sent_again() {
    let mut envoy = Client::settled("cds a=1 | lds k=1 l=1");
    envoy.set("cds a=1 | lds k=2 l=2");
    envoy.gets(["lds +k=2 +l=2"]);
    envoy.nack("lds", "l: no");
    // Envoy took k=2 and says that it has k=1.
    envoy.disconnect();
    envoy.set("cds a=1 | lds k=1 l=1");
    envoy.connect();
    envoy.gets(["lds +k=1 +l=1"]);
}

#[test]
fn what_came_with_a_refusal_and_is_not_wanted_after_a_reconnect_is_removed() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=2 m=1");
    envoy.gets(["lds +l=2 +m=1"]);
    envoy.nack("lds", "l: no");
    // Envoy took m and does not say that it has it.
    envoy.disconnect();
    envoy.set("cds a=1 | lds l=1");
    envoy.connect();
    envoy.gets(["lds +l=1"]);
    envoy.ack("lds");
    envoy.gets(["lds -m"]);
}

#[test]
fn what_was_under_way_when_the_stream_broke_is_sent_again() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=1 | lds l=2");
    envoy.gets(["lds +l=2"]);
    envoy.disconnect();
    envoy.set("cds a=1 | lds l=1");
    envoy.connect();
    envoy.gets(["lds +l=1"]);
}

#[test]
fn what_is_missing_is_said_but_for_secrets_and_filters() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.ask("rds r");
    envoy.gets(["rds -r"]);
    envoy.ask("eds a");
    envoy.gets(["eds +a=none"]);
    envoy.ask("sds s");
    envoy.ask("ecds f");
    envoy.gets([]);
    envoy.set("cds a=1 | lds l=1 | sds s=1 | ecds f=1");
    envoy.gets(["sds +s=1", "ecds +f=1"]);
}

#[test]
fn what_nobody_asks_for_is_not_sent() {
    let mut envoy = Client::settled("cds a=1 b=1 | eds a=1 b=1 | lds l=1");
    envoy.drop_names("eds b");
    envoy.set("cds a=1 b=1 | eds a=1 b=2 | lds l=1");
    envoy.gets([]);
    envoy.ask("eds b");
    envoy.gets(["eds +b=2"]);
}

#[test]
fn asking_again_is_answered_again() {
    let mut envoy = Client::settled("cds a=1 | eds a=1 | lds l=1");
    envoy.ask("eds a");
    envoy.gets(["eds +a=1"]);
}

#[test]
fn late_answers_are_ignored() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=2 | lds l=1");
    envoy.gets(["cds +a=2"]);
    envoy.answer("cds", "1", Some("no"));
    envoy.set("cds a=3 | lds l=1");
    envoy.gets([]);
    envoy.ack("cds");
    envoy.gets(["cds +a=3"]);
    assert_eq!(envoy.refused(), [""; 0]);
}

#[test]
fn a_revision_is_applied_when_everything_is_acknowledged() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    envoy.set("cds a=2 | lds l=2");
    envoy.gets(["cds +a=2", "lds +l=2"]);
    assert_eq!(envoy.applied(), Some(1));
    envoy.ack("lds");
    envoy.gets([]);
    assert_eq!(envoy.applied(), Some(1));
    envoy.ack("cds");
    envoy.gets([]);
    assert_eq!(envoy.applied(), Some(2));
}

#[test]
fn unknown_types_are_ignored() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    let request = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x.Y".to_owned(), ..Default::default() };
    assert!(envoy.session.on_request(request, Instant::now()).is_ok());
    envoy.gets([]);
}

#[test]
fn subscriptions_are_limited() {
    let ask = |count: usize| {
        let mut session = Session::new(Limits::default(), Carry::new(), config(1, ""), Instant::now());
        let request = DeltaDiscoveryRequest {
            type_url: ResourceType::Endpoints.type_url().to_owned(),
            resource_names_subscribe: (0..count).map(|i| i.to_string()).collect(),
            ..Default::default()
        };
        session.on_request(request, Instant::now()).err()
    };
    assert_eq!(ask(4_999), None);
    assert_eq!(ask(5_000), None);
    assert_eq!(ask(5_001), Some(Violation::TooManySubscriptions(5_000)));
}

#[test]
fn requests_that_answer_nothing_are_slowed_down() {
    let start = Instant::now();
    let mut session = Session::new(Limits::default(), Carry::new(), config(1, "cds a=1 | lds l=1"), start);
    let mut ask = |at: Instant| {
        let request = DeltaDiscoveryRequest { type_url: ResourceType::Routes.type_url().to_owned(), ..Default::default() };
        session.on_request(request, at).unwrap().pause
    };
    assert!((0..100).all(|_| ask(start) == Duration::ZERO));
    assert_eq!(ask(start), Duration::from_millis(20));
    assert_eq!(ask(start + Duration::from_secs(1)), Duration::ZERO);
}

#[test]
fn asking_for_what_is_there_is_not_slowed_down() {
    let filters: String = (0..1_000).map(|i| format!(" f{i}=1")).collect();
    let mut envoy = Client::settled(&format!("cds a=1 | lds l=1 | eds x=1 | ecds{filters}"));
    envoy.drop_names(&format!("ecds {}", (0..1_000).map(|i| format!("f{i} ")).collect::<String>()));
    for i in 0..1_000 {
        assert_eq!(envoy.ask(&format!("ecds f{i}")).pause, Duration::ZERO);
    }
    // Again, and again: an Envoy that does not know what it has is slowed down.
    assert!((0..1_000).any(|i| envoy.ask(&format!("ecds f{i}")).pause > Duration::ZERO));
}

#[test]
fn answers_are_not_slowed_down() {
    let mut envoy = Client::settled("cds a=1 | lds l=1");
    for version in 2..500 {
        envoy.set(&format!("cds a={version} | lds l=1"));
        envoy.gets([format!("cds +a={version}").as_str()]);
        assert_eq!(envoy.ack("cds").pause, Duration::ZERO);
    }
}
