//! The owner of all proxies' configuration.

mod rounds;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use atoll_envoy::{Cache, ProxyInputs, ResourceSet, generate, secret};
use atoll_mesh::{
    MeshSnapshot,
    snapshot::{NameTarget, OrdMap, ProxyIdentity, ProxyView, Service},
    trust::TrustBundles,
};
use atoll_model::{Clock, Name, ResourceKey, Revision, Timestamp};
use atoll_policy::PermissionSet;
use atoll_runtime::tasks::Tasks;
use atoll_store::Store;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    chains::ChainState,
    made::MadeOf,
    memory::{self, Remembered},
    waiting::{AllWaiting, WaitingList},
};
use crate::{
    engine::ZoneView,
    identity::{Identities, IssuedSecret},
    runners::{Binder, Bound, NameTable, NameTables, ProxyId, Wishes},
    xds::{ProxyConfig, WhyEmpty},
};

/// Handle to the owner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxies {
    commands: mpsc::UnboundedSender<Command>,
    renewal: watch::Receiver<Option<Timestamp>>,
    waiting: watch::Receiver<AllWaiting>,
}

#[derive(Debug)]
enum Command {
    /// An Envoy wants its configuration.
    Configure { id: ProxyId, to: watch::Sender<Option<Arc<ProxyConfig>>> },
    /// A runner wants its names.
    Name { id: ProxyId, wishes: Wishes, to: watch::Sender<Arc<NameTable>> },
}

impl Proxies {
    /// Starts the owner.
    ///
    /// # Errors
    /// When what is remembered of proxies cannot be read.
    pub async fn start(parts: Parts, tasks: &Tasks, stop: CancellationToken) -> Result<Self, atoll_store::StoreError> {
        let remembered = memory::load(&parts.store).await?;
        remembered.keys().for_each(|id| parts.identities.acknowledgements().expect(id));
        let (commands, inbox) = mpsc::unbounded_channel();
        let (shown, renewal) = watch::channel(None);
        let (list, waiting) = WaitingList::new();
        tasks.spawn("proxies", Builder::new(parts, remembered, shown, list).run(inbox, stop));
        Ok(Self { commands, renewal, waiting })
    }

    /// When the first of the certificates of connected proxies is renewed.
    pub fn renewal(&self) -> watch::Receiver<Option<Timestamp>> {
        self.renewal.clone()
    }

    /// The connected proxies whose certificate cannot be issued at present.
    pub fn waiting(&self) -> watch::Receiver<AllWaiting> {
        self.waiting.clone()
    }

    /// What a proxy should have, now and later; `None` until its Dataplane is known here.
    pub fn subscribe(&self, id: &ProxyId) -> watch::Receiver<Option<Arc<ProxyConfig>>> {
        let (to, receiver) = watch::channel(None);
        let _ = self.commands.send(Command::Configure { id: id.clone(), to });
        receiver
    }
}

impl NameTables for Proxies {
    fn subscribe(&self, id: &ProxyId, wishes: Wishes) -> watch::Receiver<Arc<NameTable>> {
        let (to, receiver) = watch::channel(Arc::default());
        let _ = self.commands.send(Command::Name { id: id.clone(), wishes, to });
        receiver
    }
}

/// What the owner works with.
pub struct Parts {
    /// Newest snapshots.
    pub view: watch::Receiver<Arc<ZoneView>>,
    /// Certificates.
    pub identities: Arc<Identities>,
    /// For what is remembered.
    pub store: Store,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
}

struct Builder {
    parts: Parts,
    cache: Cache,
    proxies: BTreeMap<ProxyId, Proxy>,
    remembered: BTreeMap<ProxyId, Remembered>,
    /// What each proxy's inbounds granted when their epochs were last looked at: equal pointers need no second look.
    granted: BTreeMap<ProxyId, Granted>,
    /// Rows that are not written yet.
    unsaved: BTreeSet<ProxyId>,
    /// The encoded certificate of each proxy.
    certificates: BTreeMap<ProxyId, Arc<atoll_envoy::Encoded>>,
    /// The encoded trust bundle of each mesh, by the bundle's fingerprint.
    bundles: BTreeMap<Name, (u128, Arc<atoll_envoy::Encoded>)>,
    /// When the first of the issued certificates must be renewed.
    renew_at: Option<Timestamp>,
    shown: watch::Sender<Option<Timestamp>>,
    waiting: WaitingList,
}

