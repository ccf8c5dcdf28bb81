//! The certificates of this zone's proxies, and the CAs behind them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use atoll_mesh::{MeshSnapshot, Planned, snapshot::ProxyIdentity};
use atoll_model::{
    Kind, Labels, Name, Owner, ResourceKey, Timestamp, ZoneUid,
    kinds::{
        MeshTrust,
        mesh_trust::{CaBundle, CaBundleKind, Pem},
    },
    labels::MANAGED_BY,
    resource::canonical_json,
    spiffe::SpiffeId,
};
use atoll_runtime::{files, telemetry::with_causes};
use atoll_store::TableSnapshot;
use atoll_trust::{
    SecretText,
    ca::{CaError, LEAF_LIFE},
};
use chrono::TimeDelta;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::{
    acknowledgements::Acknowledgements,
    allowance::Allowance,
    cas::{Cas, CasError},
    leaves::{Leaf, Leaves},
    progress::{self, Peers},
    rotation::Circumstances,
    wanted::{Wanted, is_withdrawn, wanted},
    zone_dir::DirError,
};
use crate::runners::ProxyId;

/// Label of the MeshTrusts that this zone makes.
pub(super) const TRUST_GENERATOR: &str = "meshtrust-generator";
/// The first pause before a CA that could not be made or kept is tried again; doubled after each try, up to 32 times this.
const CA_RETRY: TimeDelta = TimeDelta::seconds(1);
/// When a certificate that could not be renewed is tried again.
const RETRY: TimeDelta = TimeDelta::seconds(30);
/// How often expired certificates are forgotten.
const PURGE: TimeDelta = TimeDelta::hours(1);

/// Why a proxy has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The MeshIdentity has no CA here yet: global did not record its trust domain for this zone, or it asks for none.
    #[error("this zone has no CA for {0} yet")]
    NoCa(ResourceKey),
    /// The zone should have a CA for the MeshIdentity and cannot make or keep it.
    #[error("this zone has no CA for {identity}: {why}")]
    CaFault {
        /// The MeshIdentity.
        identity: ResourceKey,
        /// Why.
        why: String,
    },
    /// The proxy was somebody else too often.
    #[error("it was given too many certificates at once; the next one is at {0}")]
    TooMany(Timestamp),
    /// The CA does not sign.
    #[error("the CA of {identity} does not issue: {source}")]
    Ca {
        /// The MeshIdentity.
        identity: ResourceKey,
        /// Why.
        source: CaError,
    },
}

/// A certificate with its key, as a proxy gets it. `Debug` does not show the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedSecret {
    /// Name of the secret.
    pub name: String,
    /// The certificate.
    pub chain_pem: String,
    /// Its key.
    pub key_pem: SecretText,
    /// Names issuer key, SPIFFE id and expiry: a proxy that comes back with one that still holds gets nothing.
    pub version: String,
    /// When to ask again.
    pub renew_at: Timestamp,
    /// Why it is an old one, when it should have been renewed and could not be.
    pub fault: Option<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The certificates of this zone's proxies.
pub struct Identities {
    root: PathBuf,
    zone: Name,
    uid: ZoneUid,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    acknowledgements: Acknowledgements,
}

struct State {
    issuers: BTreeMap<ResourceKey, Issuer>,
    rng: StdRng,
    purged: Timestamp,
    allowance: Allowance,
    /// Certificates issued since the start.
    issued: u64,
    /// What keeps CAs from being as they should.
    faults: BTreeMap<ResourceKey, String>,
    /// Plans in a row with faults.
    failed: u32,
    /// When to plan again although nothing changes.
    plan_again: Option<Timestamp>,
}

struct Issuer {
    cas: Cas,
    leaves: Leaves,
    leaf_life: TimeDelta,
}

impl Identities {
    /// Reads the CAs and certificates in `root`, if there are any.
    ///
    /// # Errors
    /// When a file with CAs is damaged or open to others: it may be the only copy of a key in use.
    pub fn open(root: &Path, zone: Name, uid: ZoneUid, now: Timestamp, rng: StdRng) -> Result<Self, DirError> {
        let file = |source| DirError::File { path: root.to_owned(), source };
        files::private_dir(root).map_err(file)?;
        let mut issuers = BTreeMap::new();
        for entry in fs::read_dir(root).map_err(file)? {
            let folder = entry.map_err(file)?.path();
            if let Some(cas) = Cas::load(folder)? {
                let leaves = Leaves::load(cas.path(), now);
                issuers.insert(cas.identity().clone(), Issuer { cas, leaves, leaf_life: LEAF_LIFE });
            }
        }
        let (allowance, faults) = (Allowance::default(), BTreeMap::new());
        let state = State { issuers, rng, purged: now, allowance, issued: 0, faults, failed: 0, plan_again: None };
        let (state, changed) = (Mutex::new(state), watch::Sender::new(0));
        Ok(Self { root: root.to_owned(), zone, uid, state, changed, acknowledgements: Acknowledgements::default() })
    }

