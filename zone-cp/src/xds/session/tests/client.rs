//! A proxy that says what the test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use atoll_envoy::{Encoded, ResourceSet, ResourceType};
use atoll_envoy_api::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    google::rpc::Status as RpcStatus,
};
use atoll_model::Revision;

use super::super::{Carry, Limits, Session, Taken};
use crate::xds::{ProxyConfig, WhyEmpty};

const SHORT: [(&str, ResourceType); 6] = [
    ("cds", ResourceType::Cluster),
    ("eds", ResourceType::Endpoints),
    ("lds", ResourceType::Listener),
    ("rds", ResourceType::Routes),
    ("sds", ResourceType::Secret),
    ("ecds", ResourceType::Extension),
];

pub(super) fn kind(short: &str) -> ResourceType {
    SHORT.iter().find(|(name, _)| *name == short).expect("a type").1
}

fn short(type_url: &str) -> &'static str {
    SHORT.iter().find(|(_, kind)| kind.type_url() == type_url).expect("a type").0
}

/// A resource whose body says nothing.
pub(super) fn resource(kind: ResourceType, name: &str, version: &str) -> Encoded {
    Encoded::new(kind, name, &()).with_version(version)
}

/// Reads `cds a=1 b=1 | lds l=1`; `l=1@80` is a listener at port 80.
pub(super) fn config(revision: u64, text: &str) -> Arc<ProxyConfig> {
    let mut set = ResourceSet::default();
    for part in text.split('|').filter(|part| !part.trim().is_empty()) {
        let mut words = part.split_whitespace();
        let kind = kind(words.next().unwrap());
        for word in words {
            let (name, version) = word.split_once('=').unwrap();
            let (version, place) = version.split_once('@').map_or((version, None), |(version, port)| (version, Some(port)));
            let resource = resource(kind, name, version);
            set.put(match place {
                None => resource,
                Some(port) => resource.at(([127, 0, 0, 1], port.parse().unwrap()).into()),
            });
        }
    }
    Arc::new(ProxyConfig::empty(Revision(revision), set, WhyEmpty::NothingToServe))
}

pub(super) struct Client {
    pub(super) session: Session,
    /// Open responses by type: the newest.
    open: BTreeMap<&'static str, DeltaDiscoveryResponse>,
    /// What Envoy says that it has: what it acknowledged.
    versions: BTreeMap<&'static str, BTreeMap<String, String>>,
    names: BTreeMap<&'static str, BTreeSet<String>>,
    config: Arc<ProxyConfig>,
    carry: Carry,
}

impl Client {
    pub(super) fn start(text: &str) -> Self {
        let config = config(1, text);
        Self {
            session: Session::new(Limits::default(), Carry::new(), Arc::clone(&config), Instant::now()),
            open: BTreeMap::new(),
            versions: BTreeMap::new(),
            names: BTreeMap::new(),
            config,
            carry: Carry::new(),
        }
    }

    /// One that has everything of `text`.
    pub(super) fn settled(text: &str) -> Self {
        let mut client = Self::start(text);
        client.ask("cds *");
        client.ask("lds *");
        for short in ["eds", "rds", "sds", "ecds"] {
            let names: Vec<_> = client.config.set().of(kind(short)).keys().map(|name| name.to_string()).collect();
            if !names.is_empty() {
                client.ask(&format!("{short} {}", names.join(" ")));
            }
        }
        while !client.drain().is_empty() {
            for short in client.open.keys().copied().collect::<Vec<_>>() {
                client.ack(short);
            }
        }
        client
    }

    pub(super) fn set(&mut self, text: &str) {
        self.config = config(self.config.revision().0 + 1, text);
        self.session.set_config(Arc::clone(&self.config));
    }

    /// `cds *`, `eds a b`.
    pub(super) fn ask(&mut self, text: &str) -> Taken {
        let (short, names) = words(text);
        self.names.entry(short).or_default().extend(names.iter().cloned());
        self.send(short, |request| request.resource_names_subscribe = names)
    }