/// One proxy that somebody listens for.
#[derive(Default)]
struct Proxy {
    configs: Vec<watch::Sender<Option<Arc<ProxyConfig>>>>,
    names: Vec<watch::Sender<Arc<NameTable>>>,
    binder: Option<Binder>,
    bound: Option<Arc<BoundFor>>,
    config: Option<Arc<ProxyConfig>>,
    /// What `config` and `table` were made of; none when they must be made again.
    made: Option<MadeOf>,
    table: Arc<NameTable>,
    /// The shapes in `table`; none when the names must be looked at again.
    shapes: Option<Arc<BTreeSet<String>>>,
}

/// What the inbounds of a proxy grant, by section.
struct Granted {
    trust: u128,
    permissions: BTreeMap<String, Arc<PermissionSet>>,
}

impl Granted {
    fn is(&self, other: &Self) -> bool {
        let same = |(one, other): ((&String, &Arc<PermissionSet>), (&String, &Arc<PermissionSet>))| {
            one.0 == other.0 && Arc::ptr_eq(one.1, other.1)
        };
        self.trust == other.trust
            && self.permissions.len() == other.permissions.len()
            && self.permissions.iter().zip(&other.permissions).all(same)
    }
}

/// Where a proxy listens, and the services and names for which that was found.
struct BoundFor {
    services: OrdMap<ResourceKey, Arc<Service>>,
    names: Arc<BTreeMap<String, NameTarget>>,
    bound: Bound,
}

impl Builder {
    fn new(
        parts: Parts,
        remembered: BTreeMap<ProxyId, Remembered>,
        shown: watch::Sender<Option<Timestamp>>,
        waiting: WaitingList,
    ) -> Self {
        Self {
            parts,
            cache: Cache::default(),
            proxies: BTreeMap::new(),
            remembered,
            granted: BTreeMap::new(),
            certificates: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            bundles: BTreeMap::new(),
            renew_at: None,
            shown,
            waiting,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>, stop: CancellationToken) {
        let mut identities = self.parts.identities.changed();
        loop {
            let retry = self.waiting.wake();
            let renew = self.renew_at.map(|at| (at - self.parts.clock.now()).to_std().unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.parts.view.changed() => if changed.is_err() { return } else { self.follow() },
                changed = identities.changed() => if changed.is_err() { return } else { self.build_all() },
                command = inbox.recv() => match command {
                    None => return,
                    Some(command) => {
                        let mut touched = BTreeSet::from([self.take(command)]);
                        while let Ok(command) = inbox.try_recv() {
                            touched.insert(self.take(command));
                        }
                        self.build_some(&touched);
                    }
                },
                () = tokio::time::sleep(renew.unwrap_or_default()), if renew.is_some() => self.build_all(),
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    let due = self.waiting.due(Instant::now()).into_iter().collect();
                    self.build_some(&due);
                }
            }
            self.waiting.show();
            self.shown.send_replace(self.renew_at);
            self.save().await;
        }
    }

    fn take(&mut self, command: Command) -> ProxyId {
        match command {
            Command::Configure { id, to } => {
                let proxy = self.proxies.entry(id.clone()).or_default();
                to.send_replace(proxy.config.clone());
                proxy.configs.push(to);
                id
            }
            Command::Name { id, wishes: Wishes { bind_outbounds: range, access_log }, to } => {
                let remembered = self.remembered.entry(id.clone()).or_default();
                if remembered.access_log != access_log {
                    remembered.access_log = access_log;
                    self.unsaved.insert(id.clone());
                }
                if remembered.range != range {
                    (remembered.range, remembered.vips) = (range, Vec::new());
                    self.unsaved.insert(id.clone());
                    let proxy = self.proxies.entry(id.clone()).or_default();
                    (proxy.binder, proxy.bound) = (None, None);
                }
                let proxy = self.proxies.entry(id.clone()).or_default();
                to.send_replace(Arc::clone(&proxy.table));
                proxy.names.push(to);
                id
            }
        }
    }

