//! Joining, renewing, admitting: names, identities and certificates of zones.

use std::sync::{Arc, Mutex, PoisonError};

use atoll_link::{Admission, Credentials, Issuer, Peer, RedeemRequest, Refusal, RenewRequest};
use atoll_model::{Clock, Kind, Name, Owner, ResourceKey, Timestamp, ZoneUid, kinds::Zone, names, resource::canonical_json};
use atoll_runtime::tls;
use atoll_store::{Actor, Bind, Expect, Redeem, Store, StoreError, Write, WriteBatch, ZoneCertificate, ZoneHolder};
use atoll_trust::{CertificateRequest, Pin, ZonePeer, join::JoinHash};
use bytes::Bytes;
use chrono::TimeDelta;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::GlobalKeys;

/// A zone name without a Zone resource is free once its binding is older: a join that is just being done is never taken over.
const BINDING_SETTLES: TimeDelta = TimeDelta::minutes(1);

/// The registry of zones; clones share it.
#[derive(Clone)]
pub struct ZoneRegistry(Arc<Inner>);

struct Inner {
    store: Store,
    keys: Arc<GlobalKeys>,
    clock: Arc<dyn Clock>,
    rng: Mutex<StdRng>,
    changed: watch::Sender<u64>,
}

impl ZoneRegistry {
    /// Makes a registry over the store.
    pub fn new(store: Store, keys: Arc<GlobalKeys>, clock: Arc<dyn Clock>, rng: StdRng) -> Self {
        Self(Arc::new(Inner { store, keys, clock, rng: Mutex::new(rng), changed: watch::Sender::new(0) }))
    }