    pub(super) fn drop_names(&mut self, text: &str) {
        let (short, names) = words(text);
        for name in &names {
            self.names.entry(short).or_default().remove(name);
            self.versions.entry(short).or_default().remove(name);
        }
        self.send(short, |request| request.resource_names_unsubscribe = names);
    }

    pub(super) fn ack(&mut self, short: &str) -> Taken {
        let response = self.open.remove(short).expect("an open response");
        let versions = self.versions.entry(self::short(&response.type_url)).or_default();
        versions.extend(response.resources.into_iter().map(|resource| (resource.name, resource.version)));
        versions.retain(|name, _| !response.removed_resources.contains(name));
        self.answer(short, &response.nonce, None)
    }

    pub(super) fn nack(&mut self, short: &str, text: &str) {
        let response = self.open.remove(short).expect("an open response");
        self.answer(short, &response.nonce, Some(text));
    }

    pub(super) fn answer(&mut self, short: &str, nonce: &str, error: Option<&str>) -> Taken {
        self.send(short, |request| {
            request.response_nonce = nonce.to_owned();
            request.error_detail = error.map(|text| RpcStatus { message: text.to_owned(), ..Default::default() });
        })
    }

    fn send(&mut self, short: &str, fill: impl FnOnce(&mut DeltaDiscoveryRequest)) -> Taken {
        let mut request = DeltaDiscoveryRequest { type_url: kind(short).type_url().to_owned(), ..Default::default() };
        fill(&mut request);
        self.session.on_request(request, Instant::now()).expect("within limits")
    }

    pub(super) fn disconnect(&mut self) {
        self.carry = self.session.carry();
        self.open.clear();
    }

    pub(super) fn connect(&mut self) {
        self.connect_with(SHORT.map(|(short, _)| short));
    }

    pub(super) fn reconnect(&mut self) {
        self.disconnect();
        self.connect();
    }

    /// Connects and asks for some types.
    pub(super) fn connect_with<const N: usize>(&mut self, types: [&str; N]) {
        let carry = std::mem::take(&mut self.carry);
        self.session = Session::new(Limits::default(), carry, Arc::clone(&self.config), Instant::now());
        for short in types {
            self.ask_again(short);
        }
    }

    /// The first request for a type on a new stream.
    pub(super) fn ask_again(&mut self, short: &str) {
        let names = self.names.get(short).cloned().unwrap_or_default();
        if names.is_empty() {
            return;
        }
        let versions = self.versions.get(short).cloned().unwrap_or_default();
        self.send(short, |request| {
            request.resource_names_subscribe = names.into_iter().collect();
            request.initial_resource_versions = versions;
        });
    }

    #[track_caller]
    pub(super) fn gets<const N: usize>(&mut self, expected: [&str; N]) {
        assert_eq!(self.drain(), expected);
    }

    fn drain(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(response) = self.session.respond() {
            texts.push(render(&response));
            let before = self.open.insert(short(&response.type_url), response);
            assert!(before.is_none(), "two responses of a type are under way");
        }
        texts
    }

    pub(super) fn applied(&self) -> Option<u64> {
        self.session.status().applied.map(|revision| revision.0)
    }

    pub(super) fn refused(&self) -> Vec<String> {
        let text = |refusal: &super::super::Refusal| {
            format!("{} {}={}: {}", refusal.kind, refusal.name, refusal.version.as_deref().unwrap_or("-"), refusal.reason)
        };
        self.session.status().refused.iter().map(text).collect()
    }
}

fn words(text: &str) -> (&'static str, Vec<String>) {
    let mut words = text.split_whitespace();
    let short = short(kind(words.next().expect("a type")).type_url());
    (short, words.map(str::to_owned).collect())
}

fn render(response: &DeltaDiscoveryResponse) -> String {
    let mut text = short(&response.type_url).to_owned();
    for resource in &response.resources {
        // Versions of tests are short; an empty assignment has the hash of its body.
        let version = if resource.version.len() < 32 { resource.version.as_str() } else { "none" };
        text.push_str(&format!(" +{}={version}", resource.name));
    }
    for name in &response.removed_resources {
        text.push_str(&format!(" -{name}"));
    }
    text
}
