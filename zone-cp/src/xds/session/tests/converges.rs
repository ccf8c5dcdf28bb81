//! Whatever happens, an Envoy ends up with what it should have.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use atoll_envoy::{ResourceSet, ResourceType};
use atoll_envoy_api::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    google::rpc::Status as RpcStatus,
};
use atoll_model::Revision;
use proptest::prelude::*;

use super::{
    super::{Carry, Limits, Session},
    client::resource,
};
use crate::xds::{ProxyConfig, WhyEmpty};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Service `index` should be there in this version (0: not at all; 3: one that Envoy refuses).
    Want { index: usize, version: u8 },
    /// The oldest response reaches Envoy.
    Deliver,
    /// The oldest request reaches the session.
    Answer,
    /// The stream breaks; what is on the way is lost.
    Break,
}

const BAD: u8 = 3;
const SERVICES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SERVICES, 0..=BAD).prop_map(|(index, version)| Step::Want { index, version }),
        5 => Just(Step::Deliver),
        5 => Just(Step::Answer),
        1 => Just(Step::Break),
    ]
}

/// As real Envoys behave: bad resources are refused, all others of the same response are taken; the versions that it reports
/// are those of responses that it did not refuse; a changed cluster waits for endpoints, and its acknowledgement with it.
#[derive(Default)]
struct Envoy {
    has: BTreeMap<ResourceType, BTreeMap<String, String>>,
    reports: BTreeMap<ResourceType, BTreeMap<String, String>>,
    endpoints: BTreeSet<String>,
    warming: BTreeSet<String>,
    held_back: Option<DeltaDiscoveryRequest>,
    names_refused: bool,
}

impl Envoy {
    fn connect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.held_back = None;
        let first = |kind: ResourceType, names: Vec<String>| DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: self.reports.get(&kind).cloned().unwrap_or_default(),
            ..Default::default()
        };
        let all = || vec!["*".to_owned()];
        let mut requests = vec![first(ResourceType::Cluster, all())];
        if !self.endpoints.is_empty() {
            requests.push(first(ResourceType::Endpoints, self.endpoints.iter().cloned().collect()));
        }
        requests.push(first(ResourceType::Listener, all()));
        requests
    }

    fn take(&mut self, mut response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        assert!(response.resources.is_empty() || response.removed_resources.is_empty(), "removals travel alone");
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        if kind == ResourceType::Endpoints {
            // Envoy ignores what it does not ask for any more.
            response.resources.retain(|resource| self.endpoints.contains(&resource.name));
        }
        let bad: Vec<_> = response.resources.iter().filter(|resource| resource.version.starts_with("bad")).collect();
        let mut requests = Vec::new();
        let has = self.has.entry(kind).or_default();
        for resource in response.resources.iter().filter(|resource| !resource.version.starts_with("bad")) {
            let before = has.insert(resource.name.clone(), resource.version.clone());
            if kind == ResourceType::Cluster && before.as_ref() != Some(&resource.version) {
                self.warming.insert(resource.name.clone());
                if self.endpoints.insert(resource.name.clone()) {
                    requests.push(subscribe(&resource.name));
                }
            }
            if kind == ResourceType::Endpoints {
                self.warming.remove(&resource.name);
            }
        }
        for name in &response.removed_resources {
            self.has.entry(kind).or_default().remove(name);
            if kind == ResourceType::Cluster {
                self.warming.remove(name);
                if self.endpoints.remove(name) {
                    self.has.entry(ResourceType::Endpoints).or_default().remove(name);
                    self.reports.entry(ResourceType::Endpoints).or_default().remove(name);
                    requests.push(unsubscribe(name));
                }
            }
        }
        let error = (!bad.is_empty()).then(|| RpcStatus {
            message: if self.names_refused { format!("{}: it is bad", bad[0].name) } else { "it is bad".to_owned() },
            ..Default::default()
        });
        if error.is_none() {
            let reports = self.reports.entry(kind).or_default();
            reports.extend(response.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())));
            reports.retain(|name, _| !response.removed_resources.contains(name));
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: error,
            ..Default::default()
        };
        if kind == ResourceType::Cluster && !self.warming.is_empty() {
            self.held_back = Some(answer);
        } else {
            requests.push(answer);
        }
        if self.warming.is_empty() {
            requests.extend(self.held_back.take());
        }
        requests
    }

    fn has(&self, kind: ResourceType) -> BTreeMap<String, String> {
        self.has.get(&kind).cloned().unwrap_or_default()
    }
}

