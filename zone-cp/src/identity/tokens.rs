//! The zone's tokens: its own, which hold only here, and global's, which hold here too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_api::{
    Authenticate, AuthenticationError, Caller, Credential, DataplaneTokenRequest, IssueError, IssueTokens, TokenName,
    UserTokenRequest, ZoneTokenRequest,
};
use atoll_model::{
    Clock, ContentHash, Kind, Name, Owner, Resource, Revision, Timestamp, Violation, ZoneUid, kinds::MeshIdentity, kinds::Zone,
};
use atoll_store::{AuthMethod, Store, TableSnapshot};
use atoll_trust::jwt::{
    self, DATAPLANE_LIFE, DataplaneClaims, Issued, Issuer, KeyTable, LEEWAY, PublicKey, RevokedTokens, SigningKey, TokenFault,
    UserClaims,
};
use chrono::TimeDelta;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::runners::{self, AuthRefusal, DataplaneAuth, Presented, Principal};

/// Makes and judges the zone's tokens; clones share it.
#[derive(Clone)]
pub struct ZoneTokens(Arc<Inner>);

struct Inner {
    own: SigningKey,
    uid: ZoneUid,
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Mutex<StdRng>,
    of_global: Mutex<OfGlobal>,
    /// What ends the streams of each token that has any, and when the token ends.
    in_use: Mutex<BTreeMap<String, (Timestamp, CancellationToken)>>,
}

/// What global says of tokens, read from this zone's Zone when that changes.
#[derive(Clone, Default)]
struct OfGlobal {
    mark: Option<(Revision, ContentHash)>,
    keys: Vec<PublicKey>,
    revoked: RevokedTokens,
}

/// How often the tokens that are in use are looked at.
const SWEEP: Duration = Duration::from_secs(1);

impl ZoneTokens {
    /// Signs with `own`; believes that key, and those that global put into this zone's Zone.
    pub fn new(own: SigningKey, uid: ZoneUid, store: Store, clock: Arc<dyn Clock>, rng: StdRng) -> Self {
        let (of_global, in_use) = Default::default();
        Self(Arc::new(Inner { own, uid, store, clock, rng: Mutex::new(rng), of_global, in_use }))
    }

    /// Makes a user token: also for the first operator, before anybody could ask for one.
    ///
    /// # Errors
    /// When the name is empty or the validity is none.
    pub fn issue_user(&self, claims: &UserClaims, life: TimeDelta) -> Result<Issued, jwt::IssueError> {
        self.0.own.issue_user(claims, life, self.0.clock.now(), &mut *self.rng())
    }

    /// The keys that this zone believes now.
    pub fn table(&self) -> KeyTable {
        let OfGlobal { keys, revoked, .. } = self.of_global();
        let own = Arc::clone(&self.0.store.registry().borrow().revoked);
        KeyTable::new(keys.into_iter().chain([self.0.own.public().clone()])).with_revoked(own).with_revoked(revoked)
    }

    fn is_revoked(&self, id: &str) -> bool {
        self.0.store.registry().borrow().is_revoked(id) || self.of_global().revoked.contains_key(id)
    }

    fn of_global(&self) -> OfGlobal {
        let table = self.0.store.snapshot();
        let zone = zone_of(&table, self.0.uid);
        let mark = zone.map(|zone| (zone.revision, zone.hash));
        let mut known = self.0.of_global.lock().unwrap_or_else(PoisonError::into_inner);
        if known.mark != mark {
            *known = OfGlobal { mark, ..read(zone, self.0.uid) };
        }
        known.clone()
    }

    /// Ends the streams of tokens that were revoked or have ended, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => self.sweep(),
            }
        }
    }

    fn sweep(&self) {
        let (table, now) = (self.table(), self.0.clock.now());
        let mut in_use = self.0.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|id, (until, streams)| {
            let holds = now - *until <= LEEWAY && !table.is_revoked(id);
            if !holds {
                streams.cancel();
            }
            holds
        });
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Zone that global keeps for this zone.
fn zone_of(table: &TableSnapshot, uid: ZoneUid) -> Option<&Resource> {
    let name = table.zone_name(uid)?;
    let mut zones = table.by_name(Kind::Zone, &Name::none(), &name);
    zones.find(|resource| resource.key.owner == Owner::Global).map(AsRef::as_ref)
}