    fn build_one(&mut self, id: &ProxyId, snapshot: &Arc<MeshSnapshot>, view: &ZoneView) {
        let Some(mut proxy) = self.proxies.remove(id) else { return };
        let dataplane = snapshot.dataplanes.get(&id.name).cloned();
        let own = dataplane.as_ref().and_then(|dataplane| dataplane.spec.networking.as_ref()?.address.parse::<IpAddr>().ok());
        let held = proxy
            .bound
            .take()
            .filter(|held| held.services.ptr_eq(&snapshot.services) && Arc::ptr_eq(&held.names, &snapshot.names));
        let bound = match held {
            Some(held) => held,
            None => {
                let bound = self.bind(id, &mut proxy, snapshot, own);
                proxy.shapes = None;
                Arc::new(BoundFor { services: snapshot.services.clone(), names: Arc::clone(&snapshot.names), bound })
            }
        };
        proxy.publish_names(&bound.bound, &view.name_shapes);
        proxy.bound = Some(Arc::clone(&bound));
        proxy.made = None;
        // A proxy whose Dataplane is not known keeps what it has: nothing is taken away because something is missing.
        if let Some(dataplane) = dataplane
            && let Some(set) = self.resources(id, snapshot, &dataplane, &bound.bound)
        {
            proxy.made = Some(MadeOf::new(snapshot, &view.name_shapes, dataplane, self.cache.leases()));
            proxy.publish(view.revision, set);
        }
        self.proxies.insert(id.clone(), proxy);
    }

    fn bind(&mut self, id: &ProxyId, proxy: &mut Proxy, snapshot: &MeshSnapshot, own: Option<IpAddr>) -> Bound {
        let remembered = self.remembered.entry(id.clone()).or_default();
        let binder = proxy.binder.get_or_insert_with(|| {
            let mut binder = Binder::new(remembered.range, own);
            for vip in &remembered.vips {
                binder.bind([(*vip, 0)], []);
            }
            binder
        });
        let ports = snapshot.services.values().flat_map(|service| {
            let vip = service.vip;
            service.ports.iter().filter_map(move |port| Some((vip?, port.port)))
        });
        let bound = binder.bind(ports, snapshot.names.iter().map(|(name, target)| (name.as_str(), target.vip)));
        if remembered.range.is_some() {
            let known: BTreeSet<IpAddr> = remembered.vips.iter().copied().collect();
            let vips: BTreeSet<IpAddr> = snapshot.services.values().filter_map(|service| service.vip).collect();
            let new: Vec<IpAddr> = vips.difference(&known).copied().collect();
            if !new.is_empty() {
                remembered.vips.extend(new);
                self.unsaved.insert(id.clone());
            }
        }
        bound
    }

    /// All resources; `None` while the certificate that the proxy needs cannot be issued: what it has stays in force.
    fn resources(
        &mut self,
        id: &ProxyId,
        snapshot: &Arc<MeshSnapshot>,
        dataplane: &ProxyView,
        bound: &Bound,
    ) -> Option<ResourceSet> {
        let policies = snapshot.policies.for_proxy(&dataplane.labels, dataplane.key.owner);
        let mut secrets = Vec::new();
        if dataplane.identity.is_none() {
            self.waiting.done(id);
        }
        if let Some(identity) = &dataplane.identity {
            let issued = self.issued(id, identity)?;
            self.renew_at = Some(self.renew_at.map_or(issued.renew_at, |at| at.min(issued.renew_at)));
            let held = self.certificates.get(id).filter(|held| *held.version == *issued.version && *held.name == *issued.name);
            let certificate = held.cloned().unwrap_or_else(|| {
                Arc::new(secret::identity(&issued.name, &issued.chain_pem, issued.key_pem.expose(), &issued.version))
            });
            self.certificates.insert(id.clone(), Arc::clone(&certificate));
            secrets.push(certificate);
            secrets.push(self.bundle(&snapshot.mesh, &snapshot.trust));
        }
        let chains = self.chains(id, snapshot, dataplane, &policies);
        let access_log = self.remembered.get(id).is_some_and(|remembered| remembered.access_log);
        let inputs =
            ProxyInputs { snapshot, proxy: dataplane, policies: &policies, bound: &bound.sockets, chains: &chains, access_log };
        let mut set = generate(&inputs, &mut self.cache);
        for secret in secrets {
            set.put_shared(secret);
        }
        Some(set)
    }

    /// The proxy's certificate; without one it is tried again later.
    fn issued(&mut self, id: &ProxyId, identity: &ProxyIdentity) -> Option<IssuedSecret> {
        let now = self.parts.clock.now();
        let issued = match self.parts.identities.secret_for(id, identity, now) {
            Ok(issued) => issued,
            Err(error) => {
                self.waiting.failed(id, error.to_string(), None, now);
                return None;
            }
        };
        match &issued.fault {
            Some(fault) => self.waiting.failed(id, fault.clone(), Some(issued.not_after), now),
            None => self.waiting.done(id),
        }
        Some(issued)
    }