fn subscribe(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.type_url().to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..Default::default()
    }
}

fn unsubscribe(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.type_url().to_owned(),
        resource_names_unsubscribe: vec![name.to_owned()],
        ..Default::default()
    }
}

struct World {
    wanted: [u8; SERVICES],
    revision: u64,
    session: Session,
    envoy: Envoy,
    to_envoy: VecDeque<DeltaDiscoveryResponse>,
    to_session: VecDeque<DeltaDiscoveryRequest>,
}

impl World {
    fn new(names_refused: bool) -> Self {
        let mut envoy = Envoy { names_refused, ..Default::default() };
        let wanted = [1, 1, 0, 0];
        let session = Session::new(Limits::default(), Carry::new(), config(1, wanted), Instant::now());
        let to_session = envoy.connect().into();
        Self { wanted, revision: 1, session, envoy, to_envoy: VecDeque::new(), to_session }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Want { index, version } => {
                self.wanted[*index] = *version;
                self.revision += 1;
                self.session.set_config(config(self.revision, self.wanted));
            }
            Step::Deliver => self.deliver(),
            Step::Answer => {
                if let Some(request) = self.to_session.pop_front() {
                    self.session.on_request(request, Instant::now()).unwrap();
                }
            }
            Step::Break => {
                let carry = self.session.carry();
                self.session = Session::new(Limits::default(), carry, config(self.revision, self.wanted), Instant::now());
                self.to_envoy.clear();
                self.to_session = self.envoy.connect().into();
            }
        }
        while let Some(response) = self.session.respond() {
            self.to_envoy.push_back(response);
        }
    }

    fn deliver(&mut self) {
        if let Some(response) = self.to_envoy.pop_front() {
            self.to_session.extend(self.envoy.take(response));
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.to_envoy.is_empty() && self.to_session.is_empty() {
                return;
            }
            self.step(&Step::Deliver);
            self.step(&Step::Answer);
        }
        panic!("messages go on for ever");
    }

    /// Everything wanted that is not bad is there, and nothing that is not wanted; of what is bad, at most an older version.
    fn check(&self) {
        for kind in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Endpoints] {
            let has = self.envoy.has(kind);
            for (index, version) in self.wanted.iter().enumerate() {
                let name = format!("s{index}");
                let actual = has.get(&name).map(String::as_str);
                match *version {
                    0 => assert_eq!(actual, None, "{kind} {name}"),
                    BAD if kind != ResourceType::Endpoints => assert_ne!(actual, Some("bad"), "{kind} {name}"),
                    BAD => {}
                    version => assert_eq!(actual, Some(format!("v{version}").as_str()), "{kind} {name}"),
                }
            }
        }
        assert_eq!(self.envoy.warming, BTreeSet::new(), "clusters wait for endpoints");
        assert_eq!(self.session.status().applied, Some(Revision(self.revision)));
        let mut carry = self.session.carry();
        if self.envoy.endpoints.is_empty() {
            // A proxy that asks for no endpoints settles nothing about them.
            carry.remove(&ResourceType::Endpoints);
        }
        assert_eq!(carry.values().flatten().filter(|name| !self.is_bad(name)).count(), 0);
    }

    fn is_bad(&self, name: &str) -> bool {
        (0..SERVICES).any(|index| name == format!("s{index}") && self.wanted[index] == BAD)
    }
}

/// A cluster, its endpoints and a listener for each service. Endpoints have two versions only: clusters change without them.
fn config(revision: u64, wanted: [u8; SERVICES]) -> Arc<ProxyConfig> {
    let mut set = ResourceSet::default();
    for (index, version) in wanted.into_iter().enumerate().filter(|(_, version)| *version > 0) {
        let name = format!("s{index}");
        let text = if version == BAD { "bad".to_owned() } else { format!("v{version}") };
        set.put(resource(ResourceType::Cluster, &name, &text));
        set.put(resource(ResourceType::Listener, &name, &text));
        set.put(resource(ResourceType::Endpoints, &name, &format!("v{}", version.min(BAD - 1))));
    }
    Arc::new(ProxyConfig::empty(Revision(revision), set, WhyEmpty::NothingToServe))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens(steps in prop::collection::vec(step(), 0..80), names_refused: bool) {
        let mut world = World::new(names_refused);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}
