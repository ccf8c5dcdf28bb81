//! Which certificates and trust bundles this zone's proxies said that they have.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use atoll_mesh::{MeshSnapshot, snapshot::ProxyView, trust::TrustBundles};
use atoll_model::{Name, ResourceKey};
use atoll_trust::{Pin, x509::Facts};
use tokio::sync::watch;

use crate::runners::ProxyId;

/// Acknowledged secrets: name to version.
pub(super) type Secrets = BTreeMap<Arc<str>, Arc<str>>;

/// How many bundles of a mesh are remembered: a proxy that has an older one counts as one that acknowledged none.
const BUNDLES: usize = 8;
/// Length of a pin where people read it, and of its part in a certificate's version.
const SHORT: usize = 16;

/// A pin as it stands in documents and in the versions of certificates.
pub(super) fn short(pin: &Pin) -> String {
    pin.to_string()[..SHORT].to_owned()
}

/// What was acknowledged. Cheap to clone; all clones are the same.
///
/// A proxy counts from its first stream on, over restarts of the plane, until its Dataplane is gone: one that lost its stream may
/// still serve, by what it has.
#[derive(Clone, Debug)]
pub struct Acknowledgements(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    proxies: BTreeMap<ProxyId, Secrets>,
    /// By mesh: the versions of trust bundles, and what is in them.
    bundles: BTreeMap<Name, VecDeque<(Arc<str>, Arc<TrustBundles>)>>,
    /// By mesh: the fingerprint of what is trusted now, and its pins.
    pins: BTreeMap<Name, (u128, Arc<BTreeSet<String>>)>,
    /// Somebody waits for an acknowledgement.
    awaited: bool,
}

impl Default for Acknowledgements {
    fn default() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), changed: watch::Sender::new(0) }))
    }
}

impl Acknowledgements {
    /// A proxy that has a stream, or had one before a restart.
    pub fn expect(&self, proxy: &ProxyId) {
        self.lock().proxies.entry(proxy.clone()).or_default();
    }

    /// A trust bundle that proxies of a mesh are given, under this version.
    pub fn offered(&self, mesh: &Name, version: &Arc<str>, bundle: TrustBundles) {
        let mut state = self.lock();
        let bundles = state.bundles.entry(mesh.clone()).or_default();
        bundles.retain(|(held, _)| held != version);
        bundles.push_front((Arc::clone(version), Arc::new(bundle)));
        bundles.truncate(BUNDLES);
    }

    /// What a proxy has of its secrets.
    pub fn acknowledged(&self, proxy: &ProxyId, secrets: &BTreeMap<Arc<str>, Arc<str>>) {
        let mut state = self.lock();
        if secrets.is_empty() || state.proxies.get(proxy).is_some_and(|held| held == secrets) {
            return;
        }
        state.proxies.insert(proxy.clone(), secrets.clone());
        let awaited = state.awaited;
        drop(state);
        if awaited {
            self.0.changed.send_modify(|ticks| *ticks += 1);
        }
    }

    /// Ticks when a proxy acknowledged something and somebody waits for it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Says whether anybody waits for acknowledgements.
    pub(super) fn set_awaited(&self, awaited: bool) {
        self.lock().awaited = awaited;
    }

    /// Forgets the proxies whose Dataplane is gone.
    pub(super) fn retain(&self, meshes: &BTreeMap<Name, Arc<MeshSnapshot>>) {
        let is_there = |id: &ProxyId| meshes.get(&id.mesh).is_none_or(|mesh| mesh.dataplanes.contains_key(&id.name));
        self.lock().proxies.retain(|id, _| is_there(id));
    }

    /// The proxies of a mesh that have an identity and did not acknowledge this CA.
    pub(super) fn distrusting(&self, mesh: &MeshSnapshot, pem: &str) -> Vec<Name> {
        let state = self.lock();
        let has = |bundle: &TrustBundles| bundle.bundles().values().flatten().any(|held| held.trim() == pem.trim());
        let lacks = |(id, secrets): &(&ProxyId, &Secrets)| !state.bundle(&id.mesh, secrets).is_some_and(has);
        state.of(mesh).filter(lacks).map(|(id, _)| id.name.clone()).collect()
    }

    /// The proxies with this MeshIdentity that did not acknowledge a certificate of this CA.
    pub(super) fn without_certificate(&self, mesh: &MeshSnapshot, identity: &ResourceKey, issuer: &Pin) -> Vec<Name> {
        let (state, issuer) = (self.lock(), short(issuer));
        let has = |id: &ProxyId, secrets: &Secrets| {
            let proxy = mesh.dataplanes.get(&id.name)?.identity.as_ref().filter(|own| own.identity == *identity)?;
            Some(secrets.get(proxy.secret_name.as_str()).is_some_and(|version| version.starts_with(&issuer)))
        };
        let lacking = state.of(mesh).filter(|(id, secrets)| has(id, secrets) == Some(false));
        lacking.map(|(id, _)| id.name.clone()).collect()
    }

    /// The short pins of what a mesh trusts now.
    pub(super) fn pins(&self, mesh: &MeshSnapshot) -> Arc<BTreeSet<String>> {
        let (mut state, fingerprint) = (self.lock(), mesh.trust.fingerprint());
        if let Some((held, pins)) = state.pins.get(&mesh.mesh)
            && *held == fingerprint
        {
            return Arc::clone(pins);
        }
        let pins: Arc<BTreeSet<String>> =
            Arc::new(mesh.trust.bundles().values().flatten().filter_map(|pem| pin_of(pem)).collect());
        state.pins.insert(mesh.mesh.clone(), (fingerprint, Arc::clone(&pins)));
        pins
    }

    /// The CAs of a mesh's bundle that every one of its proxies acknowledged, as short pins.
    pub(super) fn trusted_by_all(&self, mesh: &MeshSnapshot) -> BTreeSet<String> {
        let pems = mesh.trust.bundles().values().flatten();
        let by_all = pems.filter(|pem| self.distrusting(mesh, pem).is_empty());
        by_all.filter_map(|pem| pin_of(pem)).collect()
    }
}

fn pin_of(pem: &str) -> Option<String> {
    Some(short(&Facts::of_pem(pem).ok()?.pin))
}

impl Acknowledgements {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The proxies of a mesh that have an identity.
    fn of<'a>(&'a self, mesh: &'a MeshSnapshot) -> impl Iterator<Item = (&'a ProxyId, &'a Secrets)> {
        let identified = |proxy: &Arc<ProxyView>| proxy.identity.is_some();
        let of_mesh = self.proxies.iter().filter(|(id, _)| id.mesh == mesh.mesh);
        of_mesh.filter(move |(id, _)| mesh.dataplanes.get(&id.name).is_some_and(identified))
    }

    fn bundle(&self, mesh: &Name, secrets: &Secrets) -> Option<&TrustBundles> {
        let known = self.bundles.get(mesh)?.iter();
        let mut known = known.filter(|(version, _)| secrets.values().any(|held| held == version));
        known.next().map(|(_, bundle)| &**bundle)
    }
}
