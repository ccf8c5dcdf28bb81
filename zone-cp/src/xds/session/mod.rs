//! One discovery stream of one proxy, without I/O: requests and configurations in, responses out.
//!
//! [`Session::respond`] answers what is due, one response at a time; the caller sends it and asks again until there is none.
//! What is due follows from comparing what the proxy should have with what it was sent; there is no queue, so changes that
//! come while a response is under way are merged into the next.
//!
//! Rules, each the lesson of an Envoy:
//! - One response of each type is under way.
//! - Additions go first, what is referred to before what refers to it; removals go last, alone and in the opposite order: a
//!   refused response is applied in part, its removals always, and a removal must not overtake its replacement.
//! - The exception: a listener at the place of another that is to go waits until that one is gone.
//! - A changed cluster's endpoints follow at once, even unchanged: the cluster waits for them, and Envoy does not ask again.
//! - Removed endpoints are sent as an empty assignment: Envoy acknowledges the removal of endpoints and ignores it.
//! - After a refusal the rest is sent again at once. What was refused is not, until it changes; the proxy keeps what it had.
//! - What was sent and not acknowledged is uncertain, whatever a reconnecting Envoy says: see [`Carry`].

mod bucket;
mod refusal;
mod subscription;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use atoll_envoy::ResourceType;
use atoll_envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use atoll_model::Revision;
use bucket::Bucket;
pub use refusal::Refusal;
use subscription::Subscription;

use super::ProxyConfig;

/// What one proxy may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names, over all types.
    pub subscriptions: usize,
    /// Requests a second that answer nothing and ask for nothing new; twice as many may come at once. More are not refused but
    /// read later.
    pub requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { subscriptions: 5_000, requests_per_second: 50 }
    }
}

/// Names of which a proxy may or may not have a resource, by type: sent and not acknowledged when its stream ended, or refused.
/// To be given to the session of its next stream, for what Envoy then says it has is wrong about them.
pub type Carry = BTreeMap<ResourceType, BTreeSet<Arc<str>>>;

/// What an operator sees of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The proxy has everything of this revision, but what it refused.
    pub applied: Option<Revision>,
    /// What it refuses now.
    pub refused: Vec<Refusal>,
    /// Responses sent.
    pub sent: u64,
    /// Responses refused.
    pub nacks: u64,
    /// The secrets that it acknowledged, by name, and their versions.
    pub secrets: BTreeMap<Arc<str>, Arc<str>>,
}

/// What a request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was refused, if it was a refusal.
    pub refused: Vec<Refusal>,
    /// How long to wait before the next request is read.
    pub pause: Duration,
}

/// A request that ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More names than [`Limits::subscriptions`].
    #[error("more than {0} subscriptions")]
    TooManySubscriptions(usize),
}

/// One stream.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    bucket: Bucket,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    config: Arc<ProxyConfig>,
    nonce: u64,
    status: Status,
    /// Raised whenever [`Session::carry`] may differ.
    carried: u64,
}

/// Removals: what refers goes before what it refers to.
const REMOVALS: [ResourceType; 6] = [
    ResourceType::Listener,
    ResourceType::Routes,
    ResourceType::Extension,
    ResourceType::Cluster,
    ResourceType::Endpoints,
    ResourceType::Secret,
];

impl Session {
    /// A new stream of a proxy that should have `config`, and whose last stream left `carry`.
    pub fn new(limits: Limits, mut carry: Carry, config: Arc<ProxyConfig>, now: Instant) -> Self {
        // Clusters that may have changed may wait for their endpoints.
        let waiting = carry.get(&ResourceType::Cluster).cloned().unwrap_or_default();
        let subscription = |kind| (kind, Subscription::new(kind, carry.remove(&kind).unwrap_or_default()));
        let mut subscriptions: BTreeMap<_, _> = ResourceType::ALL.into_iter().map(subscription).collect();
        if let Some(endpoints) = subscriptions.get_mut(&ResourceType::Endpoints) {
            endpoints.send_again(waiting.iter().map(AsRef::as_ref));
        }
        Self {
            limits,
            bucket: Bucket::new(limits.requests_per_second, now),
            subscriptions,
            config,
            nonce: 0,
            status: Status::default(),
            carried: 1,
        }
    }

    /// What the proxy should have from now on.
    pub fn set_config(&mut self, config: Arc<ProxyConfig>) {
        self.config = config;
    }