    /// Ticks when another CA issues: ask [`Identities::secret_for`] again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What the proxies said that they have: a CA issues once everybody trusts it.
    pub fn acknowledgements(&self) -> &Acknowledgements {
        &self.acknowledgements
    }

    /// Makes and rotates CAs for what the table asks for, and plans this zone's MeshTrusts.
    pub fn plan(&self, table: &TableSnapshot, meshes: &BTreeMap<Name, Arc<MeshSnapshot>>, now: Timestamp) -> Vec<Planned> {
        let (mut trusts, mut stages, mut moved) = (BTreeMap::new(), BTreeMap::new(), false);
        let mut state = self.lock();
        state.faults.clear();
        for wanted in wanted(table, &self.zone, self.uid) {
            let peers = Peers::new(&self.acknowledgements, table, meshes, &wanted, self.uid);
            let at = peers.circumstances();
            match self.advance(&mut state, &wanted, &at, now) {
                Ok(another) => moved |= another,
                Err(error) => {
                    // What there is goes on issuing, and is published on.
                    state.faults.insert(wanted.identity.clone(), with_causes(&error));
                    tracing::warn!(error = %with_causes(&error), resource.name = %wanted.identity.name, "the CAs of {} stay as they are", wanted.identity);
                }
            }
            if let Some(issuer) = state.issuers.get(&wanted.identity).filter(|_| wanted.publish) {
                publish(&mut trusts, &wanted, &issuer.cas, now);
                stages.insert(wanted.trust_key(), progress::stages(&issuer.cas, &at, now));
            }
        }
        state.failed = if state.faults.is_empty() { 0 } else { state.failed + 1 };
        state.plan_again = (state.failed > 0).then(|| now + CA_RETRY * (1 << state.failed.min(6)) / 2);
        if now - state.purged > PURGE {
            state.purged = now;
            state.issuers.values_mut().for_each(|issuer| issuer.leaves.purge(now));
            state.allowance.purge(now);
            self.acknowledgements.retain(meshes);
        }
        drop(state);
        if moved {
            self.changed.send_modify(|ticks| *ticks += 1);
        }
        let mut planned = self.difference(table, trusts);
        planned.extend(progress::plan(&self.acknowledgements, table, meshes, self.uid, stages));
        planned
    }

