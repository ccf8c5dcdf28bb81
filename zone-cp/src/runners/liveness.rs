//! Which proxies take traffic: what their runners say, and what their silence means.
//!
//! ```text
//!   runner's stream, Envoy's stream, time ──▶ Liveness ──▶ Publish(presence), Delete
//! ```
//!
//! An endpoint does not die of a lost stream alone. A proxy leaves
//! - at once when it drains,
//! - at once when its runner's and its Envoy's stream are both closed (the kernel closes them when a host's programs die),
//! - 15 s after the last word of its runner, when Envoy's stream is closed too (a host that fell silent closes nothing; Envoy's
//!   stream is closed by the server's HTTP/2 keep-alive in that time).
//!
//! To leave is to be withdrawn: every inbound is NotReady. The resource is deleted a minute later, or, after draining, as soon as
//! both streams are closed. More than max(3, 20 %) of a mesh's instances that leave within 5 s without draining look like a
//! failure between them and us: the ones beyond that number are held for 60 s and shown. After a start, what the journal holds
//! stays 60 s while proxies return.
//!
//! Pure: `now` is an argument, and the caller puts the effects into the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use atoll_model::{Name, Timestamp};
use chrono::TimeDelta;

mod proxy;
#[cfg(test)]
mod tests;

use proxy::{Phase, Proxy, Runner};

/// One proxy of this zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyId {
    /// Its mesh.
    pub mesh: Name,
    /// The name of its Dataplane.
    pub name: Name,
}

impl ProxyId {
    /// Makes an id.
    pub fn new(mesh: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { mesh: mesh.into(), name: name.into() }
    }
}

impl std::fmt::Display for ProxyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.mesh, self.name)
    }
}

/// The times and numbers of the rules.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Silence of a runner after which its stream counts as closed.
    pub silence: TimeDelta,
    /// From withdrawal to deletion.
    pub forget: TimeDelta,
    /// How long the journal's endpoints wait for their proxies after a start.
    pub start: TimeDelta,
    /// In which departures are counted.
    pub window: TimeDelta,
    /// How long departures beyond the number are held.
    pub hold: TimeDelta,
    /// Departures of a mesh that never are too many.
    pub floor: usize,
    /// Percentage of a mesh's instances that is not too many.
    pub percent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            silence: TimeDelta::seconds(15),
            forget: TimeDelta::seconds(60),
            start: TimeDelta::seconds(60),
            window: TimeDelta::seconds(5),
            hold: TimeDelta::seconds(60),
            floor: 3,
            percent: 20,
        }
    }
}

/// One attachment of a runner; a later one of the same proxy replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a runner knows of its proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Envoy is live and has its listeners.
    pub envoy_ready: bool,
    /// Sections whose application fails its probe.
    pub unhealthy: BTreeSet<String>,
}

/// What happened to one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A runner registered.
    RunnerAttached {
        /// Its stream.
        stream: StreamId,
        /// Whose it is.
        instance: String,
        /// What it says.
        word: Word,
    },
    /// Any message of a runner, with what it says now if that is new.
    RunnerSaid {
        /// Its stream.
        stream: StreamId,
        /// What it says now.
        word: Option<Word>,
    },
    /// The runner is about to end its Envoy.
    Draining {
        /// Its stream.
        stream: StreamId,
    },
    /// A runner's stream ended.
    RunnerClosed {
        /// Its stream.
        stream: StreamId,
    },
    /// Envoy opened a discovery stream.
    EnvoyAttached,
    /// A discovery stream of Envoy ended.
    EnvoyClosed,
}

/// What the proxy's Dataplane should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Every inbound and listener is NotReady.
    Withdrawn,
    /// As the author wrote, but for the unhealthy sections.
    Serving {
        /// Sections that are NotReady.
        unhealthy: BTreeSet<String>,
    },
}

/// What is to be done in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the Dataplane with this presence.
    Publish(ProxyId, Presence),
    /// Delete the Dataplane.
    Delete(ProxyId),
}

/// Another runner has the proxy's name and is alive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another runner of {0} is alive; give this one another name, or stop the other")]
pub struct Busy(pub ProxyId);

/// All proxies of a zone.
#[derive(Debug)]
pub struct Liveness {
    limits: Limits,
    proxies: BTreeMap<ProxyId, Proxy>,
    /// Per mesh: departures without draining, oldest first.
    departures: BTreeMap<Name, VecDeque<Timestamp>>,
}

impl Liveness {
    /// Starts with what the journal holds; those endpoints stay until their proxies return or the time is over.
    pub fn new(limits: Limits, journal: impl IntoIterator<Item = ProxyId>, now: Timestamp) -> Self {
        let returning = |id| (id, Proxy::new(Phase::Returning { until: now + limits.start }));
        Self { limits, proxies: journal.into_iter().map(returning).collect(), departures: BTreeMap::new() }
    }