    fn bundle(&mut self, mesh: &Name, trust: &TrustBundles) -> Arc<atoll_envoy::Encoded> {
        let fingerprint = trust.fingerprint();
        match self.bundles.get(mesh) {
            Some((held, encoded)) if *held == fingerprint => Arc::clone(encoded),
            Some(_) | None => {
                let encoded = Arc::new(secret::trust_bundle(trust));
                self.parts.identities.acknowledgements().offered(mesh, &encoded.version, trust.clone());
                self.bundles.insert(mesh.clone(), (fingerprint, Arc::clone(&encoded)));
                encoded
            }
        }
    }

    /// The epoch of each inbound's chain; see [`super::chains`].
    fn chains(
        &mut self,
        id: &ProxyId,
        snapshot: &MeshSnapshot,
        dataplane: &ProxyView,
        policies: &atoll_policy::SelectedPolicies,
    ) -> BTreeMap<String, u64> {
        let networking = dataplane.spec.networking.iter();
        let sections = networking.flat_map(|networking| networking.inbound.iter().map(|inbound| inbound.section()));
        let granted: Granted = Granted {
            trust: snapshot.trust.fingerprint(),
            permissions: sections
                .map(|section| {
                    let set = policies.permissions(&section);
                    (section, set)
                })
                .collect(),
        };
        let remembered = self.remembered.entry(id.clone()).or_default();
        if self.granted.get(id).is_none_or(|held| !held.is(&granted)) {
            let trusted = anchors(&snapshot.trust);
            let next = |(section, permissions): (&String, &Arc<PermissionSet>)| {
                (section.clone(), ChainState::next(remembered.chains.get(section), permissions, trusted.clone()))
            };
            let states: BTreeMap<String, ChainState> = granted.permissions.iter().map(next).collect();
            if remembered.chains != states {
                remembered.chains = states;
                self.unsaved.insert(id.clone());
            }
            self.granted.insert(id.clone(), granted);
        }
        remembered.chains.iter().map(|(section, state)| (section.clone(), state.epoch)).collect()
    }

    async fn save(&mut self) {
        if self.unsaved.is_empty() {
            return;
        }
        let rows = self.unsaved.iter().filter_map(|id| Some((id.clone(), self.remembered.get(id)?.clone()))).collect();
        match memory::save(&self.parts.store, rows).await {
            Ok(()) => self.unsaved.clear(),
            // Tried again with the next change; a restart before that costs a drain of the chains concerned.
            Err(error) => tracing::warn!(%error, "cannot remember the state of proxies"),
        }
    }
}

/// Trust anchors as texts: domain and certificate.
fn anchors(trust: &TrustBundles) -> BTreeSet<String> {
    let hash = |pem: &str| xxhash_rust::xxh3::xxh3_64(pem.as_bytes());
    trust.bundles().iter().flat_map(|(domain, pems)| pems.iter().map(move |pem| format!("{domain}#{:016x}", hash(pem)))).collect()
}

impl Proxy {
    fn is_wanted(&mut self) -> bool {
        self.configs.retain(|sender| !sender.is_closed());
        self.names.retain(|sender| !sender.is_closed());
        !self.configs.is_empty() || !self.names.is_empty()
    }

    fn publish(&mut self, revision: Revision, set: ResourceSet) {
        if self.config.as_ref().is_some_and(|held| held.set().ptr_eq(&set) || *held.set() == set) {
            return;
        }
        // The Dataplane is there, so an empty set is what it asks for.
        let config = ProxyConfig::new(revision, set.clone())
            .unwrap_or_else(|_| ProxyConfig::empty(revision, set, WhyEmpty::NothingToServe));
        let config = Arc::new(config);
        self.config = Some(Arc::clone(&config));
        for sender in &self.configs {
            sender.send_replace(Some(Arc::clone(&config)));
        }
    }

    /// Shows the names, unless neither they nor their shapes were looked at anew.
    fn publish_names(&mut self, bound: &Bound, shapes: &Arc<BTreeSet<String>>) {
        if self.shapes.as_ref().is_some_and(|held| Arc::ptr_eq(held, shapes)) {
            return;
        }
        self.shapes = Some(Arc::clone(shapes));
        let table = bound.table(crate::runners::names::TTL_SECONDS, shapes);
        if *self.table != table {
            self.table = Arc::new(table);
            for sender in &self.names {
                sender.send_replace(Arc::clone(&self.table));
            }
        }
    }
}