/// Global's keys and revocations, as they stand there. Keys of other zones have no place in it.
fn read(zone: Option<&Resource>, uid: ZoneUid) -> OfGlobal {
    let zone = zone.and_then(|resource| resource.parse::<Zone>().ok()).filter(|zone| zone.uid == Some(uid));
    let zone = zone.unwrap_or_default();
    let keys = zone.token_keys.into_iter().filter_map(|key| serde_json::from_value::<PublicKey>(key).ok());
    OfGlobal {
        mark: None,
        keys: keys.filter(|key| matches!(key.issuer(), Issuer::Global(_))).collect(),
        revoked: Arc::new(zone.revoked_tokens),
    }
}

impl DataplaneAuth for ZoneTokens {
    fn authenticate(&self, token: &str, proxy: &Presented<'_>) -> Result<Principal, AuthRefusal> {
        let verified = self.table().verify_dataplane(token, self.0.clock.now()).map_err(|fault| match fault {
            // Global's key may be on its way.
            TokenFault::UnknownKey => AuthRefusal::NotYet(fault.to_string()),
            TokenFault::Malformed
            | TokenFault::Signature
            | TokenFault::Issuer
            | TokenFault::Audience
            | TokenFault::Expired
            | TokenFault::NotYet
            | TokenFault::Revoked => AuthRefusal::Never(fault.to_string()),
        })?;
        let claims = verified.claims;
        if !matches!(claims.kind.as_str(), "" | "dataplane") {
            return Err(AuthRefusal::Never(format!("the token is for a proxy of type {:?}", claims.kind)));
        }
        let claims = runners::DataplaneClaims {
            name: Some(claims.name),
            mesh: Some(claims.mesh),
            tags: claims.tags.into_iter().map(|(key, values)| (key, values.into_iter().collect())).collect(),
            workload: Some(claims.workload).filter(|workload| !workload.is_empty()),
        };
        let table = self.0.store.snapshot();
        let mesh = Name::from(&*proxy.id.mesh);
        let identities: Vec<(Name, MeshIdentity)> = table
            .list(Kind::MeshIdentity, Some(&mesh))
            .filter_map(|resource| Some((resource.key.name.clone(), resource.parse().ok()?)))
            .collect();
        let rule = runners::admission::workload_rule(identities.iter().map(|(name, identity)| (name, identity)), proxy.labels);
        runners::admission::admit(&claims, proxy, rule)?;
        Ok(Principal::of(proxy.id, Some(verified.id)).until(verified.expires))
    }

    fn withdrawn(&self, principal: &Principal) -> CancellationToken {
        let (Some(id), Some(until)) = (&principal.token_id, principal.until) else { return CancellationToken::new() };
        let mut in_use = self.0.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.entry(id.clone()).or_insert_with(|| (until, CancellationToken::new())).1.clone()
    }
}

#[async_trait]
impl Authenticate for ZoneTokens {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let verified = self.table().verify_user(token, self.0.clock.now());
        let verified = verified.map_err(|fault| AuthenticationError::Refused(fault.to_string()))?;
        let credential = Credential { method: AuthMethod::Token, id: verified.id, expires: Some(verified.expires + LEEWAY) };
        Ok(Caller::new(verified.claims.name, verified.claims.groups).with(credential))
    }

    fn is_withdrawn(&self, credential: &Credential) -> bool {
        self.is_revoked(&credential.id)
    }
}

#[async_trait]
impl IssueTokens for ZoneTokens {
    async fn user(&self, request: UserTokenRequest) -> Result<String, IssueError> {
        let claims = UserClaims { name: request.name, groups: request.groups };
        answer(self.issue_user(&claims, delta(request.valid_for)))
    }

    async fn dataplane(&self, request: DataplaneTokenRequest) -> Result<String, IssueError> {
        let life = request.valid_for.map_or(DATAPLANE_LIFE, delta);
        let claims = DataplaneClaims {
            name: request.name,
            mesh: request.mesh.to_string(),
            tags: request.tags,
            kind: String::new(),
            workload: request.workload,
        };
        answer(self.0.own.issue_dataplane(&claims, life, self.0.clock.now(), &mut *self.rng()))
    }

    async fn zone(&self, _: ZoneTokenRequest) -> Result<String, IssueError> {
        Err(IssueError::NotHere("zones join global: ask the global control plane for a join token".to_owned()))
    }

