//! Answers' bytes and headers: Kuma's indented JSON, entity tags, preconditions.

use atoll_model::{Labels, Resource, Revision, resource::ContentHash};
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

/// An answer with a body that is JSON already.
pub(crate) fn json_text(status: StatusCode, text: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// An answer with a JSON body.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    json_text(status, pretty(value))
}

/// Marks an answer with the revision that it knows of.
pub(crate) fn with_revision(mut response: Response, revision: Revision) -> Response {
    response.headers_mut().insert(ATOLL_REVISION, HeaderValue::from(revision.0));
    response
}

/// Marks an answer with the entity tag of what it shows.
pub(crate) fn with_etag(mut response: Response, tag: &str) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The entity tag of a resource: its version, which every change raises.
pub(crate) fn etag(resource: &Resource) -> String {
    format!("\"{}\"", resource.version)
}

/// The entity tag of a resource as it is shown: with what the plane says of its status, which no version counts.
pub(crate) fn etag_of_shown(resource: &Resource, status: Option<&[u8]>) -> String {
    match status {
        None => etag(resource),
        Some(status) => {
            let hash = ContentHash::of(&Labels::new(), status).0 >> 96;
            format!("\"{}.{hash:08x}\"", resource.version)
        }
    }
}

/// What the client says it knows of a resource: `If-Match: "VERSION"`, several of them, or `*`; `If-None-Match: *`.
/// `there` is the resource as it is now: of several versions the one that it has counts.
pub(crate) fn precondition(headers: &HeaderMap, there: Option<&Resource>) -> Result<Expect, Problem> {
    match (tags(headers, &header::IF_MATCH), tags(headers, &header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expect::Any),
        (Some(given), None) if given == ["*"] => Ok(Expect::Exists),
        (Some(given), None) => {
            let versions = given.into_iter().map(version).collect::<Result<Vec<_>, _>>()?;
            let now = versions.iter().find(|given| there.is_some_and(|there| there.version == **given));
            now.or(versions.first()).map(|version| Expect::Version(*version)).ok_or_else(|| bad_tag(""))
        }
        (None, Some(given)) if given == ["*"] => Ok(Expect::Absent),
        (_, Some(_)) => Err(Problem::bad_request("If-None-Match takes only * on a write, and not together with If-Match")),
    }
}

/// The tags of a header, from all its lines.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!lines.is_empty()).then(|| lines.into_iter().flat_map(|line| line.split(',')).map(str::trim).collect())
}

/// The version that a tag names, whatever was shown beside it. Weak tags count as strong ones: a proxy that compresses
/// weakens them, and a version is exact all the same.
fn version(tag: &str) -> Result<u64, Problem> {
    let bare = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
    let version = bare.split_once('.').map_or(bare, |(version, _)| version);
    version.parse().map_err(|_| bad_tag(tag))
}

fn bad_tag(tag: &str) -> Problem {
    Problem::bad_request(format!("If-Match takes the ETag of an earlier answer, such as \"3\", not {tag:?}"))
}

/// Whether the client has what has this tag already (`If-None-Match` on a read).
pub(crate) fn is_unmodified(headers: &HeaderMap, tag: &str) -> bool {
    let given = tags(headers, &header::IF_NONE_MATCH).unwrap_or_default();
    given.into_iter().any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

/// 412: the resource is not as the client thinks.
pub(crate) fn failed_precondition(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, title::PROCESS, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(HeaderName, &'static str)], expected: Option<Expect>) {
        let mut given = HeaderMap::new();
        for (name, value) in headers {
            given.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(precondition(&given, None).ok(), expected, "{headers:?}");
    }

    #[test]
    fn preconditions_are_read_as_clients_and_proxies_write_them() {
        check(&[], Some(Expect::Any));
        check(&[(header::IF_MATCH, "*")], Some(Expect::Exists));
        check(&[(header::IF_NONE_MATCH, "*")], Some(Expect::Absent));
        for tag in ["\"7\"", "7", "W/\"7\"", "\"7.0a1b2c3d\"", " \"7\" , \"9\""] {
            check(&[(header::IF_MATCH, tag)], Some(Expect::Version(7)));
        }
        check(&[(header::IF_MATCH, "\"7\""), (header::IF_MATCH, "\"9\"")], Some(Expect::Version(7)));
        for tag in ["", "\"x\"", "*, \"7\"", "-1"] {
            check(&[(header::IF_MATCH, tag)], None);
        }
        check(&[(header::IF_NONE_MATCH, "\"7\"")], None);
        check(&[(header::IF_MATCH, "\"7\""), (header::IF_NONE_MATCH, "*")], None);
    }
}
