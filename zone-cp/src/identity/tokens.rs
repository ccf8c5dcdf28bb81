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
