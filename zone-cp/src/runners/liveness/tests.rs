use chrono::DateTime;

use super::*;

/// Liveness with a clock, spoken to in short words.
struct World {
    liveness: Liveness,
    now: Timestamp,
    streams: BTreeMap<String, StreamId>,
    next: u64,
}

fn id(name: &str) -> ProxyId {
    ProxyId::new("default", name)
}

fn publish(name: &str, presence: Presence) -> Effect {
    Effect::Publish(id(name), presence)
}

fn serving(name: &str) -> Effect {
    publish(name, Presence::Serving { unhealthy: BTreeSet::new() })
}

fn withdrawn(name: &str) -> Effect {
    publish(name, Presence::Withdrawn)
}

fn ready() -> Word {
    Word { envoy_ready: true, unhealthy: BTreeSet::new() }
}

impl World {
    fn new(journal: &[&str]) -> Self {
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        let liveness = Liveness::new(Limits::default(), journal.iter().map(|name| id(name)), now);
        Self { liveness, now, streams: BTreeMap::new(), next: 0 }
    }

    /// Proxies that serve, with both streams open.
    fn with(names: &[String]) -> Self {
        let mut world = Self::new(&[]);
        for name in names {
            world.attach(name, ready());
            world.event(name, Event::EnvoyAttached);
        }
        world
    }

    fn event(&mut self, name: &str, event: Event) -> Vec<Effect> {
        self.liveness.handle(&id(name), event, self.now)
    }

    fn attach(&mut self, name: &str, word: Word) -> Vec<Effect> {
        self.next += 1;
        let stream = StreamId(self.next);
        self.streams.insert(name.to_owned(), stream);
        self.event(name, Event::RunnerAttached { stream, instance: name.to_owned(), word })
    }

    fn say(&mut self, name: &str, word: Option<Word>) -> Vec<Effect> {
        let stream = self.streams[name];
        self.event(name, Event::RunnerSaid { stream, word })
    }

    fn close_runner(&mut self, name: &str) -> Vec<Effect> {
        let stream = self.streams[name];
        self.event(name, Event::RunnerClosed { stream })
    }

    fn close_both(&mut self, name: &str) -> Vec<Effect> {
        let mut effects = self.close_runner(name);
        effects.extend(self.event(name, Event::EnvoyClosed));
        effects
    }

    /// Lets time pass, second by second.
    fn pass(&mut self, seconds: i64) -> Vec<Effect> {
        (0..seconds)
            .flat_map(|_| {
                self.now += TimeDelta::seconds(1);
                self.liveness.tick(self.now)
            })
            .collect()
    }
}

#[test]
fn a_proxy_serves_when_its_envoy_is_ready() {
    let mut world = World::new(&[]);
    assert_eq!(world.attach("a", Word::default()), [withdrawn("a")]);
    assert_eq!(world.event("a", Event::EnvoyAttached), []);
    assert_eq!(world.say("a", Some(ready())), [serving("a")]);
    assert_eq!(world.say("a", None), []);
}

#[test]
fn an_unhealthy_application_takes_its_inbound_out() {
    let mut world = World::with(&["a".into()]);
    let unhealthy = BTreeSet::from(["http".to_owned()]);
    let word = Word { envoy_ready: true, unhealthy: unhealthy.clone() };
    assert_eq!(world.say("a", Some(word)), [publish("a", Presence::Serving { unhealthy })]);
    assert_eq!(world.say("a", Some(ready())), [serving("a")]);
}

#[test]
fn one_lost_stream_changes_nothing() {
    let mut world = World::with(&["a".into(), "b".into()]);
    assert_eq!(world.close_runner("a"), []);
    assert_eq!(world.event("b", Event::EnvoyClosed), []);
    world.say("b", None);
    assert_eq!(world.pass(14), []);
}

#[test]
fn a_proxy_leaves_at_once_when_both_streams_are_closed_and_is_forgotten_a_minute_later() {
    let mut world = World::with(&["a".into()]);
    assert_eq!(world.close_both("a"), [withdrawn("a")]);
    assert_eq!(world.pass(59), []);
    assert_eq!(world.pass(1), [Effect::Delete(id("a"))]);
    assert_eq!(world.pass(100), []);
}

#[test]
fn a_proxy_that_comes_back_is_published_again() {
    let mut world = World::with(&["a".into()]);
    world.close_both("a");
    assert_eq!(world.event("a", Event::EnvoyAttached), [serving("a")], "Envoy alone is enough: it serves");
    world.event("a", Event::EnvoyClosed);
    assert_eq!(world.attach("a", ready()), [serving("a")]);
    assert_eq!(world.pass(14), []);
}

#[test]
fn a_silent_host_leaves_after_15_seconds() {
    let mut world = World::with(&["a".into()]);
    assert_eq!(world.event("a", Event::EnvoyClosed), [], "closed by the keep-alive");
    assert_eq!(world.pass(14), []);
    assert_eq!(world.pass(1), [withdrawn("a")]);
}

