//! MeshTrafficPermission as RBAC: denies first, then allows, nobody else is let in.
//!
//! The matcher form, not the rules form: it keeps order, it names the policy that decided, and it compares all URI SANs of a
//! certificate together, so that a second one makes a match fail instead of adding an identity.
//!
//! On bytes Envoy judges at the first byte that the caller sends, not when the connection opens: an application that speaks
//! first is heard by every caller whom the bundles trust, until the caller speaks. Waiting for the caller's first byte before
//! the application is called would keep this from them, and would keep such applications from everybody.

use atoll_envoy_api::{
    envoy::{
        config::rbac::v3::{Action, rbac},
        extensions::{
            filters::{http::rbac::v3 as http, network::rbac::v3 as network},
            matching::common_inputs::{network::v3::ServerNameInput, ssl::v3::UriSanInput},
        },
    },
    xds::{
        core::v3::TypedExtensionConfig,
        r#type::matcher::v3::{
            Matcher, StringMatcher,
            matcher::{
                MatcherList, MatcherType, OnMatch,
                matcher_list::{
                    FieldMatcher, Predicate,
                    predicate::{self, PredicateList, SinglePredicate, single_predicate::Matcher as ValueMatcher},
                },
                on_match,
            },
            string_matcher::MatchPattern,
        },
    },
};
use atoll_model::policies::{InboundMatch, inbound_match::SpiffeMatchKind};
use atoll_policy::{Permission, PermissionSet};
use prost::{Message, Name};

use crate::encoded::pack;

/// The filter that judges connections.
pub(crate) fn network_filter(inbound: &str, permissions: &PermissionSet) -> network::Rbac {
    network::Rbac {
        matcher: Some(enforced(permissions)),
        shadow_matcher: shadow(permissions),
        stat_prefix: format!("{inbound}."),
        ..Default::default()
    }
}

/// The filter that judges requests.
pub(crate) fn http_filter(permissions: &PermissionSet) -> http::Rbac {
    http::Rbac { matcher: Some(enforced(permissions)), shadow_matcher: shadow(permissions), ..Default::default() }
}

fn enforced(permissions: &PermissionSet) -> Matcher {
    let denied = permissions.deny.iter().map(|permission| (permission, rbac::Action::Deny));
    let allowed = permissions.allow.iter().chain(&permissions.shadow).map(|permission| (permission, rbac::Action::Allow));
    matcher(denied.chain(allowed))
}

/// What would hold if shadowed callers were refused; none without such.
fn shadow(permissions: &PermissionSet) -> Option<Matcher> {
    if permissions.shadow.is_empty() {
        return None;
    }
    let denied = permissions.deny.iter().chain(&permissions.shadow).map(|permission| (permission, rbac::Action::Deny));
    let allowed = permissions.allow.iter().map(|permission| (permission, rbac::Action::Allow));
    Some(matcher(denied.chain(allowed)))
}

fn matcher<'a>(rules: impl Iterator<Item = (&'a Permission, rbac::Action)>) -> Matcher {
    let matchers: Vec<FieldMatcher> = rules
        .map(|(permission, then)| FieldMatcher {
            predicate: Some(condition(&permission.matched)),
            on_match: Some(action(&permission.policy, then)),
        })
        .collect();
    Matcher {
        matcher_type: (!matchers.is_empty()).then_some(MatcherType::MatcherList(MatcherList { matchers })),
        on_no_match: Some(Box::new(action("default", rbac::Action::Deny))),
    }
}

fn action(policy: &str, action: rbac::Action) -> OnMatch {
    let decided = Action { name: policy.to_owned(), action: action as i32 };
    let config = extension("envoy.filters.rbac.action", &decided);
    OnMatch { on_match: Some(on_match::OnMatch::Action(config)), ..Default::default() }
}

fn condition(matched: &InboundMatch) -> Predicate {
    let spiffe = matched.spiffe_id.as_ref().map(|spiffe| {
        uri(match spiffe.kind {
            SpiffeMatchKind::Exact => MatchPattern::Exact(spiffe.value.clone()),
            SpiffeMatchKind::Prefix => MatchPattern::Prefix(spiffe.value.clone()),
        })
    });
    let sni =
        matched.sni.as_ref().map(|sni| single(extension("sni", &ServerNameInput {}), MatchPattern::Exact(sni.value.clone())));
    match (spiffe, sni) {
        (Some(spiffe), Some(sni)) => {
            Predicate { match_type: Some(predicate::MatchType::AndMatcher(PredicateList { predicate: vec![spiffe, sni] })) }
        }
        (Some(one), None) | (None, Some(one)) => one,
        // Everybody whom the bundles trust: they all have a SPIFFE id.
        (None, None) => uri(MatchPattern::Prefix("spiffe://".to_owned())),
    }
}

fn uri(pattern: MatchPattern) -> Predicate {
    single(extension("uri_san", &UriSanInput {}), pattern)
}

fn single(input: TypedExtensionConfig, pattern: MatchPattern) -> Predicate {
    let value = StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    Predicate {
        match_type: Some(predicate::MatchType::SinglePredicate(SinglePredicate {
            input: Some(input),
            matcher: Some(ValueMatcher::ValueMatch(value)),
        })),
    }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack(message)) }
}