    /// When to plan again although nothing changes: the last plan could not do all that it should.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.lock().plan_again
    }

    /// The certificate of a proxy: the one that it has, or a new one when half of that one's life is over.
    ///
    /// # Errors
    /// When there is no CA, or the CA does not sign and no certificate holds any more.
    pub fn secret_for(&self, id: &ProxyId, proxy: &ProxyIdentity, now: Timestamp) -> Result<IssuedSecret, IdentityError> {
        let state = &mut *self.lock();
        let fault = state.faults.get(&proxy.identity).cloned();
        let no_ca = || match fault {
            Some(why) => IdentityError::CaFault { identity: proxy.identity.clone(), why },
            None => IdentityError::NoCa(proxy.identity.clone()),
        };
        let Some(issuer) = state.issuers.get_mut(&proxy.identity) else { return Err(no_ca()) };
        let Some(ca) = issuer.cas.active() else { return Err(no_ca()) };
        let held = issuer.leaves.get(&proxy.spiffe_id).filter(|leaf| leaf.certificate.not_after > now);
        if let Some(leaf) = held
            && leaf.issuer == ca.pin()
            && now < leaf.renew_at()
        {
            return Ok(secret(proxy, leaf));
        }
        let allowed = state.allowance.take(id, now).map_err(IdentityError::TooMany);
        let made = allowed.and_then(|()| {
            let made = ca.issue(&proxy.spiffe_id, issuer.leaf_life, now, &mut state.rng);
            made.map_err(|source| {
                state.allowance.give_back(id);
                IdentityError::Ca { identity: proxy.identity.clone(), source }
            })
        });
        match (made, held) {
            (Ok(certificate), _) => {
                let leaf = Leaf { issuer: ca.pin(), certificate };
                let secret = secret(proxy, &leaf);
                issuer.leaves.put(proxy.spiffe_id.clone(), leaf);
                state.issued += 1;
                Ok(secret)
            }
            (Err(error), Some(leaf)) => {
                tracing::warn!(error = %error, spiffe.id = %proxy.spiffe_id, "{} keeps its old certificate", proxy.spiffe_id);
                Ok(IssuedSecret { renew_at: now + RETRY, fault: Some(error.to_string()), ..secret(proxy, leaf) })
            }
            (Err(error), None) => Err(error),
        }
    }

    /// How many certificates were issued since the program started.
    pub fn issued(&self) -> u64 {
        self.lock().issued
    }

    fn advance(&self, state: &mut State, wanted: &Wanted, at: &Circumstances<'_>, now: Timestamp) -> Result<bool, CasError> {
        let key = &wanted.identity;
        if !state.issuers.contains_key(key) {
            let Some(folder) = Cas::folder(&self.root, key) else { return Ok(false) };
            let leaves = Leaves::load(&folder, now);
            let issuer = Issuer { cas: Cas::new(folder, key.clone()), leaves, leaf_life: wanted.leaf_life };
            state.issuers.insert(key.clone(), issuer);
        }
        let Some(issuer) = state.issuers.get_mut(key) else { return Ok(false) };
        issuer.leaf_life = wanted.leaf_life;
        issuer.cas.advance(at, now, &mut state.rng)
    }

    /// What to write so that this zone's MeshTrusts are `trusts`. A MeshTrust that a person wrote under the same name stays.
    fn difference(&self, table: &TableSnapshot, trusts: BTreeMap<(Name, Name), MeshTrust>) -> Vec<Planned> {
        let owner = Owner::Zone(self.uid);
        let generated = |labels: &Labels| labels.get(MANAGED_BY).is_some_and(|by| by == TRUST_GENERATOR);
        let mut planned = Vec::new();
        for resource in table.list(Kind::MeshTrust, None).filter(|resource| resource.key.owner == owner) {
            let (mesh, name) = (resource.key.mesh.clone(), resource.key.name.clone());
            if generated(&resource.labels)
                && !trusts.contains_key(&(mesh.clone(), name.clone()))
                && is_withdrawn(table, &mesh, &name, self.uid)
            {
                planned.push(Planned::Delete { key: resource.key.clone(), version: Some(resource.version) });
            }
        }
        for ((mesh, name), trust) in trusts {
            let key = ResourceKey::new(Kind::MeshTrust, mesh, name, owner);
            let (held, spec) = (table.get(&key), canonical_json(&trust));
            if held.is_none_or(|held| generated(&held.labels) && held.spec != spec) {
                let labels = Labels::from([(MANAGED_BY.to_owned(), TRUST_GENERATOR.to_owned())]);
                planned.push(Planned::Put { version: held.map(|held| held.version), key, labels, spec });
            }
        }
        planned
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities(of zone {})", self.zone)
    }
}

/// Adds the CAs of a MeshIdentity to the MeshTrust of its name. Global's MeshIdentities come first; one of the zone's own with the
/// same name and another domain is not published.
fn publish(trusts: &mut BTreeMap<(Name, Name), MeshTrust>, wanted: &Wanted, cas: &Cas, now: Timestamp) {
    let bundle = |pem: &str| CaBundle { kind: CaBundleKind::Pem, pem: Pem { value: pem.to_owned() } };
    let bundles: Vec<_> = cas.published(&wanted.domain, now).map(bundle).collect();
    if bundles.is_empty() {
        return;
    }
    let trust_domain = wanted.domain.to_string();
    let empty = || MeshTrust { trust_domain, ca_bundles: Vec::new(), acknowledged: Vec::new(), rotation: None };
    let trust = trusts.entry(wanted.trust_key()).or_insert_with(empty);
    if trust.trust_domain == wanted.domain.as_str() {
        trust.ca_bundles.extend(bundles);
    } else {
        tracing::warn!("{} has the name of one of global's MeshIdentities: its trust is not published", wanted.identity);
    }
}

fn secret(proxy: &ProxyIdentity, leaf: &Leaf) -> IssuedSecret {
    IssuedSecret {
        name: proxy.secret_name.clone(),
        chain_pem: leaf.certificate.chain_pem.clone(),
        key_pem: leaf.certificate.key_pem.clone(),
        version: version(leaf, &proxy.spiffe_id),
        renew_at: leaf.renew_at(),
        fault: None,
        not_after: leaf.certificate.not_after,
    }
}

fn version(leaf: &Leaf, id: &SpiffeId) -> String {
    format!("{}/{}/{}", &leaf.issuer.to_string()[..16], leaf.certificate.not_after.timestamp(), id)
}

#[cfg(test)]
mod tests;
