//! What a request asks for: path, query, caller and peer, taken apart once.

use std::{net::IpAddr, time::Duration};

use atoll_model::{Labels, Name, Owner, ResourceKey, Revision};
use atoll_store::Actor;
use axum::extract::{FromRequestParts, Path, Query, rejection::PathRejection};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, Uri, header, request::Parts};
use serde::Deserialize;

use crate::{
    Caller, Plane, Problem,
    body::limits,
    problem::{Invalid, title},
    review::Strictness,
    serve::Peer,
};

/// Longest path and query.
const URI_MAX: usize = 8 << 10;
/// Parameters of a query, at most.
const PARAMETERS_MAX: usize = 100;
/// How long a read waits for `min-revision`.
const REVISION_TIME: Duration = Duration::from_secs(1);

/// A request without its body.
pub(crate) struct Ask {
    pub(crate) caller: Option<Caller>,
    pub(crate) peer: Option<Peer>,
    pub(crate) path: ItemPath,
    pub(crate) query: Parameters,
    pub(crate) headers: HeaderMap,
    pub(crate) uri: Uri,
}

/// The parameters of a path.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ItemPath {
    #[serde(default)]
    mesh: String,
    #[serde(default)]
    name: String,
}

impl ItemPath {
    pub(crate) fn mesh(&self) -> Name {
        self.mesh.as_str().into()
    }

    /// The item's name; that of a mesh stands in the place of the mesh.
    pub(crate) fn name(&self) -> Name {
        if self.name.is_empty() { self.mesh() } else { self.name.as_str().into() }
    }
}

impl FromRequestParts<Plane> for Ask {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, plane: &Plane) -> Result<Self, Problem> {
        if parts.uri.path_and_query().is_some_and(|text| text.as_str().len() > URI_MAX) {
            return Err(Problem::new(StatusCode::URI_TOO_LONG, title::BAD_REQUEST, "the URL is longer than 8192 bytes"));
        }
        let query = Parameters::of(&parts.uri)?;
        await_revision(plane, &query).await?;
        let path = match Path::<ItemPath>::from_request_parts(parts, plane).await {
            Ok(Path(path)) => path,
            Err(PathRejection::MissingPathParams(_)) => ItemPath::default(),
            Err(_) => return Err(Problem::bad_request("the path cannot be read; percent-encode it as UTF-8")),
        };
        Ok(Self {
            caller: parts.extensions.get::<Caller>().cloned(),
            peer: parts.extensions.get::<Peer>().copied(),
            path,
            query,
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
        })
    }
}

impl Ask {
    /// On whose behalf a write is done.
    pub(crate) fn actor(&self) -> Actor {
        let subject = self.caller.as_ref().map(|caller| caller.name.as_str()).unwrap_or_default();
        Actor::recorded(format!("user:{subject}"), self.address())
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.address.ip())
    }

    pub(crate) fn strictness(&self) -> Result<Strictness, Problem> {
        Ok(if self.query.flag("strict")? { Strictness::Strict } else { Strictness::Lenient })
    }

    /// The URL of the same request with another `offset`.
    pub(crate) fn with_offset(&self, offset: &str) -> String {
        let scheme = if self.peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        let host = self.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let host = host.or_else(|| self.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
        let kept = self.query.0.iter().filter(|(key, _)| key != "offset");
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair("offset", offset);
        format!("{scheme}://{host}{}?{}", self.uri.path(), query.finish())
    }
}

/// The parameters of a query, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::bad_request("the query cannot be read; write it as a=b&c=d, percent-encoded"))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(Problem::bad_request(format!("more than {PARAMETERS_MAX} query parameters")));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch: absent means off, present without a value means on.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(parameter(name, format!("must be true or false, not {other:?}"))),
        }
    }

    pub(crate) fn revision(&self, name: &str) -> Result<Option<Revision>, Problem> {
        match self.text(name).map(str::parse) {
            None => Ok(None),
            Some(Ok(revision)) => Ok(Some(Revision(revision))),
            Some(Err(_)) => {
                Err(parameter(name, "must be a revision, such as the Atoll-Revision of an earlier answer".to_owned()))
            }
        }
    }
}

fn parameter(name: &str, reason: String) -> Problem {
    Problem::invalid(title::BAD_REQUEST, [Invalid { field: name.to_owned(), reason, position: None }])
}

/// Waits until this instance knows the revision that the client has seen.
async fn await_revision(plane: &Plane, query: &Parameters) -> Result<(), Problem> {
    let Some(wanted) = query.revision("min-revision")? else { return Ok(()) };
    let mut tables = plane.store.subscribe();
    let reached = tokio::time::timeout(REVISION_TIME, tables.wait_for(|table| table.revision() >= wanted)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Problem::unavailable(format!(
            "revision {wanted} is not here yet (at {}); ask again",
            plane.store.snapshot().revision()
        ))),
    }
}

/// Which items of a list.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) name: Option<String>,
    pub(crate) labels: Labels,
}

