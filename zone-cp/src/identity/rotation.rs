//! How one CA takes the place of another.
//!
//! ```text
//!   prepare ──▶ distribute ──▶ activate ──▶ retire
//!   half of the  in MeshTrust;   issues, once   goes from MeshTrust, once
//!   life, or     zones and       everybody      no proxy shows a certificate
//!   asked for    proxies say     trusts it      of it any more
//!                that they have it
//! ```
//!
//! Time alone activates a CA only when the one before it is all but over: a zone that is cut off goes on by the old one.

use atoll_model::{Timestamp, spiffe::TrustDomain};
use atoll_trust::ca::{CaError, LEAF_LIFE, WorkloadCa};
use chrono::TimeDelta;
use rand::RngCore;

use super::cas::{CaState, Held};

/// Label of a MeshIdentity: another text asks every zone for another CA.
pub(super) const ROTATE: &str = "atoll.io/rotate-ca";
/// Label of a MeshIdentity: the same text as [`ROTATE`] makes that rotation wait for nobody.
pub(super) const FORCE: &str = "atoll.io/rotate-ca-force";

/// What a step hangs on beside the CAs themselves.
pub(super) struct Circumstances<'a> {
    /// The domain for which the zone issues.
    pub(super) domain: &'a TrustDomain,
    /// The text of [`ROTATE`].
    pub(super) asked: Option<&'a str>,
    /// That rotation waits for nobody.
    pub(super) force: bool,
    /// How long leaves live.
    pub(super) leaf_life: TimeDelta,
    /// Who does not trust a CA yet.
    pub(super) distrusting: &'a dyn Fn(&WorkloadCa) -> Vec<String>,
    /// Who has no certificate of the CA that issues yet.
    pub(super) behind: &'a dyn Fn(&WorkloadCa) -> Vec<String>,
}

impl Circumstances<'_> {
    /// Whether a rotation was asked for that the CA was not made for.
    fn asks_beyond(&self, held: &Held) -> bool {
        self.asked.is_some_and(|asked| held.made_for.as_deref() != Some(asked))
    }
}

/// One step in the life of a list of CAs. A CA of another domain is over at once.
pub(super) fn step(held: &mut Vec<Held>, at: &Circumstances<'_>, now: Timestamp, rng: &mut impl RngCore) -> Result<(), CaError> {
    for one in held.iter_mut().filter(|one| one.ca.trust_domain() != at.domain || one.ca.not_after() <= now) {
        one.retire(now);
    }
    held.retain(|one| one.ca.not_after() > now);
    drop_retired(held, at, now);
    let made_for = || at.asked.map(str::to_owned);
    match (find(held, CaState::Active), find(held, CaState::Prepared)) {
        (None, Some(prepared)) => held[prepared].state = CaState::Active,
        (None, None) => {
            held.push(Held::new(CaState::Active, WorkloadCa::generate(at.domain, now, rng)?, made_for()));
        }
        (Some(active), None) if left(&held[active], 2, now) || at.asks_beyond(&held[active]) => {
            held.push(Held::new(CaState::Prepared, WorkloadCa::generate(at.domain, now, rng)?, made_for()));
        }
        (Some(_), None) => {}
        (Some(active), Some(prepared)) => {
            if at.asked.is_some() {
                held[prepared].made_for = made_for();
            }
            if may_activate(&held[active], &held[prepared], at, now) {
                held[active].retire(now);
                held[prepared].state = CaState::Active;
            }
        }
    }
    Ok(())
}

/// For whom the list waits now.
pub(super) fn waits_for(held: &[Held], at: &Circumstances<'_>, now: Timestamp) -> Vec<String> {
    let (active, prepared) = (find(held, CaState::Active), find(held, CaState::Prepared));
    let retired = find(held, CaState::Retired);
    match (active, prepared, retired) {
        (Some(active), Some(prepared), _) if is_due(&held[active], at, now) => (at.distrusting)(&held[prepared].ca),
        (Some(active), _, Some(_)) => (at.behind)(&held[active].ca),
        _ => Vec::new(),
    }
}

fn is_due(active: &Held, at: &Circumstances<'_>, now: Timestamp) -> bool {
    at.asks_beyond(active) || left(active, 6, now)
}

fn may_activate(active: &Held, prepared: &Held, at: &Circumstances<'_>, now: Timestamp) -> bool {
    if !prepared.saved {
        return false;
    }
    let forced = at.force && at.asks_beyond(active);
    let last_call = left(active, 30, now);
    is_due(active, at, now) && (forced || last_call || (at.distrusting)(&prepared.ca).is_empty())
}

/// Takes away retired CAs of which no certificate is shown any more, or can be.
fn drop_retired(held: &mut Vec<Held>, at: &Circumstances<'_>, now: Timestamp) {
    if find(held, CaState::Retired).is_none() {
        return;
    }
    let active = held.iter().find(|one| one.state == CaState::Active && one.saved);
    let all_moved = active.is_some_and(|active| (at.behind)(&active.ca).is_empty());
    let life = at.leaf_life.max(LEAF_LIFE);
    held.retain(|one| {
        let Some(since) = one.retired.filter(|_| one.state == CaState::Retired) else { return true };
        let forced = at.force && at.asks_beyond(one);
        !(all_moved || forced || since + life <= now)
    });
}

fn find(held: &[Held], state: CaState) -> Option<usize> {
    held.iter().position(|one| one.state == state)
}

/// Whether less than this part of a CA's life is left.
fn left(held: &Held, part: i32, now: Timestamp) -> bool {
    (held.ca.not_after() - now) < (held.ca.not_after() - held.ca.not_before()) / part
}

#[cfg(test)]
mod tests;