    /// Takes a request. One about a type that is not served is ignored.
    ///
    /// # Errors
    /// When the stream must end.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest, now: Instant) -> Result<Taken, Violation> {
        let mut taken = Taken { refused: Vec::new(), pause: Duration::ZERO };
        let subscription = ResourceType::from_type_url(&request.type_url).and_then(|kind| self.subscriptions.get_mut(&kind));
        let Some(subscription) = subscription else {
            taken.pause = self.bucket.take(now);
            return Ok(taken);
        };
        let set = self.config.set().of(subscription.kind());
        let first = !subscription.is_asked();
        let answer = subscription.on_answer(&request);
        self.carried += u64::from(first || answer.is_some() || !request.resource_names_unsubscribe.is_empty());
        match answer {
            None if subscription.is_expected(&request, set) => {}
            None => taken.pause = self.bucket.take(now),
            Some(refused) => {
                self.status.nacks += u64::from(request.error_detail.is_some());
                taken.refused = refused;
            }
        }
        subscription.subscribe(&request, set);
        let names: usize = self.subscriptions.values().map(Subscription::names).sum();
        if names > self.limits.subscriptions {
            return Err(Violation::TooManySubscriptions(self.limits.subscriptions));
        }
        Ok(taken)
    }

    /// The next response that is due. `None`: nothing is, until a request or a configuration comes.
    pub fn respond(&mut self) -> Option<DeltaDiscoveryResponse> {
        let config = Arc::clone(&self.config);
        let response = self.addition(&config).or_else(|| self.removal(&config));
        match &response {
            Some(_) => self.status.sent += 1,
            None => self.look_at_status(&config),
        }
        response
    }

    fn addition(&mut self, config: &ProxyConfig) -> Option<DeltaDiscoveryResponse> {
        for kind in ResourceType::ALL {
            let subscription = self.subscriptions.get_mut(&kind)?;
            if let Some(response) = subscription.addition(config.set().of(kind), self.nonce + 1) {
                if kind == ResourceType::Cluster
                    && let Some(endpoints) = self.subscriptions.get_mut(&ResourceType::Endpoints)
                {
                    endpoints.send_again(response.resources.iter().map(|resource| resource.name.as_str()));
                }
                return Some(self.finish(response, config));
            }
        }
        None
    }

    fn removal(&mut self, config: &ProxyConfig) -> Option<DeltaDiscoveryResponse> {
        if !self.is_asked() || self.subscriptions.values().any(Subscription::is_adding) {
            return None;
        }
        for kind in REMOVALS {
            let subscription = self.subscriptions.get_mut(&kind)?;
            if let Some(response) = subscription.removal(config.set().of(kind), self.nonce + 1) {
                return Some(self.finish(response, config));
            }
            if subscription.is_under_way() {
                return None;
            }
        }
        None
    }

    /// Whether the proxy asked for all that it will refer to: a reconnecting Envoy asks for one type after the other, and only
    /// then is it known whether it has listeners that refer to clusters that are to go.
    fn is_asked(&self) -> bool {
        [ResourceType::Cluster, ResourceType::Listener].iter().all(|kind| self.subscriptions[kind].is_asked())
    }

    fn finish(&mut self, mut response: DeltaDiscoveryResponse, config: &ProxyConfig) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        self.carried += 1;
        response.system_version_info = config.revision().to_string();
        response
    }

    /// Nothing is due: if nothing is under way either, the proxy has it all.
    fn look_at_status(&mut self, config: &ProxyConfig) {
        if self.is_asked() && !self.subscriptions.values().any(Subscription::is_under_way) {
            self.status.applied = Some(config.revision());
            self.status.secrets = self.subscriptions[&ResourceType::Secret].acknowledged();
        }
        let refusals = |(kind, subscription): (&ResourceType, &Subscription)| subscription.refusals(config.set().of(*kind));
        self.status.refused = self.subscriptions.iter().flat_map(refusals).collect();
    }

    /// What an operator sees. Up to date after [`Session::respond`] answered `None`.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Equal as long as [`Session::carry`] is.
    pub fn carry_version(&self) -> u64 {
        self.carried
    }

    /// What the session of this proxy's next stream must know.
    pub fn carry(&self) -> Carry {
        let uncertain = self.subscriptions.iter().map(|(kind, subscription)| (*kind, subscription.uncertain()));
        uncertain.filter(|(_, names)| !names.is_empty()).collect()
    }
}
