//! Errors as answers: problem documents (RFC 9457) with the fields that Kuma's clients read.

use std::{borrow::Cow, sync::Arc};

use atoll_model::{Kind, ResourceKey, Violation};
use atoll_store::StoreError;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::body::positions::Position;

/// What a client may know of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// What could not be done.
    pub title: Cow<'static, str>,
    /// Why, and what to do about it.
    pub detail: String,
    /// The faulty parameters, all of them.
    pub invalid: Vec<Invalid>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
    /// Results per document, of `/_apply`.
    pub results: Option<serde_json::Value>,
}

/// One faulty parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// Where it stands in a YAML body.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl From<Violation> for Invalid {
    fn from(violation: Violation) -> Self {
        Self { field: violation.field, reason: violation.message, position: None }
    }
}

/// Kuma's titles.
pub(crate) mod title {
    pub(crate) const PROCESS: &str = "Could not process a resource";
    pub(crate) const RETRIEVE: &str = "Could not retrieve a resource";
    pub(crate) const LIST: &str = "Could not retrieve resources";
    pub(crate) const DELETE: &str = "Could not delete a resource";
    pub(crate) const MESH: &str = "Failed to retrieve Mesh";
    pub(crate) const BAD_REQUEST: &str = "Bad Request";
    pub(crate) const INVALID_REQUEST: &str = "Invalid request";
    pub(crate) const APPLY: &str = "Could not apply the documents";
}

impl Problem {
    /// A problem without faulty parameters.
    pub fn new(status: StatusCode, title: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: detail.into(), invalid: Vec::new(), retry_after: None, results: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title::BAD_REQUEST, detail)
    }

    /// 400 with every fault.
    pub fn invalid(title: impl Into<Cow<'static, str>>, faults: impl IntoIterator<Item = impl Into<Invalid>>) -> Self {
        let invalid = faults.into_iter().map(Into::into).collect();
        Self { invalid, ..Self::new(StatusCode::BAD_REQUEST, title, "Resource is not valid") }
    }

    /// 404 with Kuma's text.
    pub fn not_found(title: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, title, "Not found")
    }

    /// 405: the kind or the operation is not this plane's.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail)
    }

    /// 401: who asks is not known.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Invalid authentication data", detail)
    }

    /// 403: who asks may not.
    pub fn denied(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Access Denied", detail)
    }

    /// 503: a part is not there now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail) }
    }

    /// What a store's refusal means to the client who asked for `title`.
    pub(crate) fn from_store(title: &'static str, error: &StoreError) -> Self {
        match error {
            // The mesh went while something was written into it.
            StoreError::NotFound(key) if key.kind == Kind::Mesh && is_put(title) => Self::not_found(title::MESH),
            StoreError::NotFound(key) if is_put(title) => absent(title, key),
            StoreError::NotFound(_) => Self::not_found(title),
            StoreError::AlreadyExists(key) => Self::new(StatusCode::PRECONDITION_FAILED, title, format!("{key} exists already")),
            StoreError::Conflict { key, expected, actual } => {
                let found = actual.map_or_else(|| "does not exist".to_owned(), |actual| format!("is at version {actual}"));
                let detail = format!("{key} {found}, expected version {expected}: read it again, then repeat the change");
                Self::new(StatusCode::PRECONDITION_FAILED, title, detail)
            }
            StoreError::Invalid { reason, .. } => Self::new(StatusCode::BAD_REQUEST, title, reason.clone()),
            StoreError::KeyReused => {
                let detail = "this Idempotency-Key was used for another request: use a new key for each, and repeat it only \
                              with the same method, path, query and body";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail)
            }
            StoreError::Uncertain(_) => {
                log(error);
                Self::unavailable("the store was lost while it wrote: read again whether the change is there, then repeat it")
            }
            StoreError::Unavailable(_)
            | StoreError::Closed
            | StoreError::Locked(_)
            | StoreError::Corrupt(_)
            | StoreError::Sealed(_) => {
                log(error);
                Self::unavailable("the store takes no writes at the moment; nothing was changed")
            }
        }
    }
}

fn is_put(title: &str) -> bool {
    matches!(title, title::PROCESS | title::APPLY)
}

/// 412: a write wants what exists.
pub(crate) fn absent(title: &'static str, key: &ResourceKey) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, title, format!("{key} does not exist, and the precondition wants that it does"))
}

/// Failures that the client has no part in are logged here, once, with their causes.
fn log(error: &StoreError) {
    tracing::error!(error = %chain(error), "the store failed a request");
}

/// An error with its causes, for logs.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The document itself. `details` and `causes` repeat `detail` and `invalid_parameters` for Kuma's older clients.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: u16,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    invalid_parameters: &'a [Invalid],
    details: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<&'a serde_json::Value>,
}

#[derive(Serialize)]
struct Cause<'a> {
    field: &'a str,
    message: &'a str,
}

impl Problem {
    /// The document; `instance` names the request.
    fn document(&self, instance: Option<&str>) -> Bytes {
        let causes = self.invalid.iter().map(|fault| Cause { field: &fault.field, message: &fault.reason }).collect();
        crate::negotiate::pretty(&Document {
            kind: "/std-errors",
            status: self.status.as_u16(),
            title: &self.title,
            detail: &self.detail,
            instance,
            invalid_parameters: &self.invalid,
            details: &self.detail,
            causes,
            results: self.results.as_ref(),
        })
    }
}

/// Names the request in an answer that is a problem, so that who reads it can find it in the log and the audit.
pub(crate) fn with_instance(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        *response.body_mut() = Body::from(problem.document(Some(id)));
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.document(None)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
