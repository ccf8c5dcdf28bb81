//! One type of resources on one stream.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use atoll_envoy::{Encoded, ResourceMap, ResourceType, no_endpoints};
use atoll_envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use imbl::ordmap::DiffItem;

use super::refusal::{self, Refusal};

type Names = BTreeSet<Arc<str>>;

/// What is known of one type.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    /// Whether the proxy asked for this type at all.
    asked: bool,
    /// It wants all there are.
    wildcard: bool,
    /// It wants these.
    names: Names,
    /// What it has for certain once the response under way is acknowledged.
    held: ResourceMap,
    /// Names not among `held` of which it may have something: to be sent, or removed explicitly.
    uncertain: Names,
    /// Names to be sent even if the proxy says, in its first request, that it has them.
    again: Names,
    /// Asked for, and neither sent since nor said to be missing.
    unanswered: Names,
    /// The empty answer to a first request for all, when there is nothing.
    owes_answer: bool,
    under_way: Option<UnderWay>,
    refused: BTreeMap<Arc<str>, Refused>,
    /// After a refusal that names no resource: parts to be tried alone.
    parts: VecDeque<Names>,
}

/// The response that is not answered yet.
#[derive(Debug)]
struct UnderWay {
    nonce: String,
    sent: Vec<Arc<Encoded>>,
    removed: Vec<Arc<str>>,
}

#[derive(Debug)]
struct Refused {
    version: Option<Arc<str>>,
    reason: Arc<str>,
}

