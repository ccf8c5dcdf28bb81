//! Random histories of one global plane and three zones, each from its seed, with everything that can go wrong on the way.
//!
//! `SIM_SEED=n` runs one seed, `SIM_SEEDS=n` that many from a random start.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use atoll_model::{Kind, Owner, ResourceKey};
use atoll_sync::{Apply, Item, Message, Moment, Phase, Route, Session};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use support::*;

const ZONES: usize = 3;
const STEPS: usize = 1500;
const GLOBAL_KINDS: [Kind; 2] = [Kind::Mesh, Kind::MeshTimeout];
const ZONE_KINDS: [Kind; 3] = [Kind::MeshService, Kind::Dataplane, Kind::MeshTimeout];

#[test]
fn planes_agree_in_the_end_and_lose_nothing_on_the_way() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => {
            let start = u64::from(std::process::id()) << 20;
            (start..start + count).collect()
        }
        (None, None) => (0..SEEDS).collect(),
    };
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let mine: Vec<_> = seeds.iter().copied().skip(worker).step_by(2).collect();
            std::thread::spawn(move || mine.into_iter().filter(|seed| fails(*seed)).collect::<Vec<_>>())
        })
        .collect();
    let failed: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect();
    assert!(failed.is_empty(), "failed seeds (run one with SIM_SEED=n): {failed:?}");
}

const SEEDS: u64 = 200;

fn fails(seed: u64) -> bool {
    let failed = std::panic::catch_unwind(|| Sim::new(seed).run()).is_err();
    if failed {
        eprintln!("seed {seed} failed");
    }
    failed
}

/// Messages under way in one direction.
type Wire = VecDeque<Message>;

/// One stream: its two ends and what is between them.
struct Stream {
    zone: Option<Session>,
    global: Option<Session>,
    up: Wire,
    down: Wire,
    opened: Moment,
    zone_busy: Option<Apply>,
    global_busy: Option<Apply>,
}

struct Sim {
    rng: StdRng,
    seed: u64,
    now: Moment,
    global: Plane,
    zones: Vec<Plane>,
    streams: Vec<Option<Stream>>,
    /// Global's ends of streams whose zone's end is gone: they end when global notices, or at the next hello.
    ghosts: Vec<Option<Stream>>,
    backups: Vec<Option<Table>>,
    enabled: [bool; ZONES],
    rolled_back: [bool; ZONES],
    counter: u64,
    model: Model,
}

/// What must never happen.
#[derive(Default)]
struct Model {
    /// What its owner deleted, or took out of the sight of others, at some time.
    removed: BTreeSet<ResourceKey>,
    /// The newest `n` that each plane has had of each foreign resource.
    newest: BTreeMap<(usize, ResourceKey), u64>,
    /// Planes and owners with implied deletions that were held: a later session finds them again by digest.
    held: BTreeSet<(usize, usize)>,
    /// Zones that lost what global had only in part: their newest word is older than what was seen of them.
    lost: BTreeSet<Owner>,
}

const AT_GLOBAL: usize = ZONES;

