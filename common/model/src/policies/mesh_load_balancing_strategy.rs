//! MeshLoadBalancingStrategy: which endpoint of a destination gets the next request.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decimal::Decimal,
    duration::GoDuration,
    schema::Schema,
    target_ref::{self, TargetRef},
};

mod review;

pub use review::check;

/// The spec of a MeshLoadBalancingStrategy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshLoadBalancingStrategy {
    /// Which proxies; absent means the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "target_ref::top_shape")]
    pub target_ref: Option<TargetRef>,
    /// Outgoing traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<To>,
}

/// The strategy towards one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// The destination.
    #[schemars(schema_with = "target_ref::to_shape")]
    pub target_ref: TargetRef,
    /// The strategy.
    #[serde(default)]
    pub default: Strategy,
}

/// A strategy; absent fields leave what a less specific entry says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// What zones and what is near count for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality_awareness: Option<LocalityAwareness>,
    /// The algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// By what of a request RingHash and Maglev choose, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_policies: Option<Vec<HashPolicy>>,
}

/// What zones and what is near count for. Without this, the own zone comes first and all others together come next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalityAwareness {
    /// Nothing: every endpoint of every zone is alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Inside the own zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_zone: Option<LocalZone>,
    /// When the own zone does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_zone: Option<CrossZone>,
}

/// Inside the own zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalZone {
    /// Labels whose value the caller and an endpoint share if they are near each other; the first that they share counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affinity_tags: Vec<AffinityTag>,
}

/// A label that says what is near.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AffinityTag {
    /// Its key.
    pub key: String,
    /// Its share of the traffic, against the other tags and 1 for all else. Without weights the first tag gets 90 %, the next
    /// 9 %, and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// When the own zone does not serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrossZone {
    /// Rules; earlier ones are preferred, and a zone that none names gets nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<Failover>,
    /// From when on the next rule takes its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_threshold: Option<FailoverThreshold>,
}

/// Which zones take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failover {
    /// Callers of which zones; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromZones>,
    /// The zones.
    pub to: ToZones,
}

/// Zones of callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FromZones {
    /// Their names.
    pub zones: Vec<String>,
}

/// Zones that take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToZones {
    /// How `zones` is meant.
    #[serde(rename = "type")]
    pub kind: ToZonesKind,
    /// Names of zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
}

/// How a list of zones is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ToZonesKind {
    /// No zone.
    None,
    /// Those of the list.
    Only,
    /// Every zone.
    Any,
    /// Every zone that is not in the list.
    AnyExcept,
}

/// From when on the next rule takes its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverThreshold {
    /// When fewer endpoints than this percentage are healthy. 50, unless set.
    pub percentage: Decimal,
}

/// An algorithm and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Which.
    #[serde(rename = "type")]
    pub kind: LoadBalancerKind,
    /// Settings of RoundRobin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_robin: Option<NoSettings>,
    /// Settings of LeastRequest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_request: Option<LeastRequest>,
    /// Settings of RingHash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_hash: Option<RingHash>,
    /// Settings of Random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<NoSettings>,
    /// Settings of Maglev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maglev: Option<Maglev>,
}

/// The algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerKind {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests in flight, of a few that chance picks.
    LeastRequest,
    /// By hash, on a ring.
    RingHash,
    /// By chance.
    Random,
    /// By hash, in a table.
    Maglev,
}

/// Nothing to set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoSettings {}

/// Settings of LeastRequest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeastRequest {
    /// How many chance picks. 2, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub choice_count: Option<u32>,
    /// How much requests in flight count where endpoints have different weights. 1, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_request_bias: Option<Decimal>,
}

/// Settings of RingHash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// XXHash, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_function: Option<HashFunction>,
    /// Places on the ring, at least. 1024, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub min_ring_size: Option<u32>,
    /// Places on the ring, at most. 8,000,000, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8_000_000))]
    pub max_ring_size: Option<u32>,
}

/// How endpoints get their places on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashFunction {
    /// xxHash.
    XXHash,
    /// MurmurHash 2.
    MurmurHash2,
}

/// Settings of Maglev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// Places of the table, a prime number. 65537, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5_000_011))]
    pub table_size: Option<u32>,
}

/// One thing of a request that is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HashPolicy {
    /// What.
    #[serde(rename = "type")]
    pub kind: HashPolicyKind,
    /// If there is a hash after this one, those that follow do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// Of Header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Named>,
    /// Of Cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// Of Connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// Of QueryParameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_parameter: Option<Named>,
    /// Of FilterState.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter_state: Option<FilterState>,
}

/// What of a request is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashPolicyKind {
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// The caller's address.
    Connection,
    /// A parameter of the query.
    QueryParameter,
    /// What a filter of the proxy left.
    FilterState,
}

/// A header, or a parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
}

/// A cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cookie {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// If set, the proxy makes the cookie where it is absent, for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
    /// The path of such a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What of the caller's connection is hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// Its address.
    #[serde(default, rename = "sourceIP", skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<bool>,
}

/// What a filter of the proxy left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilterState {
    /// Under which key.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshLoadBalancingStrategy>);