impl Selection {
    /// Reads `name` and `filter[labels.KEY]=VALUE`. `route` names the path in faults, as Kuma does.
    pub(crate) fn of(query: &Parameters, route: &str) -> Result<Self, Problem> {
        let mut labels = Labels::new();
        let mut faults = Vec::new();
        for (key, value) in &query.0 {
            let Some(filter) = key.strip_prefix("filter[") else { continue };
            match (filter.strip_suffix(']'), filter.strip_prefix("labels.")) {
                (Some(inner), _) if inner.contains("][") => faults.push((key, "advanced filters are not supported")),
                (Some(_), Some(label)) => {
                    labels.insert(label.trim_end_matches(']').to_owned(), value.clone());
                }
                _ => faults.push((key, "filters are only supported on labels")),
            }
        }
        if !faults.is_empty() {
            let invalid = faults.into_iter().map(|(key, reason)| Invalid {
                field: format!("{route}.{key}"),
                reason: reason.to_owned(),
                position: None,
            });
            return Err(Problem::invalid(title::LIST, invalid));
        }
        Ok(Self { name: query.text("name").filter(|name| !name.is_empty()).map(str::to_owned), labels })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_all(&self) -> bool {
        self.name.is_none() && self.labels.is_empty()
    }
}

/// Which page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) size: usize,
    pub(crate) from: From,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    /// After so many items.
    Index(usize),
    /// After the item with this key, whether it is still there or not: pages stay stable while others write.
    After(ResourceKey),
}

impl Page {
    pub(crate) fn of(query: &Parameters, kind: atoll_model::Kind) -> Result<Self, Problem> {
        let size = match query.text("size") {
            None => limits::PAGE,
            Some(text) => match text.parse::<i64>() {
                Err(_) => return Err(size_fault("must be a number".to_owned())),
                Ok(..=0) => return Err(size_fault("must be greater than 0".to_owned())),
                Ok(size) => usize::try_from(size)
                    .ok()
                    .filter(|size| *size <= limits::PAGE_MAX)
                    .ok_or_else(|| size_fault(format!("must be at most {}", limits::PAGE_MAX)))?,
            },
        };
        let from = match query.text("offset") {
            None | Some("") => From::Index(0),
            Some(text) => text
                .parse()
                .map(From::Index)
                .ok()
                .or_else(|| decode(text, kind))
                .ok_or_else(|| parameter("offset", "must be what `next` of an earlier answer says".to_owned()))?,
        };
        Ok(Self { size, from })
    }
}

fn size_fault(reason: String) -> Problem {
    let invalid = Invalid { field: "size".to_owned(), reason, position: None };
    Problem { detail: "Invalid page size".to_owned(), ..Problem::invalid(title::LIST, [invalid]) }
}

/// The offset that begins after `key`.
pub(crate) fn offset_after(key: &ResourceKey) -> String {
    format!("k{}", URL_SAFE_NO_PAD.encode(format!("{}\n{}\n{}", key.mesh, key.name, key.owner)))
}

fn decode(text: &str, kind: atoll_model::Kind) -> Option<From> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix('k')?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.splitn(3, '\n');
    let (mesh, name, owner) = (parts.next()?, parts.next()?, parts.next()?.parse::<Owner>().ok()?);
    Some(From::After(ResourceKey::new(kind, mesh, name, owner)))
}

#[cfg(test)]
mod tests {
    use atoll_model::{Kind, ZoneUid};

    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn offsets_come_back_as_they_went() {
        let key = ResourceKey::new(Kind::MeshService, "default", "api", Owner::Zone(ZoneUid(uuid::Uuid::from_u128(7))));
        let query = parameters(&format!("size=5&offset={}", offset_after(&key)));
        let page = Page::of(&query, Kind::MeshService).unwrap();
        assert_eq!((page.size, page.from), (5, From::After(key)));
        assert_eq!(Page::of(&parameters("offset=3"), Kind::Mesh).unwrap().from, From::Index(3));
        assert!(Page::of(&parameters("offset=kzz"), Kind::Mesh).is_err());
    }

    #[test]
    fn sizes_are_checked_as_kuma_does() {
        for (query, reason) in [("size=x", "number"), ("size=0", "greater than 0"), ("size=-1", "greater"), ("size=1001", "1000")]
        {
            let problem = Page::of(&parameters(query), Kind::Mesh).unwrap_err();
            assert_eq!((problem.status, problem.detail.as_str()), (StatusCode::BAD_REQUEST, "Invalid page size"));
            assert!(problem.invalid[0].reason.contains(reason), "{query}");
        }
        assert_eq!(Page::of(&parameters("size=1000"), Kind::Mesh).unwrap().size, 1000);
    }

    #[test]
    fn filters_are_labels_only() {
        let selection = Selection::of(&parameters("filter[labels.a.b/c]=1&filter%5Blabels.d%5D=2&name=x"), "/r").unwrap();
        assert_eq!(selection.labels, [("a.b/c", "1"), ("d", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        for (query, reason) in
            [("filter[spec.x]=1", "only supported on labels"), ("filter[labels.a][eq]=1", "advanced filters are not supported")]
        {
            assert!(Selection::of(&parameters(query), "/r").unwrap_err().invalid[0].reason.contains(reason), "{query}");
        }
    }
}
