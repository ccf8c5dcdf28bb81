//! Zones that rotate their CAs while news of it travel late, in any order, and planes restart: at no moment does a proxy show a
//! certificate that another proxy does not trust.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const ZONES: usize = 3;
const PROXIES: usize = 2;

/// What a zone publishes: its CAs, and the CAs that all of its proxies trust, by pin.
#[derive(Clone, Debug, Default)]
struct Published {
    cas: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
struct Proxy {
    trusts: BTreeSet<String>,
    shows: String,
}

struct Zone {
    domain: TrustDomain,
    held: Vec<Held>,
    asked: Option<String>,
    /// What came of each zone, the own one included.
    knows: Vec<Published>,
    proxies: Vec<Proxy>,
    /// What the plane knows that its proxies have; it forgets it when it restarts.
    acknowledged: Vec<Option<Proxy>>,
}

fn pin(ca: &WorkloadCa) -> String {
    ca.pin().to_string()
}

fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

impl Zone {
    fn new(index: usize) -> Self {
        Self {
            domain: format!("zone{index}.mesh").parse().unwrap(),
            held: Vec::new(),
            asked: None,
            knows: vec![Published::default(); ZONES],
            proxies: vec![Proxy::default(); PROXIES],
            acknowledged: vec![None; PROXIES],
        }
    }

    fn bundle(&self) -> BTreeSet<String> {
        self.knows.iter().flat_map(|published| published.cas.clone()).collect()
    }

    fn issuer(&self) -> String {
        pin(&self.held[find(&self.held, CaState::Active).unwrap()].ca)
    }

    /// The plane gives a proxy what there is, and hears that it has it.
    fn give(&mut self, proxy: usize) {
        self.proxies[proxy] = Proxy { trusts: self.bundle(), shows: self.issuer() };
        self.acknowledged[proxy] = Some(self.proxies[proxy].clone());
    }

    fn step(&mut self, index: usize, rng: &mut StdRng) {
        let (knows, acknowledged) = (&self.knows, &self.acknowledged);
        let lacks = |has: &dyn Fn(&Proxy) -> bool| acknowledged.iter().any(|proxy| !proxy.as_ref().is_some_and(has));
        let others = |pin: &String| (0..ZONES).filter(|zone| *zone != index).any(|zone| !knows[zone].acknowledged.contains(pin));
        let said = |waits: bool| if waits { vec!["somebody".to_owned()] } else { Vec::new() };
        let distrusting = |ca: &WorkloadCa| {
            let pin = pin(ca);
            said(!knows[index].cas.contains(&pin) || others(&pin) || lacks(&|proxy: &Proxy| proxy.trusts.contains(&pin)))
        };
        let behind = |ca: &WorkloadCa| said(lacks(&|proxy: &Proxy| proxy.shows == pin(ca)));
        let at = Circumstances {
            domain: &self.domain,
            asked: self.asked.as_deref(),
            force: false,
            leaf_life: TimeDelta::hours(24),
            distrusting: &distrusting,
            behind: &behind,
        };
        step(&mut self.held, &at, now(), rng).unwrap();
        self.held.iter_mut().for_each(|held| held.saved = true);
        let trusted = self.bundle();
        let by_all =
            |pin: &&String| self.acknowledged.iter().all(|proxy| proxy.as_ref().is_some_and(|proxy| proxy.trusts.contains(*pin)));
        let said = &self.knows[index].acknowledged & &trusted;
        let acknowledged = &said | &trusted.iter().filter(by_all).cloned().collect();
        let cas = self.held.iter().map(|held| pin(&held.ca)).collect();
        self.knows[index] = Published { cas, acknowledged };
    }
}

fn everybody_trusts_everybody(zones: &[Zone], history: &[String]) {
    for (server, shown) in zones.iter().flat_map(|zone| &zone.proxies).map(|proxy| &proxy.shows).enumerate() {
        for (client, proxy) in zones.iter().flat_map(|zone| &zone.proxies).enumerate() {
            assert!(
                proxy.trusts.contains(shown),
                "proxy {client} does not trust what {server} shows after\n{}",
                history.join("\n")
            );
        }
    }
}

/// Something happens; in words.
fn event(zones: &mut [Zone], rng: &mut StdRng) -> String {
    let (zone, other, proxy) = (rng.random_range(0..ZONES), rng.random_range(0..ZONES), rng.random_range(0..PROXIES));
    match rng.random_range(0..100) {
        0..35 => {
            zones[zone].step(zone, rng);
            format!("zone {zone} looks: {:?}", zones[zone].held.iter().map(|held| held.state).collect::<Vec<_>>())
        }
        35..65 => {
            zones[zone].knows[other] = zones[other].knows[other].clone();
            format!("zone {zone} hears of {other}")
        }
        65..93 => {
            zones[zone].give(proxy);
            format!("zone {zone} gives to {proxy}")
        }
        93..96 => {
            zones[zone].acknowledged = vec![None; PROXIES];
            format!("the plane of {zone} restarts")
        }
        _ => {
            let text = rng.random_range(0..1000).to_string();
            zones[zone].asked = Some(text.clone());
            format!("an operator asks {zone} for {text}")
        }
    }
}

/// All news arrive, until nothing changes any more.
fn settle(zones: &mut [Zone], rng: &mut StdRng) {
    for _ in 0..12 {
        for zone in 0..ZONES {
            zones[zone].step(zone, rng);
            for other in 0..ZONES {
                zones[zone].knows[other] = zones[other].knows[other].clone();
            }
            (0..PROXIES).for_each(|proxy| zones[zone].give(proxy));
        }
    }
}

#[test]
fn nobody_shows_what_somebody_does_not_trust_and_every_rotation_ends() {
    let mut rotations = BTreeMap::new();
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut zones: Vec<Zone> = (0..ZONES).map(Zone::new).collect();
        settle(&mut zones, &mut rng);
        let mut history = vec![format!("seed {seed}")];
        everybody_trusts_everybody(&zones, &history);
        for _ in 0..200 {
            history.push(event(&mut zones, &mut rng));
            everybody_trusts_everybody(&zones, &history);
        }
        settle(&mut zones, &mut rng);
        for zone in &zones {
            let states: Vec<_> = zone.held.iter().map(|held| (held.state, held.made_for.clone())).collect();
            assert_eq!(states, [(CaState::Active, zone.asked.clone())], "{}", history.join("\n"));
            rotations.insert(pin(&zone.held[0].ca), ());
        }
    }
    assert_eq!(rotations.len(), 300 * ZONES);
}
