//! Comparing what this plane has with what the peer says it should have, at exactly the same place of the peer's history.

use std::{collections::BTreeMap, time::Duration};

use atoll_model::{Kind, ResourceKey, Revision};

use super::Receiver;
use crate::{
    Cursor, View,
    digest::{Sum, contribution_of},
    flow::Moment,
    index::came_over,
    proto,
};
use atoll_model::Change;

/// Pause after a snapshot that did not heal a difference; doubled each time.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Digests that wait for their moment, and findings.
#[derive(Debug, Default)]
pub(super) struct Comparer {
    heartbeat: Option<proto::Heartbeat>,
    last: Option<(Revision, Vec<String>)>,
    due: bool,
    healing: BTreeMap<String, Healing>,
    healed: u64,
}

#[derive(Debug)]
struct Healing {
    tries: u32,
    not_before: Moment,
}

impl Comparer {
    pub(super) fn put(&mut self, heartbeat: proto::Heartbeat) {
        if heartbeat.at.is_some() {
            self.heartbeat = Some(heartbeat);
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    pub(super) fn take_due(&mut self) -> Option<proto::Comparison> {
        let (revision, different) = std::mem::take(&mut self.due).then(|| self.last.clone()).flatten()?;
        Some(proto::Comparison { revision: revision.0, different })
    }

    pub(super) fn last(&self) -> Option<(Revision, Vec<String>)> {
        self.last.clone()
    }

    pub(super) fn healed(&self) -> u64 {
        self.healed
    }

    /// A snapshot came; if the difference is still there, the next one is asked for later.
    pub(super) fn on_snapshot(&mut self, kind: &str, complete: bool, now: Moment) {
        if let Some(healing) = self.healing.get_mut(kind) {
            let pause = if complete { PAUSE.saturating_mul(1 << healing.tries.min(6)).min(PAUSE_MAX) } else { Duration::ZERO };
            healing.not_before = now + pause;
        }
    }

    /// Notes a finding and gives the kinds to ask for.
    fn find(&mut self, at: Revision, different: Vec<String>, now: Moment) -> Vec<String> {
        self.healing.retain(|kind, _| different.contains(kind));
        let mut ask = Vec::new();
        for kind in &different {
            let healing = self.healing.entry(kind.clone()).or_insert(Healing { tries: 0, not_before: Moment::ZERO });
            if now >= healing.not_before {
                healing.tries += 1;
                healing.not_before = now + PAUSE;
                ask.push(kind.clone());
            }
        }
        self.healed += ask.len() as u64;
        self.last = Some((at, different));
        self.due = true;
        ask
    }
}

impl Receiver {
    /// Compares, if this plane is where the last heartbeat was made.
    pub(super) fn compare(&mut self, view: &View, now: Moment) {
        let here = |at: &proto::Cursor| Cursor::try_from(at).ok() == self.durable && self.durable == self.received;
        let settled = self.flight.is_none() && self.part.is_none() && self.settling.is_empty() && view.head() >= self.local;
        if self.restore.is_some() || self.beyond || !settled {
            return;
        }
        let Some(heartbeat) = self.comparer.heartbeat.take_if(|beat| beat.at.as_ref().is_some_and(here)) else { return };
        let at = Revision(heartbeat.at.map_or(0, |at| at.revision));
        let different =
            heartbeat.kinds.iter().filter(|total| self.differs(total, view)).map(|total| total.kind.clone()).collect();
        let ask = self.comparer.find(at, different, now);
        if !ask.is_empty() {
            self.resync.push(proto::Resync { kinds: ask, own: false, reason: format!("digests differ at revision {at}") });
        }
    }

    /// A kind that this version does not know cannot differ.
    fn differs(&self, theirs: &proto::KindTotal, view: &View) -> bool {
        let (Ok(kind), Some(total)) = (theirs.kind.parse::<Kind>(), &theirs.total) else { return false };
        let ours = view.taken(kind, self.route);
        Sum::from(total) != self.as_the_peer_has_it(kind, ours, view)
    }

    /// What is rejected counts as the peer has it; what is held counts as gone.
    fn as_the_peer_has_it(&self, kind: Kind, mut ours: Sum, view: &View) -> Sum {
        let rejected: Vec<_> = self.rejected.of_kind(kind, self.route).collect();
        let held = self.held.get(&kind);
        if rejected.is_empty() && held.is_none() {
            return ours;
        }
        let out = |key: &ResourceKey| {
            held.is_some_and(|keys| keys.contains(key)) || rejected.iter().any(|(name, _)| **name == proto::Key::from(key))
        };
        view.feed().changes(Revision(0), &mut |change| {
            if let Change::Put(resource) = change
                && resource.key.kind == kind
                && came_over(resource.key.owner, self.route)
                && out(&resource.key)
            {
                ours.remove(contribution_of(&resource.key, resource.hash));
            }
            true
        });
        rejected.iter().for_each(|(_, contribution)| ours.add(*contribution));
        ours
    }
}