/// What differs from what the proxy has.
#[derive(Default)]
struct Difference {
    /// To be sent.
    sent: Vec<Arc<Encoded>>,
    /// To be removed.
    removed: Vec<Arc<str>>,
    /// There, and not sent: not asked for, or refused.
    skipped: usize,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType, carried: Names) -> Self {
        Self {
            kind,
            asked: false,
            wildcard: false,
            names: Names::new(),
            held: ResourceMap::default(),
            uncertain: carried,
            again: Names::new(),
            unanswered: Names::new(),
            owes_answer: false,
            under_way: None,
            refused: BTreeMap::new(),
            parts: VecDeque::new(),
        }
    }

    pub(super) fn kind(&self) -> ResourceType {
        self.kind
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn is_adding(&self) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| !under_way.sent.is_empty())
    }

    /// Takes the answer to the response under way, if the request is one: what was refused. An answer to another response is
    /// late, and none.
    pub(super) fn on_answer(&mut self, request: &DeltaDiscoveryRequest) -> Option<Vec<Refusal>> {
        let under_way = self.under_way.take_if(|under_way| under_way.nonce == request.response_nonce)?;
        match &request.error_detail {
            None => {
                for name in under_way.sent.iter().map(|sent| &sent.name).chain(&under_way.removed) {
                    self.refused.remove(name);
                }
                if !under_way.removed.is_empty() {
                    // What is gone may have been what stood in the way.
                    self.refused.clear();
                }
                Some(Vec::new())
            }
            Some(error) => Some(self.on_refusal(under_way, &error.message)),
        }
    }

    /// A refused response is applied in part, and only Envoy knows in which: all of it is uncertain now.
    fn on_refusal(&mut self, under_way: UnderWay, text: &str) -> Vec<Refusal> {
        for sent in &under_way.sent {
            self.held.remove(&sent.name);
            self.uncertain.insert(Arc::clone(&sent.name));
        }
        self.uncertain.extend(under_way.removed.iter().cloned());
        let named = refusal::named(text, under_way.sent.iter().map(|sent| &*sent.name));
        let meant: Vec<_> = match under_way.sent.as_slice() {
            [only] => vec![only],
            sent => sent.iter().filter(|sent| named.contains(&&*sent.name)).collect(),
        };
        if meant.is_empty() && !under_way.sent.is_empty() {
            self.halve(&under_way.sent);
            return Vec::new();
        }
        let reason: Arc<str> = refusal::reason(text).into();
        let versions = meant.iter().map(|sent| (Arc::clone(&sent.name), Some(Arc::clone(&sent.version))));
        // Envoy does not refuse removals; if it does, they are not repeated.
        let removals = under_way.removed.iter().map(|name| (Arc::clone(name), None));
        let refusals: Vec<_> = versions
            .chain(removals)
            .map(|(name, version)| Refusal { kind: self.kind, name, version, reason: Arc::clone(&reason) })
            .collect();
        for refusal in &refusals {
            let refused = Refused { version: refusal.version.clone(), reason: Arc::clone(&reason) };
            self.refused.insert(Arc::clone(&refusal.name), refused);
        }
        refusals
    }

    /// The text names nothing that was sent: the halves are tried alone, until one resource is left.
    fn halve(&mut self, sent: &[Arc<Encoded>]) {
        let (first, second) = sent.split_at(sent.len() / 2);
        for half in [second, first] {
            self.parts.push_front(half.iter().map(|sent| Arc::clone(&sent.name)).collect());
        }
    }

    /// Whether a request only asks for resources that are there and were not asked for yet: an Envoy asks for each filter of a
    /// thousand listeners by itself, and there is an end to them.
    pub(super) fn is_expected(&self, request: &DeltaDiscoveryRequest, set: &ResourceMap) -> bool {
        let names = &request.resource_names_subscribe;
        !names.is_empty()
            && request.resource_names_unsubscribe.is_empty()
            && names.iter().all(|name| set.contains_key(name.as_str()) && !self.names.contains(name.as_str()))
    }

    /// Takes what a request says about names. `set` is what the proxy should have.
    pub(super) fn subscribe(&mut self, request: &DeltaDiscoveryRequest, set: &ResourceMap) {
        let first = !std::mem::replace(&mut self.asked, true);
        let by_default = matches!(self.kind, ResourceType::Cluster | ResourceType::Listener);
        if first && request.resource_names_subscribe.is_empty() && by_default {
            self.wildcard = true;
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                self.wildcard = true;
            } else {
                let name: Arc<str> = name.as_str().into();
                // Asking again for what it has means that Envoy lost it.
                self.held.remove(&name);
                self.unanswered.insert(Arc::clone(&name));
                self.names.insert(name);
            }
        }
        for name in &request.resource_names_unsubscribe {
            self.unsubscribe(name);
        }
        if first {
            self.owes_answer = self.wildcard && request.initial_resource_versions.is_empty();
            self.take_versions(request, set);
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let names = &self.names;
            self.held = self.held.iter().filter(|(name, _)| names.contains(*name)).map(|(n, r)| (n.clone(), r.clone())).collect();
        } else {
            self.names.remove(name);
            self.unanswered.remove(name);
            if !self.wildcard {
                self.held.remove(name);
                self.uncertain.remove(name);
            }
        }
    }

    /// What a reconnecting Envoy says that it has: true, but for what was uncertain when its last stream ended.
    fn take_versions(&mut self, request: &DeltaDiscoveryRequest, set: &ResourceMap) {
        for (name, version) in &request.initial_resource_versions {
            let name: Arc<str> = name.as_str().into();
            let again = self.again.contains(&name);
            if !again {
                // It has something, and waits for nothing.
                self.unanswered.remove(&name);
            }
            match set.get(&name).filter(|resource| *resource.version == **version) {
                Some(resource) if !again && !self.uncertain.contains(&name) => {
                    self.held.insert(name, Arc::clone(resource));
                }
                Some(_) | None => {
                    self.uncertain.insert(name);
                }
            }
        }
        self.again.clear();
    }

    /// Marks names to be sent even if unchanged, or said to be missing if they are not there any more when their turn comes.
    pub(super) fn send_again<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.held.remove(name);
            if !self.asked {
                self.again.insert(name.into());
            } else if self.names.contains(name) {
                self.unanswered.insert(name.into());
            }
        }
    }

    /// The next response that adds or changes something, or says what is missing.
    pub(super) fn addition(&mut self, set: &ResourceMap, nonce: u64) -> Option<DeltaDiscoveryResponse> {
        if !self.asked || self.under_way.is_some() {
            return None;
        }
        let mut difference = self.difference(set);
        if !self.parts.is_empty() {
            difference = self.next_part(difference);
        }
        if !difference.sent.is_empty() {
            return Some(self.send(set, difference, nonce));
        }
        self.answer_missing(set, nonce).or_else(|| {
            // Nothing has to be added. An Envoy that starts waits for an answer all the same.
            (self.owes_answer && difference.removed.is_empty()).then(|| self.respond(Vec::new(), Vec::new(), nonce))
        })
    }

    fn difference(&self, set: &ResourceMap) -> Difference {
        let mut difference = Difference::default();
        for item in self.held.diff(set) {
            match item {
                DiffItem::Add(name, new) | DiffItem::Update { new: (name, new), .. } => {
                    if self.wants(name) && !self.is_refused(name, Some(&new.version)) {
                        difference.sent.push(Arc::clone(new));
                    } else {
                        difference.skipped += 1;
                    }
                }
                DiffItem::Remove(name, _) => difference.removed.push(Arc::clone(name)),
            }
        }
        difference.removed.extend(self.uncertain.iter().filter(|name| self.wants(name) && !set.contains_key(*name)).cloned());
        difference.removed.retain(|name| !self.is_refused(name, None));
        self.wait_for_places(&mut difference);
        difference
    }

    /// Holds back listeners at places of others that are to go: Envoy takes one after the other only.
    fn wait_for_places(&self, difference: &mut Difference) {
        let place = |name: &Arc<str>| self.held.get(name).and_then(|resource| resource.place);
        let leaving: BTreeSet<_> = difference.removed.iter().filter_map(place).collect();
        if leaving.is_empty() {
            return;
        }
        let before = difference.sent.len();
        difference.sent.retain(|resource| resource.place.is_none_or(|place| !leaving.contains(&place)));
        difference.skipped += before - difference.sent.len();
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn is_refused(&self, name: &str, version: Option<&Arc<str>>) -> bool {
        self.refused.get(name).is_some_and(|refused| refused.version.as_ref() == version)
    }

    /// What is left of the first part that has anything left.
    fn next_part(&mut self, difference: Difference) -> Difference {
        while let Some(part) = self.parts.pop_front() {
            let sent: Vec<_> = difference.sent.iter().filter(|resource| part.contains(&resource.name)).cloned().collect();
            if !sent.is_empty() {
                return Difference {
                    skipped: difference.skipped + difference.sent.len() - sent.len(),
                    sent,
                    removed: difference.removed,
                };
            }
        }
        difference
    }

    fn send(&mut self, set: &ResourceMap, difference: Difference, nonce: u64) -> DeltaDiscoveryResponse {
        if difference.skipped == 0 && difference.removed.is_empty() {
            // The same, and sharing all its parts: the next comparison is short.
            self.held = set.clone();
        } else {
            for resource in &difference.sent {
                self.held.insert(Arc::clone(&resource.name), Arc::clone(resource));
            }
        }
        for resource in &difference.sent {
            self.uncertain.remove(&resource.name);
            self.unanswered.remove(&resource.name);
        }
        self.respond(difference.sent, Vec::new(), nonce)
    }

    /// Tells of names that were asked for and are not there, so that Envoy does not wait for them. It goes on waiting for
    /// secrets and filters: without them it would serve less safely than it should.
    fn answer_missing(&mut self, set: &ResourceMap, nonce: u64) -> Option<DeltaDiscoveryResponse> {
        let missing: Names = self.unanswered.iter().filter(|name| !set.contains_key(*name)).cloned().collect();
        if missing.is_empty() {
            return None;
        }
        match self.kind {
            ResourceType::Secret | ResourceType::Extension => None,
            ResourceType::Endpoints => {
                self.unanswered.retain(|name| !missing.contains(name));
                let none = missing.iter().map(|name| Arc::new(no_endpoints(name))).collect();
                Some(self.respond(none, Vec::new(), nonce))
            }
            ResourceType::Cluster | ResourceType::Listener | ResourceType::Routes => {
                self.unanswered.retain(|name| !missing.contains(name));
                Some(self.respond(Vec::new(), missing.into_iter().collect(), nonce))
            }
        }
    }

    /// The next response that removes something.
    pub(super) fn removal(&mut self, set: &ResourceMap, nonce: u64) -> Option<DeltaDiscoveryResponse> {
        if !self.asked || self.under_way.is_some() {
            return None;
        }
        let removed = self.difference(set).removed;
        if removed.is_empty() {
            return None;
        }
        for name in &removed {
            self.held.remove(name);
            self.uncertain.remove(name);
        }
        Some(match self.kind {
            ResourceType::Endpoints => {
                let none = removed.iter().map(|name| Arc::new(no_endpoints(name))).collect();
                self.respond(none, Vec::new(), nonce)
            }
            ResourceType::Cluster
            | ResourceType::Listener
            | ResourceType::Routes
            | ResourceType::Secret
            | ResourceType::Extension => self.respond(Vec::new(), removed, nonce),
        })
    }

    fn respond(&mut self, sent: Vec<Arc<Encoded>>, removed: Vec<Arc<str>>, nonce: u64) -> DeltaDiscoveryResponse {
        self.owes_answer = false;
        let response = DeltaDiscoveryResponse {
            type_url: self.kind.type_url().to_owned(),
            nonce: nonce.to_string(),
            resources: sent.iter().map(|resource| on_wire(resource)).collect(),
            removed_resources: removed.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        };
        self.under_way = Some(UnderWay { nonce: response.nonce.clone(), sent, removed });
        response
    }

    /// What the proxy asked for and acknowledged, and the versions; to be called while nothing is under way.
    pub(super) fn acknowledged(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let asked = self.held.iter().filter(|(name, held)| self.wants(name) && !self.is_refused(name, Some(&held.version)));
        asked.map(|(name, held)| (Arc::clone(name), Arc::clone(&held.version))).collect()
    }

    /// What the proxy refuses of `set`.
    pub(super) fn refusals(&self, set: &ResourceMap) -> Vec<Refusal> {
        let in_force =
            |name: &Arc<str>, refused: &Refused| set.get(name).map(|resource| &resource.version) == refused.version.as_ref();
        let refusal = |(name, refused): (&Arc<str>, &Refused)| Refusal {
            kind: self.kind,
            name: Arc::clone(name),
            version: refused.version.clone(),
            reason: Arc::clone(&refused.reason),
        };
        self.refused.iter().filter(|(name, refused)| in_force(name, refused)).map(refusal).collect()
    }

    /// Names of which nobody knows what the proxy has.
    pub(super) fn uncertain(&self) -> Names {
        let under_way = self.under_way.iter().flat_map(|under_way| {
            under_way.sent.iter().map(|sent| Arc::clone(&sent.name)).chain(under_way.removed.iter().cloned())
        });
        self.uncertain.iter().cloned().chain(under_way).filter(|name| !self.asked || self.wants(name)).collect()
    }
}

fn on_wire(resource: &Encoded) -> Resource {
    Resource {
        name: resource.name.to_string(),
        version: resource.version.to_string(),
        resource: Some(prost_types::Any { type_url: resource.kind.type_url().to_owned(), value: resource.body.to_vec() }),
        ..Default::default()
    }
}