    fn identify(&self, token: &str) -> Result<TokenName, IssueError> {
        let known = self.table().identify(token).map_err(|fault| {
            let what = "give the token's jti: only tokens that this plane judges can be revoked by themselves";
            IssueError::NotHere(format!("{fault}; {what}"))
        })?;
        Ok(TokenName { id: known.id, until: known.expires + LEEWAY })
    }
}

/// Longer than any token may live, if it does not fit.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn answer(issued: Result<Issued, jwt::IssueError>) -> Result<String, IssueError> {
    let invalid = |field: &str, message: &str| IssueError::Invalid(vec![Violation::new(field, message)]);
    match issued {
        Ok(issued) => Ok(issued.text.expose().to_owned()),
        Err(fault @ (jwt::IssueError::NoValidity | jwt::IssueError::TooLong)) => Err(invalid("validFor", &fault.to_string())),
        Err(jwt::IssueError::Empty(field)) => Err(invalid(field, "cannot be empty")),
        Err(fault @ jwt::IssueError::Signing) => Err(IssueError::Unavailable(fault.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Labels, ResourceKey};
    use atoll_store::{Actor, Write, WriteBatch, testing::TestStore};
    use rand::SeedableRng;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::runners::ProxyId;

    const UID: ZoneUid = ZoneUid(Uuid::from_u128(1));

    fn key(issuer: Issuer) -> SigningKey {
        SigningKey::generate(issuer).unwrap()
    }

    fn tokens(store: &TestStore) -> ZoneTokens {
        ZoneTokens::new(key(Issuer::Zone(UID)), UID, store.store.clone(), store.clock.clone(), StdRng::seed_from_u64(1))
    }

    async fn put(store: &TestStore, kind: Kind, mesh: &str, name: &str, spec: serde_json::Value) {
        let write = Write::put(ResourceKey::new(kind, mesh, name, Owner::Global), Labels::new(), spec.to_string());
        store.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    }

    fn presented<T>(labels: &[(&str, &str)], f: impl FnOnce(&Presented<'_>) -> T) -> T {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        f(&Presented { id: &ProxyId { mesh: "default".into(), name: "api-1".into() }, labels: &labels })
    }

    fn signed(key: &SigningKey, workload: &str) -> String {
        let claims = DataplaneClaims { mesh: "default".to_owned(), workload: workload.to_owned(), ..DataplaneClaims::default() };
        let now = "2030-01-01T12:00:00Z".parse().unwrap();
        let issued = key.issue_dataplane(&claims, TimeDelta::hours(1), now, &mut StdRng::seed_from_u64(2)).unwrap();
        issued.text.expose().to_owned()
    }

    #[tokio::test]
    async fn the_zone_believes_its_own_tokens_and_globals_once_it_has_the_key() {
        let store = TestStore::sqlite().await.unwrap();
        let tokens = tokens(&store);
        let (global, other) = (key(Issuer::Global(Uuid::from_u128(7))), key(Issuer::Zone(ZoneUid(Uuid::from_u128(2)))));
        let judged = |key: &SigningKey| presented(&[], |proxy| DataplaneAuth::authenticate(&tokens, &signed(key, ""), proxy));
        assert!(judged(&tokens.0.own).is_ok());
        assert!(matches!(judged(&global), Err(AuthRefusal::NotYet(_))));
        let keys = [global.public(), other.public()];
        put(&store, Kind::Zone, "", "azure", json!({ "uid": UID, "tokenKeys": keys })).await;
        assert_eq!(judged(&global).map(|principal| principal.subject), Ok("dataplane:default/api-1".to_owned()));
        // Another zone's key is not believed, whoever put it there.
        assert!(judged(&other).is_err());
        // Nor does a Zone speak for another zone.
        put(&store, Kind::Zone, "", "azure", json!({ "uid": Uuid::from_u128(9), "tokenKeys": [global.public()] })).await;
        assert!(matches!(judged(&global), Err(AuthRefusal::NotYet(_))));
    }

    #[tokio::test]
    async fn an_identity_made_of_the_workload_wants_a_token_for_it() {
        let store = TestStore::sqlite().await.unwrap();
        let tokens = tokens(&store);
        put(&store, Kind::MeshIdentity, "default", "all", json!({ "selector": { "dataplane": { "matchLabels": {} } } })).await;
        let judged = |token: &str, labels: &[(&str, &str)]| {
            presented(labels, |proxy| DataplaneAuth::authenticate(&tokens, token, proxy)).map(|_| ())
        };
        let api = [("kuma.io/workload", "api")];
        assert_eq!(judged(&signed(&tokens.0.own, "api"), &api), Ok(()));
        for (token, labels) in [("", &api[..]), ("web", &api[..]), ("api", &[][..])] {
            let refused = judged(&signed(&tokens.0.own, token), labels);
            assert!(matches!(refused, Err(AuthRefusal::Never(_))), "{token:?} {labels:?}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn operators_of_the_zone_and_of_global_are_told_from_strangers() {
        let store = TestStore::sqlite().await.unwrap();
        let tokens = tokens(&store);
        let claims = UserClaims { name: "ann".to_owned(), groups: vec!["ops".to_owned()] };
        let own = tokens.issue_user(&claims, TimeDelta::hours(1)).unwrap();
        let caller = Authenticate::authenticate(&tokens, own.text.expose()).await.unwrap();
        assert_eq!((caller.name.as_str(), caller.groups.as_slice()), ("ann", &["ops".to_owned()][..]));
        // A dataplane's token opens no door to the REST API.
        assert!(Authenticate::authenticate(&tokens, &signed(&tokens.0.own, "")).await.is_err());
        store.clock.advance(TimeDelta::hours(2));
        assert!(Authenticate::authenticate(&tokens, own.text.expose()).await.is_err());
    }

    #[tokio::test]
    async fn what_this_zone_or_global_revoked_holds_no_more_and_its_streams_end() {
        let store = TestStore::sqlite().await.unwrap();
        let tokens = tokens(&store);
        let global = key(Issuer::Global(Uuid::from_u128(7)));
        let zone = |revoked: serde_json::Value| json!({ "uid": UID, "tokenKeys": [global.public()], "revokedTokens": revoked });
        put(&store, Kind::Zone, "", "azure", zone(json!({}))).await;
        let judged = |key: &SigningKey| presented(&[], |proxy| DataplaneAuth::authenticate(&tokens, &signed(key, ""), proxy));
        let (of_global, own) = (judged(&global).unwrap(), judged(&tokens.0.own).unwrap());
        assert_eq!(of_global.token_id, own.token_id, "the test's tokens have one name");
        let streams = tokens.withdrawn(&of_global);
        let id = of_global.token_id.unwrap();
        tokens.sweep();
        assert!(!streams.is_cancelled());

        put(&store, Kind::Zone, "", "azure", zone(json!({ id.clone(): "2030-01-02T00:00:00Z" }))).await;
        assert!(matches!(judged(&global), Err(AuthRefusal::Never(why)) if why.contains("revoked")));
        tokens.sweep();
        assert!(streams.is_cancelled());

        put(&store, Kind::Zone, "", "azure", zone(json!({}))).await;
        let streams = tokens.withdrawn(&own);
        let (at, until) = (store.clock.now(), store.clock.now() + TimeDelta::hours(1));
        let by = "user:ann".to_owned();
        store.store.revoke_token(&atoll_store::TokenRevocation { id, until, at, by }).await.unwrap();
        assert!(judged(&tokens.0.own).is_err());
        tokens.sweep();
        assert!(streams.is_cancelled());
    }

    #[tokio::test]
    async fn streams_end_with_their_token() {
        let store = TestStore::sqlite().await.unwrap();
        let tokens = tokens(&store);
        let judged = presented(&[], |proxy| DataplaneAuth::authenticate(&tokens, &signed(&tokens.0.own, ""), proxy)).unwrap();
        let streams = tokens.withdrawn(&judged);
        tokens.sweep();
        assert!(!streams.is_cancelled());
        store.clock.advance(TimeDelta::hours(2));
        tokens.sweep();
        assert!(streams.is_cancelled());
    }

    #[tokio::test]
    async fn a_zone_makes_no_join_tokens() {
        let store = TestStore::sqlite().await.unwrap();
        let asked = tokens(&store).zone(ZoneTokenRequest { zone: "gcp".into(), valid_for: None }).await;
        assert!(matches!(asked, Err(IssueError::NotHere(_))));
    }
}
