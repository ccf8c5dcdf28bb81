//! The zone's tokens: its own, which hold only here, and global's, which hold here too.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use atoll_api::{
    Authenticate, AuthenticationError, Caller, DataplaneTokenRequest, IssueError, IssueTokens, UserTokenRequest, ZoneTokenRequest,
};
use atoll_model::{Clock, Kind, Name, Owner, Violation, ZoneUid, kinds::MeshIdentity, kinds::Zone};
use atoll_store::{Store, TableSnapshot};
use atoll_trust::jwt::{
    self, DATAPLANE_LIFE, DataplaneClaims, Issued, Issuer, KeyTable, PublicKey, SigningKey, TokenFault, UserClaims,
};
use chrono::TimeDelta;
use rand::rngs::StdRng;
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
}

impl ZoneTokens {
    /// Signs with `own`; believes that key, and those that global put into this zone's Zone.
    pub fn new(own: SigningKey, uid: ZoneUid, store: Store, clock: Arc<dyn Clock>, rng: StdRng) -> Self {
        Self(Arc::new(Inner { own, uid, store, clock, rng: Mutex::new(rng) }))
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
        let global = keys_of_global(&self.0.store.snapshot(), self.0.uid);
        KeyTable::new(global.into_iter().chain([self.0.own.public().clone()]))
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Global's keys, as they stand in the Zone that global keeps for this zone. Keys of other zones have no place there.
fn keys_of_global(table: &TableSnapshot, uid: ZoneUid) -> Vec<PublicKey> {
    let Some(name) = table.zone_name(uid) else { return Vec::new() };
    let zones = table.by_name(Kind::Zone, &Name::none(), &name).filter(|resource| resource.key.owner == Owner::Global);
    let zones = zones.filter_map(|resource| resource.parse::<Zone>().ok()).filter(|zone| zone.uid == Some(uid));
    zones
        .flat_map(|zone| zone.token_keys)
        .filter_map(|key| serde_json::from_value::<PublicKey>(key).ok())
        .filter(|key| matches!(key.issuer(), Issuer::Global(_)))
        .collect()
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
        Ok(Principal::of(proxy.id, Some(verified.id)))
    }
}

impl Authenticate for ZoneTokens {
    fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let verified = self.table().verify_user(token, self.0.clock.now());
        let verified = verified.map_err(|fault| AuthenticationError::Refused(fault.to_string()))?;
        Ok(Caller { name: verified.claims.name, groups: verified.claims.groups })
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
        let caller = Authenticate::authenticate(&tokens, own.text.expose()).unwrap();
        assert_eq!((caller.name.as_str(), caller.groups.as_slice()), ("ann", &["ops".to_owned()][..]));
        // A dataplane's token opens no door to the REST API.
        assert!(Authenticate::authenticate(&tokens, &signed(&tokens.0.own, "")).is_err());
        store.clock.advance(TimeDelta::hours(2));
        assert!(Authenticate::authenticate(&tokens, own.text.expose()).is_err());
    }

    #[tokio::test]
    async fn a_zone_makes_no_join_tokens() {
        let store = TestStore::sqlite().await.unwrap();
        let asked = tokens(&store).zone(ZoneTokenRequest { zone: "gcp".into(), valid_for: None }).await;
        assert!(matches!(asked, Err(IssueError::NotHere(_))));
    }
}
