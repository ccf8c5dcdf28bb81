//! Global's tokens: of users, of dataplanes in every zone, and the one-time tokens by which zones join.

use std::time::Duration;

use atoll_api::{
    Authenticate, AuthenticationError, Caller, DataplaneTokenRequest, IssueError, IssueTokens, UserTokenRequest, ZoneTokenRequest,
};
use atoll_model::Violation;
use atoll_store::JoinToken as Row;
use atoll_trust::{
    SecretText,
    join::JoinToken,
    jwt::{self, DATAPLANE_LIFE, DataplaneClaims, Issued, KeyTable, UserClaims},
};
use chrono::TimeDelta;
use tonic::async_trait;

use super::ZoneRegistry;

/// Life of a join token, unless asked otherwise, and the longest.
pub const JOIN_TOKEN_LIFE: TimeDelta = TimeDelta::hours(1);

/// Makes and judges global's tokens.
#[derive(Clone)]
pub struct GlobalTokens {
    registry: ZoneRegistry,
    table: KeyTable,
}

impl GlobalTokens {
    /// Works with the registry's keys.
    pub fn new(registry: ZoneRegistry) -> Self {
        let table = KeyTable::new([registry.keys().tokens.public().clone()]);
        Self { registry, table }
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
}

impl Authenticate for GlobalTokens {
    fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let verified = self.table.verify_user(token, self.registry.now());
        let verified = verified.map_err(|fault| AuthenticationError::Refused(fault.to_string()))?;
        Ok(Caller { name: verified.claims.name, groups: verified.claims.groups })
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
