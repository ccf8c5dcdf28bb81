//! One proxy's part of the liveness rules.

use std::collections::BTreeSet;

use atoll_model::Timestamp;

use super::{Presence, ProxyStatus, StreamId, Word};

/// A runner that is attached.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) stream: StreamId,
    pub(super) instance: String,
    pub(super) heard: Timestamp,
    /// It has not been heard for so long that its stream counts as closed; a word brings it back.
    pub(super) silent: bool,
}

/// Where a proxy stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// At least one of its streams is open.
    Present,
    /// Journaled; waits for its streams after a start of this plane.
    Returning { until: Timestamp },
    /// Left together with too many others; its endpoints stay.
    Held { until: Timestamp },
    /// Withdrawn; its resource waits for its return.
    Gone { until: Timestamp },
}

#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) phase: Phase,
    pub(super) runner: Option<Runner>,
    pub(super) envoys: u32,
    /// The last word of its runner; none: what the journal says still holds.
    pub(super) word: Option<Word>,
    pub(super) draining: bool,
    /// What was published last; none: what the journal says.
    published: Option<Presence>,
}

impl Proxy {
    pub(super) fn new(phase: Phase) -> Self {
        Self { phase, runner: None, envoys: 0, word: None, draining: false, published: None }
    }

    /// Whether its runner is there and speaks.
    pub(super) fn has_runner(&self) -> bool {
        self.runner.as_ref().is_some_and(|runner| !runner.silent)
    }

    /// Whether one of its streams is open.
    pub(super) fn is_attached(&self) -> bool {
        self.has_runner() || self.envoys > 0
    }

    /// Whether it has something to do at `now` that no event brings.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Present => !self.is_attached(),
            Phase::Returning { until } | Phase::Held { until } | Phase::Gone { until } => until <= now,
        }
    }

    /// Whether its endpoints take traffic, as far as is known.
    pub(super) fn may_serve(&self) -> bool {
        !self.draining && !matches!(self.phase, Phase::Gone { .. }) && self.published != Some(Presence::Withdrawn)
    }

    /// What it should say if that differs from what was published; noted as published.
    pub(super) fn news(&mut self) -> Option<Presence> {
        let presence = match (self.phase, &self.word) {
            (Phase::Gone { .. }, _) => Presence::Withdrawn,
            (_, _) if self.draining => Presence::Withdrawn,
            (Phase::Returning { .. } | Phase::Held { .. }, _) => return None,
            (Phase::Present, Some(word)) if !word.envoy_ready => Presence::Withdrawn,
            (Phase::Present, Some(word)) => Presence::Serving { unhealthy: word.unhealthy.clone() },
            // Envoy came without its runner: what the journal says holds, again if it was withdrawn meanwhile.
            (Phase::Present, None) if self.published.is_none() => return None,
            (Phase::Present, None) => Presence::Serving { unhealthy: BTreeSet::new() },
        };
        if self.published.as_ref() == Some(&presence) {
            return None;
        }
        self.published = Some(presence.clone());
        Some(presence)
    }

    pub(super) fn published(&self) -> Option<&Presence> {
        self.published.as_ref()
    }

    pub(super) fn status(&self) -> ProxyStatus {
        let phase = match self.phase {
            Phase::Present => "present",
            Phase::Returning { .. } => "returning",
            Phase::Held { .. } => "held",
            Phase::Gone { .. } => "gone",
        };
        ProxyStatus { runner: self.has_runner(), envoys: self.envoys, word: self.word.clone(), draining: self.draining, phase }
    }
}
