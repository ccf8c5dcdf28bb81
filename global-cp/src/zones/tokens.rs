//! Global's tokens: of users, of dataplanes in every zone, and the one-time tokens by which zones join.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_api::{
    Authenticate, AuthenticationError, Caller, Credential, DataplaneTokenRequest, IssueError, IssueTokens, TokenName,
    UserTokenRequest, ZoneTokenRequest, access::oidc::Oidc,
};
use atoll_model::{Timestamp, Violation};
use atoll_store::{AuthMethod, JoinToken as Row};
use atoll_trust::{
    SecretText,
    join::JoinToken,
    jwt::{self, DATAPLANE_LIFE, DataplaneClaims, Issued, KeyTable, LEEWAY, UserClaims},
};
use chrono::TimeDelta;
use tonic::async_trait;

use super::ZoneRegistry;

/// Life of a join token, unless asked otherwise, and the longest.
pub const JOIN_TOKEN_LIFE: TimeDelta = TimeDelta::hours(1);

/// How long the last known list of revoked tokens is good for those who come anew, while it cannot be read.
const BLIND: TimeDelta = TimeDelta::minutes(5);

/// Makes and judges global's tokens, and judges those of an identity provider.
#[derive(Clone)]
pub struct GlobalTokens {
    registry: ZoneRegistry,
    table: KeyTable,
    oidc: Option<Oidc>,
    /// Whether others revoke tokens in the same store: who has it alone knows of every revocation.
    shared: bool,
    /// Since when the store does not answer, as far as somebody asked.
    blind_since: Arc<Mutex<Option<Timestamp>>>,
}

impl GlobalTokens {
    /// Works with the registry's keys.
    pub fn new(registry: ZoneRegistry) -> Self {
        let table = KeyTable::new([registry.keys().tokens.public().clone()]);
        Self { registry, table, oidc: None, shared: false, blind_since: Arc::default() }
    }

    /// The same, which takes the tokens of an identity provider, too.
    #[must_use]
    pub fn with_oidc(self, oidc: Option<Oidc>) -> Self {
        Self { oidc, ..self }
    }

    /// The same, on a store that other instances write, too.
    #[must_use]
    pub fn on_shared(self, shared: bool) -> Self {
        Self { shared, ..self }
    }

    fn is_revoked(&self, id: &str) -> bool {
        !id.is_empty() && self.registry.store().registry().borrow().is_revoked(id)
    }

    /// Refuses who comes anew when nobody knows which tokens were revoked meanwhile.
    fn refuse_blind(&self) -> Result<(), AuthenticationError> {
        let (now, mut since) = (self.registry.now(), self.blind_since.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.shared || self.registry.store().is_available() {
            *since = None;
            return Ok(());
        }
        let since = *since.get_or_insert(now);
        if now - since <= BLIND {
            return Ok(());
        }
        let why = format!("the list of revoked tokens cannot be read since {since}: nobody new is let in until it can");
        Err(AuthenticationError::Unavailable(why))
    }

    /// Makes a user token: also for the first operator, before anybody could ask for one.
    ///
    /// # Errors
    /// When the name is empty or the validity is none.
    pub fn issue_user(&self, claims: &UserClaims, life: TimeDelta) -> Result<Issued, jwt::IssueError> {
        let (keys, now) = (self.registry.keys(), self.registry.now());
        self.registry.with_rng(|rng| keys.tokens.issue_user(claims, life, now, rng))
    }

    /// Makes a join token; only its hash is kept.
    ///
    /// # Errors
    /// When it would live too long, or the store does not take writes.
    pub async fn issue_join(&self, request: &ZoneTokenRequest) -> Result<SecretText, IssueError> {
        let life = request.valid_for.map_or(JOIN_TOKEN_LIFE, delta);
        if life > JOIN_TOKEN_LIFE {
            return Err(invalid("validFor", "a join token holds one hour at most"));
        }
        let token = self.registry.with_rng(|rng| JoinToken::generate(self.registry.keys().ca.pin(), rng));
        let row = Row {
            id: token.id().to_owned(),
            hash: token.hash().0,
            zone: request.zone.clone(),
            expires: self.registry.now() + life,
        };
        self.registry.store().put_join_token(&row).await.map_err(|error| IssueError::Unavailable(error.to_string()))?;
        tracing::info!(zone = %request.zone, token.id = row.id, "made a join token for zone {}", request.zone);
        Ok(token.to_text())
    }
}

#[async_trait]
impl IssueTokens for GlobalTokens {
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
        let (keys, now) = (self.registry.keys(), self.registry.now());
        answer(self.registry.with_rng(|rng| keys.tokens.issue_dataplane(&claims, life, now, rng)))
    }

    async fn zone(&self, request: ZoneTokenRequest) -> Result<String, IssueError> {
        self.issue_join(&request).await.map(|token| token.expose().to_owned())
    }

    fn identify(&self, token: &str) -> Result<TokenName, IssueError> {
        let known = self.table.identify(token).map_err(|fault| {
            let what = "give the token's jti: only tokens that this plane signed can be revoked by themselves";
            IssueError::NotHere(format!("{fault}; {what}"))
        })?;
        Ok(TokenName { id: known.id, until: known.expires + LEEWAY })
    }
}

#[async_trait]
impl Authenticate for GlobalTokens {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let caller = match &self.oidc {
            Some(oidc) if oidc.claims(token) => oidc.authenticate(token).await?,
            Some(_) | None => {
                let verified = self.table.verify_user(token, self.registry.now());
                let verified = verified.map_err(|fault| AuthenticationError::Refused(fault.to_string()))?;
                let credential =
                    Credential { method: AuthMethod::Token, id: verified.id, expires: Some(verified.expires + LEEWAY) };
                Caller::new(verified.claims.name, verified.claims.groups).with(credential)
            }
        };
        if self.is_revoked(&caller.credential.id) {
            return Err(AuthenticationError::Refused(jwt::TokenFault::Revoked.to_string()));
        }
        self.refuse_blind()?;
        Ok(caller)
    }

    fn admit(&self, credential: &Credential) -> Result<(), AuthenticationError> {
        if self.is_revoked(&credential.id) {
            return Err(AuthenticationError::Refused("the credential was revoked".to_owned()));
        }
        self.refuse_blind()
    }

    fn is_withdrawn(&self, credential: &Credential) -> bool {
        self.is_revoked(&credential.id)
    }
}

/// Longer than any token may live, if it does not fit.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

fn answer(issued: Result<Issued, jwt::IssueError>) -> Result<String, IssueError> {
    match issued {
        Ok(issued) => Ok(issued.text.expose().to_owned()),
        Err(fault @ (jwt::IssueError::NoValidity | jwt::IssueError::TooLong)) => Err(invalid("validFor", &fault.to_string())),
        Err(jwt::IssueError::Empty(field)) => Err(invalid(field, "cannot be empty")),
        Err(fault @ jwt::IssueError::Signing) => Err(IssueError::Unavailable(fault.to_string())),
    }
}

fn invalid(field: &str, message: &str) -> IssueError {
    IssueError::Invalid(vec![Violation::new(field, message)])
}