    /// Follows who may connect, so that open sessions are asked again: ends when `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let (mut registry, mut table) = (self.0.store.registry(), self.0.store.subscribe());
        let mut known = None;
        loop {
            let zones: Vec<_> = zones_of(&table.borrow_and_update()).collect();
            let now = Some((Arc::clone(&registry.borrow_and_update()), zones));
            if known != now {
                known = now;
                self.0.changed.send_modify(|ticks| *ticks += 1);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = registry.changed() => if changed.is_err() { return },
                changed = table.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Withdraws a zone's right to connect, open sessions included; says whether there is such a zone.
    ///
    /// # Errors
    /// When the store does not take writes.
    pub async fn revoke(&self, zone: ZoneUid) -> Result<bool, StoreError> {
        self.0.store.revoke_zone(zone).await
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn keys(&self) -> &GlobalKeys {
        &self.0.keys
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(super) fn with_rng<T>(&self, f: impl FnOnce(&mut StdRng) -> T) -> T {
        f(&mut self.0.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Binds the name to the identity. A name whose Zone was deleted is free for another one.
    async fn bind(&self, name: &Name, uid: ZoneUid) -> Result<ZoneHolder, Refusal> {
        let bind = self.0.store.bind_zone(name, uid).await.map_err(unavailable)?;
        let bind = match bind {
            Bind::Taken(holder) if self.is_departed(&holder) => {
                self.0.store.release_zone(name).await.map_err(unavailable)?;
                self.0.store.bind_zone(name, uid).await.map_err(unavailable)?
            }
            Bind::Bound(_) | Bind::Taken(_) | Bind::Renamed(_) => bind,
        };
        match bind {
            Bind::Bound(holder) if holder.revoked.is_some() => {
                Err(Refusal::NotAdmitted(format!("zone {name} was revoked: delete it on global before it can join again")))
            }
            Bind::Bound(holder) => Ok(holder),
            Bind::Taken(holder) => Err(Refusal::Taken(format!(
                "zone {name} is held by another control plane, {} since {}: if that one is lost for good, delete the zone on \
                 global first",
                holder.uid, holder.bound
            ))),
            Bind::Renamed(holder) => {
                Err(Refusal::Taken(format!("this control plane joined as zone {} and cannot join as {name} too", holder.name)))
            }
        }
    }

    fn is_departed(&self, holder: &ZoneHolder) -> bool {
        let deleted = self.0.store.snapshot().zone_name(holder.uid).is_none();
        deleted && self.now() - holder.bound > BINDING_SETTLES
    }

    /// Makes the zone's Zone resource, or completes the one that an operator wrote before.
    async fn keep_zone(&self, request: &RedeemRequest) -> Result<(), Refusal> {
        let key = ResourceKey::new(Kind::Zone, Name::none(), request.zone_name.clone(), Owner::Global);
        let keys = [self.0.keys.tokens.public()];
        let computed = canonical_json(&json!({ "uid": request.zone_uid, "tokenKeys": keys }));
        let create = Write::create(key.clone(), Default::default(), "{}");
        let complete = Write::PutComputed { key: key.clone(), computed: Some(computed), expect: Expect::Any };
        let actor = Actor::recorded(format!("zone:{}", request.zone_name), request.address.map(|address| address.ip()));
        let batch = |writes| WriteBatch::new(actor.clone(), writes);
        let done = match self.0.store.snapshot().get(&key) {
            Some(_) => self.0.store.commit(batch(vec![complete])).await,
            None => match self.0.store.commit(batch(vec![create, complete.clone()])).await {
                Err(StoreError::AlreadyExists(_)) => self.0.store.commit(batch(vec![complete])).await,
                done => done,
            },
        };
        done.map(|_| ()).map_err(unavailable)
    }

    async fn certify(&self, peer: &ZonePeer, request: &CertificateRequest, name: Name) -> Result<Credentials, Refusal> {
        let (ca, now) = (&self.0.keys.ca, self.now());
        let made = self.with_rng(|rng| ca.issue_zone(request, peer, now, rng));
        let made = made.map_err(|error| Refusal::NotAdmitted(error.to_string()))?;
        let row = ZoneCertificate {
            serial: made.serial.clone(),
            zone: peer.zone,
            instance: peer.instance.clone(),
            spki: *request.pin().as_bytes(),
            issued: now,
            expires: made.not_after,
            revoked: None,
        };
        self.0.store.put_certificate(&row).await.map_err(unavailable)?;
        let der = |pem: &str| -> Result<Vec<Bytes>, Refusal> {
            let chain = tls::chain_from_pem(pem).map_err(|error| Refusal::Unavailable(error.to_string()))?;
            Ok(chain.iter().map(|der| Bytes::copy_from_slice(der)).collect())
        };
        let (chain, cas) = (der(&made.chain_pem)?, der(ca.cert_pem())?);
        Ok(Credentials { chain, cas, cluster_id: self.0.store.cluster_id(), zone_name: name })
    }

    fn peer(&self, zone: ZoneUid, instance: &str) -> ZonePeer {
        ZonePeer { cluster: self.0.store.cluster_id(), zone, instance: instance.to_owned() }
    }
}

#[tonic::async_trait]
impl Issuer for ZoneRegistry {
    async fn redeem(&self, request: RedeemRequest) -> Result<Credentials, Refusal> {
        let csr = certificate_request(&request.csr, &request.spki)?;
        let (name, uid) = (&request.zone_name, request.zone_uid);
        if !names::is_rfc1035_label(name) {
            return Err(Refusal::NotAdmitted(format!("{name:?} cannot be the name of a zone")));
        }
        let peer = self.peer(uid, &request.instance);
        if peer.to_string().parse::<ZonePeer>().is_err() {
            return Err(Refusal::NotAdmitted("the instance must be letters, digits, '.', '-' and '_'".to_owned()));
        }
        let hash = JoinHash::of(&request.token_id, &request.token_secret);
        let redeemed =
            self.0.store.redeem_join_token(&request.token_id, &hash.0, name, csr.pin().as_bytes()).await.map_err(unavailable)?;
        if let Redeem::Refused(why) = redeemed {
            let address = request.address.map(|address| address.to_string());
            tracing::warn!(zone = %name, peer.address = address, reason = ?why, "a join token for zone {name} was refused");
            return Err(Refusal::NotAdmitted(format!(
                "the join token is not good for zone {name}: it is unknown, was used, expired, or is for another zone; \
                 `atoll token zone {name}` makes a new one"
            )));
        }
        let holder = self.bind(name, uid).await?;
        self.keep_zone(&request).await?;
        let credentials = self.certify(&peer, &csr, holder.name).await?;
        tracing::info!(zone = %name, zone.uid = %uid, repeated = (redeemed == Redeem::Repeated), "zone {name} joined");
        Ok(credentials)
    }

    async fn renew(&self, peer: &Peer, request: RenewRequest) -> Result<Credentials, Refusal> {
        let name = self.admit(peer).await?;
        let csr = certificate_request(&request.csr, &request.spki)?;
        let credentials = self.certify(&peer.identity, &csr, name).await?;
        tracing::info!(zone = %credentials.zone_name, zone.instance = peer.identity.instance, "zone {} has a new certificate", credentials.zone_name);
        Ok(credentials)
    }
}

#[tonic::async_trait]
impl Admission for ZoneRegistry {
    async fn admit(&self, peer: &Peer) -> Result<Name, Refusal> {
        let uid = peer.identity.zone;
        if peer.identity.cluster != self.0.store.cluster_id() {
            return Err(Refusal::NotAdmitted("the certificate is of another cluster".to_owned()));
        }
        let registry = Arc::clone(&self.0.store.registry().borrow());
        let Some(holder) = registry.by_uid(uid) else {
            return Err(Refusal::NotAdmitted(format!("no zone is known by the identity {uid}: it needs a new join token")));
        };
        if !registry.admits(uid, &peer.serial) {
            return Err(Refusal::NotAdmitted(format!("the right of zone {} to connect was withdrawn", holder.name)));
        }
        match self.0.store.snapshot().zone_name(uid) {
            Some(name) if name == holder.name => Ok(name),
            Some(_) | None => Err(Refusal::NotAdmitted(format!("zone {} was deleted: it needs a new join token", holder.name))),
        }
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// The zones that have an identity, and whether they are enabled.
pub(super) fn zones_of(table: &atoll_store::TableSnapshot) -> impl Iterator<Item = (ZoneUid, Name, Zone)> {
    table.list(Kind::Zone, None).filter(|resource| resource.key.owner == Owner::Global).filter_map(|resource| {
        let zone: Zone = resource.parse().ok()?;
        Some((zone.uid?, resource.key.name.clone(), zone))
    })
}

fn certificate_request(csr: &[u8], spki: &[u8]) -> Result<CertificateRequest, Refusal> {
    let request = CertificateRequest::from_der(csr).map_err(|error| Refusal::NotAdmitted(error.to_string()))?;
    if Pin::of_spki(spki) == request.pin() {
        Ok(request)
    } else {
        Err(Refusal::NotAdmitted("the certificate request is for another key than it says".to_owned()))
    }
}

fn unavailable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "the registry of zones cannot be read or written");
    Refusal::Unavailable("global's store does not answer; try again".to_owned())
}

#[cfg(test)]
mod tests;
