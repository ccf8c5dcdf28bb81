//! Answers' bytes and headers: Kuma's indented JSON, entity tags, preconditions.

use atoll_model::{Resource, Revision};
use atoll_store::Expect;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::problem::{Problem, title};

/// The newest revision that an answer knows of.
pub(crate) const ATOLL_REVISION: HeaderName = HeaderName::from_static("atoll-revision");

/// JSON as Kuma writes it: indented by one space.
pub(crate) fn pretty<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(512);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    match value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)) {
        Ok(()) => bytes.push(b'\n'),
        Err(error) => tracing::error!(%error, "an answer cannot be written as JSON"),
    }
    Bytes::from(bytes)
}

/// An answer with a JSON body.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], pretty(value)).into_response()
}

/// Marks an answer with the revision that it knows of.
pub(crate) fn with_revision(mut response: Response, revision: Revision) -> Response {
    response.headers_mut().insert(ATOLL_REVISION, HeaderValue::from(revision.0));
    response
}

/// Marks an answer with a resource's version.
pub(crate) fn with_etag(mut response: Response, resource: &Resource) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&etag(resource)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The entity tag of a resource: its version, which every change raises.
pub(crate) fn etag(resource: &Resource) -> String {
    format!("\"{}\"", resource.version)
}

/// What the client says it knows of a resource: `If-Match: "VERSION"` or `*`, `If-None-Match: *`.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Expect, Problem> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expect::Any),
        (Some("*"), None) => Ok(Expect::Exists),
        (Some(tag), None) => parse_tag(tag).map(Expect::Version),
        (None, Some("*")) => Ok(Expect::Absent),
        (_, Some(_)) => Err(Problem::bad_request("If-None-Match takes only * on a write, and not together with If-Match")),
    }
}

fn parse_tag(tag: &str) -> Result<u64, Problem> {
    tag.trim_matches('"')
        .parse()
        .map_err(|_| Problem::bad_request(format!("If-Match takes the ETag of an earlier answer, such as \"3\", not {tag:?}")))
}

/// Whether the client has this version already (`If-None-Match` on a read).
pub(crate) fn is_unmodified(headers: &HeaderMap, resource: &Resource) -> bool {
    headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(etag(resource).as_str())
}

/// 412: the resource is not as the client thinks.
pub(crate) fn failed_precondition(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, title::PROCESS, detail)
}
