//! Which way a connection takes.

use std::net::IpAddr;

use atoll_envoy_api::{
    envoy::{
        config::core::v3::CidrRange,
        extensions::matching::{
            common_inputs::network::v3::{
                ApplicationProtocolInput, DestinationIpInput, DestinationPortInput, ServerNameInput, TransportProtocolInput,
            },
            input_matchers::ip::v3::Ip,
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
use atoll_model::policies::mesh_passthrough::MatchProtocol;
use prost::{Message, Name};

use crate::{
    encoded::pack,
    policies::mesh_passthrough::{To, Way},
};

/// The first of the ways that takes a connection.
pub(super) fn first_of(ways: &[Way]) -> Matcher {
    let matchers = ways.iter().map(|way| FieldMatcher { predicate: Some(takes(way)), on_match: Some(chain(&way.name)) });
    Matcher { matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers: matchers.collect() })), on_no_match: None }
}

fn chain(name: &str) -> OnMatch {
    let action = extension(name, &name.to_owned());
    OnMatch { on_match: Some(on_match::OnMatch::Action(action)), ..Default::default() }
}

fn takes(way: &Way) -> Predicate {
    let mut all = Vec::new();
    all.extend(way.port.map(port));
    match &way.to {
        To::Range(ip, length) => all.push(destination(*ip, *length)),
        To::ServerName(name) => all.extend(server_name(name)),
        To::Hosts(_) => {}
    }
    match way.protocol {
        MatchProtocol::Tls => all.push(text(&TransportProtocolInput {}, MatchPattern::Exact("tls".to_owned()))),
        MatchProtocol::Http | MatchProtocol::Http2 | MatchProtocol::Grpc => all.push(http()),
        MatchProtocol::Tcp | MatchProtocol::Mysql => {}
    }
    every(all)
}

/// Envoy wants at least two conditions to join. There is always one: addresses have their range, TLS and HTTP their protocol.
fn every(mut all: Vec<Predicate>) -> Predicate {
    if all.len() > 1 {
        return Predicate { match_type: Some(predicate::MatchType::AndMatcher(PredicateList { predicate: all })) };
    }
    all.pop().unwrap_or_default()
}

fn port(port: u16) -> Predicate {
    text(&DestinationPortInput {}, MatchPattern::Exact(port.to_string()))
}

fn destination(ip: IpAddr, length: u8) -> Predicate {
    let range = CidrRange { address_prefix: ip.to_string(), prefix_len: Some(u32::from(length)) };
    let ip = Ip { cidr_ranges: vec![range], stat_prefix: "meshpassthrough".to_owned() };
    single(&DestinationIpInput {}, ValueMatcher::CustomMatch(extension("envoy.matching.matchers.ip", &ip)))
}

fn server_name(name: &str) -> Option<Predicate> {
    let pattern = match name.strip_prefix('*') {
        Some("") => return None,
        Some(suffix) => MatchPattern::Suffix(suffix.to_owned()),
        None => MatchPattern::Exact(name.to_owned()),
    };
    Some(text(&ServerNameInput {}, pattern))
}

/// What the inspector of HTTP found.
fn http() -> Predicate {
    let found =
        ["'http/1.", "'h2c'"].map(|protocol| text(&ApplicationProtocolInput {}, MatchPattern::Contains(protocol.to_owned())));
    Predicate { match_type: Some(predicate::MatchType::OrMatcher(PredicateList { predicate: found.into() })) }
}

fn text<M: Message + Name>(input: &M, pattern: MatchPattern) -> Predicate {
    single(input, ValueMatcher::ValueMatch(StringMatcher { match_pattern: Some(pattern), ..Default::default() }))
}

fn single<M: Message + Name>(input: &M, matcher: ValueMatcher) -> Predicate {
    let single = SinglePredicate { input: Some(extension("input", input)), matcher: Some(matcher) };
    Predicate { match_type: Some(predicate::MatchType::SinglePredicate(single)) }
}

fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack(message)) }
}
