//! What all discovery streams did since the program started.

use std::sync::atomic::{AtomicU64, Ordering};

use atoll_envoy::ResourceType;

use super::AuthRefusal;

/// Counts over all streams.
#[derive(Debug, Default)]
pub struct Totals {
    sent: [AtomicU64; ResourceType::ALL.len()],
    nacks: [AtomicU64; ResourceType::ALL.len()],
    unauthenticated: AtomicU64,
    denied: AtomicU64,
    unavailable: AtomicU64,
}

impl Totals {
    /// Responses sent, by type.
    pub fn sent(&self) -> [(ResourceType, u64); ResourceType::ALL.len()] {
        ResourceType::ALL.map(|kind| (kind, count(&self.sent[place(kind)])))
    }

    /// Responses that proxies refused, by type.
    pub fn nacks(&self) -> [(ResourceType, u64); ResourceType::ALL.len()] {
        ResourceType::ALL.map(|kind| (kind, count(&self.nacks[place(kind)])))
    }

    /// Streams that were refused, by reason.
    pub fn refused(&self) -> [(&'static str, u64); 3] {
        [
            ("unauthenticated", count(&self.unauthenticated)),
            ("denied", count(&self.denied)),
            ("unavailable", count(&self.unavailable)),
        ]
    }

    pub(super) fn on_sent(&self, type_url: &str) {
        if let Some(kind) = ResourceType::from_type_url(type_url) {
            add(&self.sent[place(kind)]);
        }
    }

    pub(super) fn on_nack(&self, type_url: &str) {
        if let Some(kind) = ResourceType::from_type_url(type_url) {
            add(&self.nacks[place(kind)]);
        }
    }

    pub(super) fn on_refused(&self, refusal: &AuthRefusal) {
        add(match refusal {
            AuthRefusal::Unauthenticated(_) => &self.unauthenticated,
            AuthRefusal::Denied(_) => &self.denied,
            AuthRefusal::Unavailable(_) => &self.unavailable,
        });
    }
}

fn place(kind: ResourceType) -> usize {
    kind as usize
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_and_each_reason_is_counted_for_itself() {
        let totals = Totals::default();
        for kind in ResourceType::ALL {
            totals.on_sent(kind.type_url());
        }
        totals.on_sent(ResourceType::Extension.type_url());
        totals.on_sent("type.googleapis.com/other");
        totals.on_nack(ResourceType::Listener.type_url());
        totals.on_refused(&AuthRefusal::Denied(String::new()));
        let of = |counts: [(ResourceType, u64); 6], kind| counts.iter().find(|(held, _)| *held == kind).map(|(_, count)| *count);
        assert_eq!(totals.sent().map(|(_, count)| count).iter().sum::<u64>(), 7);
        assert_eq!(of(totals.sent(), ResourceType::Extension), Some(2));
        assert_eq!(of(totals.nacks(), ResourceType::Listener), Some(1));
        assert_eq!(of(totals.nacks(), ResourceType::Cluster), Some(0));
        assert_eq!(totals.refused(), [("unauthenticated", 0), ("denied", 1), ("unavailable", 0)]);
    }
}
