//! Rules for incoming traffic: a flat list per inbound, and the merge of those that hold for every caller.

use std::sync::Arc;

use atoll_model::policies::{InboundMatch, inbound_match::SpiffeMatchKind};
use serde_json::Value;

use crate::{Policy, merge::merge};

/// One rule of one inbound.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingRule {
    /// Which callers; none means all.
    pub matched: Option<InboundMatch>,
    /// What the rule alone says; rules are not merged with each other.
    pub conf: Value,
    /// The policy.
    pub policy: Arc<Policy>,
    /// Position in the policy's `rules`.
    pub index: usize,
}

/// The rules of `policies` (ascending) for one inbound: in the order of the policies, but the more specific match first.
pub(crate) fn rules<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Vec<IncomingRule> {
    let mut rules: Vec<_> = policies
        .flat_map(|policy| {
            policy.incoming.iter().map(|item| IncomingRule {
                matched: item.matched.clone(),
                conf: item.conf.clone(),
                policy: Arc::clone(policy),
                index: item.index,
            })
        })
        .collect();
    rules.sort_by_key(|rule| specificity(rule.matched.as_ref()));
    rules
}

/// Lower is more specific: exact SPIFFE id, start of one, none; then with server name before without.
fn specificity(matched: Option<&InboundMatch>) -> (u8, u8) {
    let spiffe = match matched.and_then(|matched| matched.spiffe_id.as_ref()).map(|spiffe| spiffe.kind) {
        Some(SpiffeMatchKind::Exact) => 0,
        Some(SpiffeMatchKind::Prefix) => 1,
        None => 2,
    };
    (spiffe, u8::from(matched.is_none_or(|matched| matched.sni.is_none())))
}

/// What the rules for every caller say together.
pub(crate) fn catch_all<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Value {
    merge(policies.flat_map(|policy| &policy.incoming).filter(|item| item.matched.is_none()).map(|item| &item.conf))
}
