//! `Idempotency-Key`: a request that is repeated because its answer was lost is done once only, and answered alike.

use atoll_model::{Kind, Name, ResourceKey};
use atoll_store::{Actor, Expect, Once, Repeated, StoreError, Write, WriteBatch};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};

use crate::{
    Plane, Problem,
    problem::{Invalid, title},
    query::Ask,
};

/// What names a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands on the answer to a repeat.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Bytes of a key, at most.
const KEY_MAX: usize = 255;

/// The key of a request, if it has one.
///
/// # Errors
/// 400 for a key that is none, or for two.
pub(crate) fn key(ask: &Ask, method: &Method, body: &[u8]) -> Result<Option<Once>, Problem> {
    let mut given = ask.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let is_key = !value.is_empty() && value.len() <= KEY_MAX && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let key = value.to_str().ok().filter(|_| is_key && given.next().is_none()).ok_or_else(bad_key)?;
    let path = ask.uri.path_and_query().map_or_else(|| ask.uri.path(), |text| text.as_str());
    Ok(Some(Once { subject: ask.actor().subject, key: key.to_owned(), request: digest(method, path, body) }))
}

fn bad_key() -> Problem {
    let reason = format!("must be one value of 1 to {KEY_MAX} visible ASCII characters");
    Problem::invalid(title::BAD_REQUEST, [Invalid { field: "Idempotency-Key".to_owned(), reason, position: None }])
}

/// What makes two requests the same: method, path with query, and body, each with its length before it.
fn digest(method: &Method, path: &str, body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Whether the request was done before, for one that would be refused today: the mesh may be gone, the version may be another.
///
/// # Errors
/// When the key stands for another request, or the store cannot say.
pub(crate) async fn done_before(plane: &Plane, once: &Once, title: &'static str) -> Result<Option<Repeated>, Problem> {
    // A batch that cannot be done is looked up and then refused; the store keeps no key of what it refuses.
    let nothing = ResourceKey::new(Kind::Mesh, Name::none(), Name::none(), plane.viewpoint.owner());
    let writes = vec![Write::Check { key: nothing, expect: Expect::Exists }];
    match plane.store.commit(WriteBatch::new(Actor::plane(), writes).once(once.clone())).await {
        Ok(committed) => Ok(committed.repeated),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(Problem::from_store(title, &error)),
    }
}

/// Marks an answer as one to a repeat.
pub(crate) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_method_path_and_body() {
        let of = |method: Method, path: &str, body: &str| digest(&method, path, body.as_bytes());
        let one = of(Method::PUT, "/a?x=1", "b");
        assert_eq!(one, of(Method::PUT, "/a?x=1", "b"));
        for other in [of(Method::DELETE, "/a?x=1", "b"), of(Method::PUT, "/a", "b"), of(Method::PUT, "/a?x=1", "c")] {
            assert_ne!(one, other);
        }
        assert_ne!(of(Method::PUT, "/ab", "c"), of(Method::PUT, "/a", "bc"), "the parts do not run into each other");
    }
}