    /// Whether a runner may have the proxy's name.
    ///
    /// # Errors
    /// When another instance has it and was heard of lately.
    pub fn claim(&self, id: &ProxyId, instance: &str, now: Timestamp) -> Result<(), Busy> {
        let holder = self.proxies.get(id).and_then(|proxy| proxy.runner.as_ref());
        match holder {
            Some(runner) if runner.instance != instance && now - runner.heard < self.limits.silence => Err(Busy(id.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes note of an event.
    pub fn handle(&mut self, id: &ProxyId, event: Event, now: Timestamp) -> Vec<Effect> {
        match event {
            Event::RunnerAttached { stream, instance, word } => {
                let proxy = self.proxies.entry(id.clone()).or_insert_with(|| Proxy::new(Phase::Present));
                proxy.runner = Some(Runner { stream, instance, heard: now, silent: false });
                proxy.word = Some(word);
                proxy.draining = false;
            }
            Event::EnvoyAttached => {
                let proxy = self.proxies.entry(id.clone()).or_insert_with(|| Proxy::new(Phase::Present));
                proxy.envoys += 1;
            }
            Event::RunnerSaid { stream, word } => self.on(id, stream, |proxy, runner| {
                proxy.runner = Some(Runner { heard: now, silent: false, ..runner });
                proxy.word = word.or_else(|| proxy.word.take());
            }),
            Event::Draining { stream } => self.on(id, stream, |proxy, runner| {
                proxy.runner = Some(runner);
                proxy.draining = true;
            }),
            Event::RunnerClosed { stream } => self.on(id, stream, |proxy, _| proxy.runner = None),
            Event::EnvoyClosed => {
                if let Some(proxy) = self.proxies.get_mut(id) {
                    proxy.envoys = proxy.envoys.saturating_sub(1);
                }
            }
        }
        self.settle(id, now)
    }

    /// Takes note of the time; call it about once a second.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let silence = self.limits.silence;
        for runner in self.proxies.values_mut().filter_map(|proxy| proxy.runner.as_mut()) {
            runner.silent = now - runner.heard >= silence;
        }
        let due: Vec<ProxyId> = self.proxies.iter().filter(|(_, proxy)| proxy.is_due(now)).map(|(id, _)| id.clone()).collect();
        due.iter().flat_map(|id| self.settle(id, now)).collect()
    }

    /// What was published last of a proxy; none: what the journal says.
    pub fn presence(&self, id: &ProxyId) -> Option<&Presence> {
        self.proxies.get(id)?.published()
    }

    /// Proxies whose departure is held, and until when.
    pub fn held(&self) -> BTreeMap<ProxyId, Timestamp> {
        let held = |(id, proxy): (&ProxyId, &Proxy)| match proxy.phase {
            Phase::Held { until } => Some((id.clone(), until)),
            Phase::Present | Phase::Returning { .. } | Phase::Gone { .. } => None,
        };
        self.proxies.iter().filter_map(held).collect()
    }

    /// What is known of each proxy, for people.
    pub fn status(&self) -> BTreeMap<ProxyId, ProxyStatus> {
        self.proxies.iter().map(|(id, proxy)| (id.clone(), proxy.status())).collect()
    }

    /// Runs `change` on the proxy whose runner has `stream`; words of a replaced stream count for nothing.
    fn on(&mut self, id: &ProxyId, stream: StreamId, change: impl FnOnce(&mut Proxy, Runner)) {
        let Some(proxy) = self.proxies.get_mut(id) else { return };
        if let Some(runner) = proxy.runner.clone().filter(|runner| runner.stream == stream) {
            change(proxy, runner);
        }
    }

    /// Moves a proxy to the phase in which it is now, and says what follows.
    fn settle(&mut self, id: &ProxyId, now: Timestamp) -> Vec<Effect> {
        let Some(proxy) = self.proxies.get(id) else { return Vec::new() };
        let next = match proxy.phase {
            _ if proxy.is_attached() => Phase::Present,
            Phase::Present if proxy.draining => return self.remove(id),
            Phase::Present => self.depart(id, now),
            Phase::Returning { until } if until <= now => self.depart(id, now),
            Phase::Held { until } if until <= now => Phase::Gone { until: now + self.limits.forget },
            Phase::Gone { until } if until <= now => return self.remove(id),
            waiting @ (Phase::Returning { .. } | Phase::Held { .. } | Phase::Gone { .. }) => waiting,
        };
        let Some(proxy) = self.proxies.get_mut(id) else { return Vec::new() };
        proxy.phase = next;
        match proxy.news() {
            Some(presence) => vec![Effect::Publish(id.clone(), presence)],
            None => Vec::new(),
        }
    }

    fn remove(&mut self, id: &ProxyId) -> Vec<Effect> {
        self.proxies.remove(id);
        vec![Effect::Delete(id.clone())]
    }

    /// A proxy left without draining: gone, or held when too many left at once.
    fn depart(&mut self, id: &ProxyId, now: Timestamp) -> Phase {
        let gone = Phase::Gone { until: now + self.limits.forget };
        if self.proxies.get(id).is_none_or(|proxy| !proxy.may_serve()) {
            return gone;
        }
        let instances = self.proxies.iter().filter(|(other, proxy)| other.mesh == id.mesh && proxy.may_serve()).count();
        let departures = self.departures.entry(id.mesh.clone()).or_default();
        let Limits { window, hold, floor, percent, .. } = self.limits;
        departures.retain(|at| now - *at < window);
        let most = floor.max((instances + departures.len()) * percent / 100);
        if departures.len() >= most {
            return Phase::Held { until: now + hold };
        }
        departures.push_back(now);
        gone
    }
}

/// What is known of one proxy, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    /// A runner is attached.
    pub runner: bool,
    /// Discovery streams of Envoy.
    pub envoys: u32,
    /// Its last word.
    pub word: Option<Word>,
    /// It is about to end.
    pub draining: bool,
    /// `present`, `returning`, `held` or `gone`.
    pub phase: &'static str,
}