#[test]
fn a_frozen_runner_does_not_take_its_envoy_out() {
    let mut world = World::with(&["a".into()]);
    assert_eq!(world.pass(300), []);
    assert_eq!(world.event("a", Event::EnvoyClosed), [withdrawn("a")]);
}

#[test]
fn a_runner_that_speaks_again_is_back() {
    let mut world = World::with(&["a".into()]);
    world.pass(20);
    assert!(!world.liveness.status()[&id("a")].runner);
    assert_eq!(world.say("a", None), []);
    assert_eq!(world.event("a", Event::EnvoyClosed), [], "its runner holds it again");
    assert_eq!(world.pass(15), [withdrawn("a")]);
    assert_eq!(world.say("a", None), [serving("a")], "also from afar");
}

#[test]
fn a_dead_envoy_is_withdrawn_by_its_runners_word() {
    let mut world = World::with(&["a".into()]);
    assert_eq!(world.say("a", Some(Word::default())), [withdrawn("a")]);
}

#[test]
fn draining_withdraws_at_once_and_deletes_when_the_streams_close() {
    let mut world = World::with(&["a".into()]);
    let stream = world.streams["a"];
    assert_eq!(world.event("a", Event::Draining { stream }), [withdrawn("a")]);
    assert_eq!(world.say("a", Some(ready())), []);
    assert_eq!(world.event("a", Event::EnvoyClosed), []);
    assert_eq!(world.close_runner("a"), [Effect::Delete(id("a"))]);
    assert_eq!(world.attach("a", ready()), [serving("a")], "a restart under the same name");
}

#[test]
fn a_replaced_stream_has_no_say() {
    let mut world = World::with(&["a".into()]);
    let old = world.streams["a"];
    world.attach("a", ready());
    assert_eq!(world.event("a", Event::EnvoyClosed), []);
    assert_eq!(world.event("a", Event::RunnerClosed { stream: old }), []);
    assert_eq!(world.event("a", Event::Draining { stream: old }), []);
}

#[test]
fn a_name_belongs_to_one_living_runner() {
    let mut world = World::with(&["a".into()]);
    assert_eq!(world.liveness.claim(&id("a"), "a", world.now), Ok(()), "the same one, back");
    assert_eq!(world.liveness.claim(&id("a"), "other", world.now), Err(Busy(id("a"))));
    world.pass(15);
    assert_eq!(world.liveness.claim(&id("a"), "other", world.now), Ok(()));
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("p{i:02}")).collect()
}

#[test]
fn a_mass_departure_is_held_and_shown() {
    let names = names(30);
    let mut world = World::with(&names);
    let left: Vec<Effect> = names[..10].iter().flat_map(|name| world.close_both(name)).collect();
    assert_eq!(left, names[..6].iter().map(|name| withdrawn(name)).collect::<Vec<_>>(), "20 % of 30");
    assert_eq!(
        world.liveness.held().into_keys().collect::<Vec<_>>(),
        names[6..10].iter().map(|name| id(name)).collect::<Vec<_>>()
    );
    for name in &names[10..] {
        world.event(name, Event::EnvoyClosed);
        world.event(name, Event::EnvoyAttached);
    }
    assert_eq!(world.attach(&names[6], ready()), [], "a held one that returns was never away");
    world.event(&names[6], Event::EnvoyAttached);
    assert_eq!(world.pass(59), []);
    let rest: Vec<Effect> = names[7..10].iter().map(|name| withdrawn(name)).collect();
    let effects = world.pass(1);
    assert!(rest.iter().all(|effect| effects.contains(effect)), "{effects:?}");
    assert!(world.liveness.held().is_empty());
}

#[test]
fn departures_that_are_not_together_are_not_held() {
    let names = names(30);
    let mut world = World::with(&names);
    for name in &names[..12] {
        assert_eq!(world.close_both(name), [withdrawn(name)]);
        world.pass(2);
    }
}

#[test]
fn up_to_three_may_leave_a_small_mesh_and_drains_do_not_count() {
    let names = names(6);
    let mut world = World::with(&names);
    for name in &names[..2] {
        let stream = world.streams[name];
        assert_eq!(world.event(name, Event::Draining { stream }), [withdrawn(name)]);
    }
    for name in &names[2..5] {
        assert_eq!(world.close_both(name), [withdrawn(name)]);
    }
    assert_eq!(world.close_both(&names[5]), []);
}

#[test]
fn after_a_start_the_journal_waits_a_minute() {
    let mut world = World::new(&["back", "envoy", "lost"]);
    assert_eq!(world.pass(10), []);
    assert_eq!(world.attach("back", ready()), [serving("back")], "the store finds it unchanged");
    assert_eq!(world.event("envoy", Event::EnvoyAttached), [], "what the journal says holds");
    world.event("back", Event::EnvoyAttached);
    assert_eq!(world.pass(49), []);
    assert_eq!(world.pass(1), [withdrawn("lost")]);
    assert_eq!(world.pass(60), [Effect::Delete(id("lost"))]);
}