impl Sim {
    fn new(seed: u64) -> Self {
        let mut global = Plane::new(Owner::Global);
        (0..ZONES).for_each(|zone| global.zone_row(zone, true));
        Self {
            rng: StdRng::seed_from_u64(seed),
            seed,
            now: Moment::ZERO,
            global,
            zones: (0..ZONES).map(|zone| Plane::new(Owner::Zone(uid(zone)))).collect(),
            streams: (0..ZONES).map(|_| None).collect(),
            ghosts: (0..ZONES).map(|_| None).collect(),
            backups: vec![None; ZONES],
            enabled: [true; ZONES],
            rolled_back: [false; ZONES],
            counter: 0,
            model: Model::default(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self.check_end();
    }

    fn step(&mut self) {
        let zone = self.rng.random_range(0..ZONES);
        match self.rng.random_range(0..100) {
            0..20 => self.write(),
            20..26 => self.delete(),
            26..58 => self.transmit(zone),
            58..78 => self.apply_some(zone),
            78..86 => self.flush(),
            86..90 => self.now += Duration::from_millis(self.rng.random_range(0..2000)),
            90..95 => self.connect(zone),
            95..97 => self.cut(zone),
            97 => self.crash(),
            98 => self.rare(zone),
            _ => self.noise(zone),
        }
    }

    fn name(&mut self) -> String {
        // Few names, so that they are written, deleted and written again; some large, so that a batch holds few.
        format!("r{}", self.rng.random_range(0..12))
    }

    fn spec(&mut self) -> String {
        self.counter += 1;
        let pad = if self.rng.random_bool(0.1) { 30_000 } else { 10 };
        format!(r#"{{"n":{},"pad":"{}"}}"#, self.counter, "x".repeat(pad))
    }

    fn write(&mut self) {
        let (name, spec) = (self.name(), self.spec());
        let labels = if self.rng.random_bool(0.05) { local_only() } else { Default::default() };
        let hidden = !labels.is_empty();
        let key = match self.rng.random_range(0..=ZONES) {
            AT_GLOBAL => {
                let kind = *GLOBAL_KINDS.choose(&mut self.rng).expect("some");
                self.global.write_labelled(kind, &name, &labels, &spec)
            }
            zone => {
                let kind = *ZONE_KINDS.choose(&mut self.rng).expect("some");
                self.zones[zone].write_labelled(kind, &name, &labels, &spec)
            }
        };
        if hidden {
            self.model.removed.insert(key);
        }
    }

    fn delete(&mut self) {
        let at = self.rng.random_range(0..=ZONES);
        let plane = if at == AT_GLOBAL { &mut self.global } else { &mut self.zones[at] };
        let own: Vec<_> =
            plane.memory.rows.keys().filter(|key| key.owner == plane.owner && key.kind != Kind::Zone).cloned().collect();
        // Some are never deleted: whoever loses one of them has lost it.
        let Some(key) = own.choose(&mut self.rng).filter(|key| !key.name.ends_with('1')) else { return };
        plane.delete(key);
        self.model.removed.insert(key.clone());
    }

    /// One message each way, if one is due.
    fn transmit(&mut self, zone: usize) {
        let twice = self.rng.random_bool(0.02);
        let only = self.rng.random_range(0..3);
        let Some(stream) = &mut self.streams[zone] else { return self.transmit_ghost(zone) };
        let at = self.now - stream.opened;
        if let Some(session) = &mut stream.zone
            && only != 0
            && let Some(message) = session.poll_send(&self.zones[zone].view, at)
        {
            if twice && matches!(message, Message::Batch(_) | Message::Ack(_) | Message::Heartbeat(_)) {
                stream.up.push_back(message.clone());
            }
            stream.up.push_back(message);
        }
        if let Some(session) = &mut stream.global
            && only != 1
            && let Some(message) = session.poll_send(&self.global.view, at)
        {
            if twice && matches!(message, Message::Batch(_) | Message::Ack(_) | Message::Heartbeat(_)) {
                stream.down.push_back(message.clone());
            }
            stream.down.push_back(message);
        }
        self.deliver_down(zone);
        self.deliver_up(zone);
        self.check_healed(zone);
    }

    /// Digests find no difference that nobody made.
    fn check_healed(&mut self, zone: usize) {
        let Some(stream) = &self.streams[zone] else { return };
        for (at, session) in [(zone, &stream.zone), (AT_GLOBAL, &stream.global)] {
            let Some(receiver) = session.as_ref().map(Session::receiver) else { continue };
            if !receiver.held().is_empty() {
                self.model.held.insert((at, zone));
            }
            if receiver.healed() > 0 && !self.model.held.contains(&(at, zone)) {
                let (have, want) = match at {
                    AT_GLOBAL => (self.global.foreign(zone), self.zones[zone].shown(Route::Up(uid(zone)))),
                    _ => (self.zones[zone].foreign(zone), self.global.shown(Route::Down(uid(zone)))),
                };
                let more: Vec<_> = have.iter().filter(|(key, hash)| want.get(key) != Some(hash)).collect();
                let less: Vec<_> = want.iter().filter(|(key, hash)| have.get(key) != Some(hash)).collect();
                panic!("{at} differs from what it should be of {zone}: {:?} has {more:?}, wants {less:?}", receiver.compared());
            }
        }
    }

    fn deliver_down(&mut self, zone: usize) {
        let Some(stream) = &mut self.streams[zone] else { return };
        let at = self.now - stream.opened;
        if !self.rng.random_bool(0.7) {
            return;
        }
        let Some(message) = stream.down.pop_front() else { return };
        let Some(session) = &mut stream.zone else { return };
        if let Err(fault) = session.on_message(Message::from(message.into_to_zone()), &self.zones[zone].view, at) {
            assert!(!matches!(fault, atoll_sync::Fault::Protocol(_)), "{fault}");
            self.streams[zone] = None;
        }
    }

    fn deliver_up(&mut self, zone: usize) {
        let Some(stream) = &mut self.streams[zone] else { return };
        let at = self.now - stream.opened;
        if !self.rng.random_bool(0.7) {
            return;
        }
        let Some(message) = stream.up.pop_front() else { return };
        if stream.global.is_none() {
            // The hello arrives: from now on an older stream's end is fenced off.
            if let Some(ghost) = self.ghosts[zone].take()
                && self.rng.random_bool(0.5)
            {
                self.finish_ghost(zone, ghost);
            }
            self.admit_what_is_lost(zone);
            let session = global_session(&self.global, zone);
            let Some(stream) = &mut self.streams[zone] else { return };
            stream.global = Some(session);
        }
        let Some(session) = self.streams[zone].as_mut().and_then(|stream| stream.global.as_mut()) else { return };
        let taken = session.on_message(Message::from(message.into_to_global()), &self.global.view, at);
        std::iter::from_fn(|| session.poll_event()).for_each(|event| self.global.learn(zone, &event));
        if let Err(fault) = taken {
            assert!(!matches!(fault, atoll_sync::Fault::Protocol(_)), "{fault}");
            self.streams[zone] = None;
        }
    }

    /// The end of an old stream still reads what was under way.
    fn transmit_ghost(&mut self, zone: usize) {
        let Some(ghost) = &mut self.ghosts[zone] else { return };
        let at = self.now - ghost.opened;
        let (Some(message), Some(session)) = (ghost.up.pop_front(), &mut ghost.global) else { return };
        let _ = session.on_message(message, &self.global.view, at);
    }

    fn finish_ghost(&mut self, zone: usize, mut ghost: Stream) {
        if let Some(apply) = ghost.global_busy.take() {
            self.apply_at_global(zone, &apply);
            self.global.flush();
        }
    }

    /// Takes changes for a store, or lets a store finish what it was given.
    fn apply_some(&mut self, zone: usize) {
        if self.rng.random_bool(0.5) {
            self.apply_zone(zone);
        } else {
            self.apply_global(zone);
        }
    }

    fn apply_zone(&mut self, zone: usize) {
        let Some(mut stream) = self.streams[zone].take() else { return };
        let at = self.now - stream.opened;
        if let Some(session) = &mut stream.zone {
            match stream.zone_busy.take() {
                Some(apply) => {
                    self.check_at_zone(zone, &apply, session.phase());
                    let local = self.zones[zone].apply("global", &apply);
                    session.on_applied(local, Vec::new(), at);
                }
                None => stream.zone_busy = session.poll_apply(&self.zones[zone].view, &self.zones[zone].review, at),
            }
        }
        self.streams[zone] = Some(stream);
    }

    fn apply_global(&mut self, zone: usize) {
        let is_ghost = self.streams[zone].as_ref().is_none_or(|stream| stream.global.is_none());
        let slot = if is_ghost { self.ghosts[zone].take() } else { self.streams[zone].take() };
        let Some(mut stream) = slot else { return };
        let at = self.now - stream.opened;
        if let Some(mut session) = stream.global.take() {
            match stream.global_busy.take() {
                Some(apply) => {
                    let local = self.apply_at_global(zone, &apply);
                    self.global.flush(); // Postgres: applied is durable.
                    session.on_applied(local, Vec::new(), at);
                    std::iter::from_fn(|| session.poll_event()).for_each(|event| self.global.learn(zone, &event));
                }
                None => stream.global_busy = session.poll_apply(&self.global.view, &self.global.review, at),
            }
            stream.global = Some(session);
        }
        if is_ghost { self.ghosts[zone] = Some(stream) } else { self.streams[zone] = Some(stream) }
    }

    fn apply_at_global(&mut self, zone: usize, apply: &Apply) -> atoll_model::Revision {
        for item in &apply.items {
            assert_eq!(item.key().owner, Owner::Zone(uid(zone)), "global takes from a zone only what it owns");
            self.check_item(AT_GLOBAL, item);
        }
        self.global.apply(&peer_of(zone), apply)
    }

    fn check_at_zone(&mut self, zone: usize, apply: &Apply, phase: Phase) {
        for item in &apply.items {
            let own = item.key().owner == Owner::Zone(uid(zone));
            assert!(!own || phase == Phase::Restoring, "{:?} returned to its origin", item.key());
            self.check_item(zone, item);
        }
    }

    fn check_item(&mut self, at: usize, item: &Item) {
        match item {
            Item::Delete { key } => {
                let there = if at == AT_GLOBAL { self.global.has(key) } else { self.zones[at].has(key) };
                assert!(!there || self.model.removed.contains(key), "{key} was never deleted by its owner, but is at {at}");
            }
            Item::Put { key, spec, .. } => {
                let n = number(spec);
                let newest = self.model.newest.entry((at, key.clone())).or_default();
                assert!(n >= *newest || self.model.lost.contains(&key.owner), "{key} went back from {newest} to {n} at {at}");
                *newest = n;
            }
        }
    }

    fn flush(&mut self) {
        match self.rng.random_range(0..=ZONES) {
            AT_GLOBAL => self.global.flush(),
            zone => self.zones[zone].flush(),
        }
    }

    fn connect(&mut self, zone: usize) {
        if self.streams[zone].is_some() {
            return;
        }
        let session = zone_session(&self.zones[zone], zone, None);
        self.streams[zone] = Some(Stream {
            zone: Some(session),
            global: None,
            up: Wire::new(),
            down: Wire::new(),
            opened: self.now,
            zone_busy: None,
            global_busy: None,
        });
    }

    /// The stream breaks. Global may not notice for a while; the zone may read on for a while.
    fn cut(&mut self, zone: usize) {
        let Some(mut stream) = self.streams[zone].take() else { return };
        while self.rng.random_bool(0.5) {
            let at = self.now - stream.opened;
            let (Some(message), Some(session)) = (stream.down.pop_front(), &mut stream.zone) else { break };
            let _ = session.on_message(message, &self.zones[zone].view, at);
            if stream.zone_busy.is_none() {
                stream.zone_busy = session.poll_apply(&self.zones[zone].view, &self.zones[zone].review, at);
            }
        }
        if let (Some(apply), Some(session), true) = (&stream.zone_busy, &stream.zone, self.rng.random_bool(0.5)) {
            let (apply, phase) = (apply.clone(), session.phase());
            self.check_at_zone(zone, &apply, phase);
            self.zones[zone].apply("global", &apply);
        }
        stream.zone = None;
        if self.rng.random_bool(0.5) {
            self.ghosts[zone] = Some(stream);
        }
    }

    fn crash(&mut self) {
        match self.rng.random_range(0..=ZONES) {
            AT_GLOBAL => {
                self.streams.iter_mut().for_each(|stream| *stream = None);
                self.ghosts.iter_mut().for_each(|ghost| *ghost = None);
                self.global.crash();
                self.forget_lost(AT_GLOBAL);
            }
            zone => {
                self.cut(zone);
                self.zones[zone].crash();
                self.forget_lost(zone);
            }
        }
    }

    /// What was not durable is lost with the process, and may come again.
    fn forget_lost(&mut self, at: usize) {
        let plane = if at == AT_GLOBAL { &self.global } else { &self.zones[at] };
        let rows: BTreeMap<_, _> = plane.memory.rows.iter().map(|(key, row)| (key.clone(), number(&row.spec))).collect();
        let mine = plane.owner;
        self.model.newest.retain(|(place, key), newest| {
            if *place == at && key.owner != mine {
                *newest = rows.get(key).copied().unwrap_or(0);
            }
            true
        });
    }

    fn rare(&mut self, zone: usize) {
        match self.rng.random_range(0..6) {
            0 => {
                self.enabled[zone] = !self.enabled[zone];
                let (rows, owner) = (&self.zones[zone].memory.rows, self.zones[zone].owner);
                self.model.removed.extend(rows.keys().filter(|key| key.owner == owner).cloned());
                self.model.removed.extend(self.global.memory.rows.keys().filter(|key| key.owner == owner).cloned());
                self.global.zone_row(zone, self.enabled[zone]);
            }
            1 => self.global.prune(),
            2 => self.zones[zone].prune(),
            3 | 4 => self.backups[zone] = Some(self.zones[zone].durable.clone()),
            _ => self.roll_back(zone),
        }
    }

    /// A zone starts from an older copy of its data.
    fn roll_back(&mut self, zone: usize) {
        let Some(backup) = self.backups[zone].take() else { return };
        self.cut(zone);
        self.zones[zone].restore(backup);
        self.model.newest.retain(|(place, _), _| *place != zone);
        self.rolled_back[zone] = true;
    }

    /// If global had only a part of a snapshot of what the zone lost, the zone's word counts, and some things go back.
    fn admit_what_is_lost(&mut self, zone: usize) {
        let has = self.global.has_of(&peer_of(zone));
        if std::mem::take(&mut self.rolled_back[zone]) && !has.is_whole() {
            self.model.lost.insert(Owner::Zone(uid(zone)));
        }
    }

    /// Time passes for sessions; silence ends them.
    fn noise(&mut self, zone: usize) {
        let Some(stream) = &mut self.streams[zone] else { return };
        let at = self.now - stream.opened;
        let silent = [&mut stream.zone, &mut stream.global].into_iter().flatten().any(|session| session.on_tick(at).is_err());
        if silent {
            self.streams[zone] = None;
        }
    }

    /// No more faults: everything must come to rest.
    fn settle(&mut self) {
        self.ghosts.iter_mut().for_each(|ghost| *ghost = None);
        for second in 0..60 {
            (0..ZONES).for_each(|zone| self.connect(zone));
            for _ in 0..if second < 10 { 60 } else { 15 } {
                for zone in 0..ZONES {
                    self.transmit(zone);
                    self.apply_zone(zone);
                    self.apply_global(zone);
                    self.zones[zone].flush();
                    self.release(zone);
                }
                self.global.flush();
            }
            self.now += Duration::from_secs(1);
        }
    }

    /// The operators of the planes let held deletions happen.
    fn release(&mut self, zone: usize) {
        let Some(stream) = &mut self.streams[zone] else { return };
        for session in [&mut stream.zone, &mut stream.global].into_iter().flatten() {
            let held = session.receiver().held();
            held.keys().filter_map(|kind| kind.parse().ok()).for_each(|kind| session.release(kind));
        }
    }

    fn check_end(&mut self) {
        let seed = self.seed;
        for zone in 0..ZONES {
            let plane = &self.zones[zone];
            assert_eq!(
                plane.foreign(zone),
                self.global.shown(Route::Down(uid(zone))),
                "seed {seed}: zone {zone} has what global shows"
            );
            assert_eq!(
                self.global.foreign(zone),
                plane.shown(Route::Up(uid(zone))),
                "seed {seed}: global has what zone {zone} shows"
            );
            let stream = self.streams[zone].as_ref().expect("connected");
            for session in [&stream.zone, &stream.global].into_iter().flatten() {
                assert_eq!(session.phase(), Phase::Open);
                let compared = session.receiver().compared().map(|(_, different)| different);
                assert_eq!(compared, Some(vec![]), "seed {seed}: digests were compared and are equal");
            }
        }
    }
}

fn number(spec: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(spec).ok().and_then(|spec| spec["n"].as_u64()).unwrap_or(0)
}
