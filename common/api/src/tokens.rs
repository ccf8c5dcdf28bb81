//! POST /tokens/…: tokens of users and dataplanes, and the one-time token by which a zone joins.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use atoll_model::{Name, Timestamp, Violation, duration::GoDuration, kinds::Access, labels::Viewpoint, names};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Deserialize;

use crate::{
    Plane, Problem,
    access::{Grants, Object, Verb},
    body,
    problem::title,
    query::Ask,
};

/// Makes tokens.
#[async_trait]
pub trait IssueTokens: Send + Sync {
    /// A token of a user.
    ///
    /// # Errors
    /// See [`IssueError`].
    async fn user(&self, request: UserTokenRequest) -> Result<String, IssueError>;
    /// A token of dataplanes.
    ///
    /// # Errors
    /// See [`IssueError`].
    async fn dataplane(&self, request: DataplaneTokenRequest) -> Result<String, IssueError>;
    /// The one-time token by which a zone joins.
    ///
    /// # Errors
    /// See [`IssueError`].
    async fn zone(&self, request: ZoneTokenRequest) -> Result<String, IssueError>;
    /// The name of a token by which it can be revoked, whatever it is for and whether it still holds.
    ///
    /// # Errors
    /// [`IssueError::NotHere`] when it is no token that this plane judges.
    fn identify(&self, token: &str) -> Result<TokenName, IssueError>;
}

/// How lists of revoked tokens call a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName {
    /// Its `jti`.
    pub id: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request asks for what must not be.
    #[error("{} parameters are not valid", .0.len())]
    Invalid(Vec<Violation>),
    /// This plane does not make such tokens; the text says who does.
    #[error("{0}")]
    NotHere(String),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(String),
}

/// What a user token shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserTokenRequest {
    /// The user's name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// How long it holds.
    pub valid_for: Duration,
}

/// What a dataplane token shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneTokenRequest {
    /// The only dataplane that it lets in; empty means any.
    pub name: String,
    /// The mesh.
    pub mesh: Name,
    /// The labels that the dataplane must have, each with its values.
    pub tags: BTreeMap<String, Vec<String>>,
    /// The only workload that it lets in; empty means any.
    pub workload: String,
    /// How long it holds, if asked.
    pub valid_for: Option<Duration>,
}

/// For which zone a join token shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneTokenRequest {
    /// The zone's name.
    pub zone: Name,
    /// How long it holds, if asked.
    pub valid_for: Option<Duration>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct UserBody {
    name: String,
    groups: Option<Vec<String>>,
    valid_for: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DataplaneBody {
    name: String,
    mesh: String,
    tags: Option<BTreeMap<String, Vec<String>>>,
    #[serde(rename = "type")]
    kind: String,
    workload: String,
    valid_for: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ZoneBody {
    zone: String,
    valid_for: String,
}

/// A user token.
pub(crate) async fn user(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    let given: UserBody = read(body).await?;
    let mut faults = Vec::new();
    if given.name.is_empty() {
        faults.push(Violation::new("name", "cannot be empty"));
    }
    if given.valid_for.is_empty() {
        faults.push(Violation::new("validFor", "cannot be empty"));
    }
    let valid_for = validity(&given.valid_for, &mut faults).unwrap_or_default();
    refuse(faults)?;
    let request = UserTokenRequest { name: given.name, groups: given.groups.unwrap_or_default(), valid_for };
    ask.permit.require_object(Access::IssueUserToken, &Object { name: &request.name, ..Object::default() })?;
    Grants::new(&plane, &plane.store.snapshot(), &ask.permit).check_user(&request.name, &request.groups)?;
    let (name, groups) = (request.name.clone(), request.groups.join(","));
    let made = plane.tokens.user(request).await;
    answer(&plane, &ask, made, format!("Token/user/{name}"), Some(format!("groups {groups}"))).await
}

/// A dataplane token.
pub(crate) async fn dataplane(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    let given: DataplaneBody = read(body).await?;
    let mut faults = Vec::new();
    faults.extend(names::mesh_fault(&given.mesh).map(|fault| Violation::new("mesh", fault)));
    if !matches!(given.kind.as_str(), "" | "dataplane") {
        faults.push(Violation::new("type", format!("{} is not a valid proxy type", given.kind)));
    }
    let valid_for = validity(&given.valid_for, &mut faults);
    refuse(faults)?;
    let request = DataplaneTokenRequest {
        name: given.name,
        mesh: given.mesh.into(),
        tags: given.tags.unwrap_or_default(),
        workload: given.workload,
        valid_for,
    };
    let object = Object { kind: None, mesh: &request.mesh, zone: own_zone(&plane), name: &request.name };
    ask.permit.require_object(Access::IssueDataplaneToken, &object)?;
    let object = format!("Token/dataplane/{}/{}", request.mesh, request.name);
    let made = plane.tokens.dataplane(request).await;
    answer(&plane, &ask, made, object, None).await
}

/// The one-time token by which a zone joins.
pub(crate) async fn zone(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    let given: ZoneBody = read(body).await?;
    let mut faults = Vec::new();
    faults.extend(names::name_fault(&given.zone, true).map(|fault| Violation::new("zone", fault)));
    let valid_for = validity(&given.valid_for, &mut faults);
    refuse(faults)?;
    let object = Object { zone: &given.zone, name: &given.zone, ..Object::default() };
    ask.permit.require_object(Access::IssueZoneToken, &object)?;
    let object = format!("Token/zone/{}", given.zone);
    let made = plane.tokens.zone(ZoneTokenRequest { zone: given.zone.into(), valid_for }).await;
    answer(&plane, &ask, made, object, None).await
}

/// The zone whose proxies a dataplane token of this plane lets in; none of global's, which hold in every zone.
fn own_zone(plane: &Plane) -> &str {
    match &plane.viewpoint {
        Viewpoint::Zone { name, .. } => name,
        Viewpoint::Global => "",
    }
}

async fn read<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    body::parse_json(&body::whole(body).await?)
}

fn validity(text: &str, faults: &mut Vec<Violation>) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<GoDuration>() {
        Ok(duration) if duration.0 > 0 => Some(duration.to_std()),
        Ok(_) => {
            faults.push(Violation::new("validFor", "must be greater than 0"));
            None
        }
        Err(error) => {
            faults.push(Violation::new("validFor", format!("is invalid: {error}")));
            None
        }
    }
}

fn refuse(faults: Vec<Violation>) -> Result<(), Problem> {
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(title::INVALID_REQUEST, faults)) }
}

/// The token, once the audit has it.
async fn answer(
    plane: &Plane,
    ask: &Ask,
    made: Result<String, IssueError>,
    object: String,
    about: Option<String>,
) -> Result<Response, Problem> {
    match made {
        Ok(token) => {
            let id = plane.tokens.identify(&token).ok().map(|name| format!("jti {}", name.id));
            let about = [id, about].into_iter().flatten().collect::<Vec<_>>().join(", ");
            ask.record(plane, Verb::Issue.name(), object, Some(about).filter(|about| !about.is_empty())).await?;
            let headers = [(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")];
            Ok((StatusCode::OK, headers, token).into_response())
        }
        Err(IssueError::Invalid(faults)) => Err(Problem::invalid(title::INVALID_REQUEST, faults)),
        Err(IssueError::NotHere(why)) => Err(Problem::not_allowed(why)),
        Err(IssueError::Unavailable(why)) => Err(Problem::unavailable(why)),
    }
}
