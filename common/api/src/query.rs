//! What a request asks for: path, query, caller and peer, taken apart once.

use std::{net::IpAddr, time::Duration};

use atoll_model::{Name, Revision};
use atoll_store::{Actor, AuditRecord, AuthMethod, Decision, RequestInfo};
use axum::extract::{FromRequestParts, Path, Query, rejection::PathRejection};
use http::{HeaderMap, StatusCode, Uri, header, request::Parts};
use serde::Deserialize;

use crate::{
    Caller, Plane, Problem,
    access::{Permit, RequestId},
    problem::{Invalid, title},
    review::Strictness,
    serve::{Peer, Stopping},
};

mod page;
mod selection;

pub(crate) use page::{From, Page, offset_after, size};
pub(crate) use selection::Selection;

/// Longest path and query.
const URI_MAX: usize = 8 << 10;
/// Parameters of a query, at most.
const PARAMETERS_MAX: usize = 100;
/// How long a read waits for `min-revision`.
const REVISION_TIME: Duration = Duration::from_secs(1);

/// A request without its body.
pub(crate) struct Ask {
    pub(crate) caller: Option<Caller>,
    /// What the caller may do to each object.
    pub(crate) permit: Permit,
    pub(crate) id: RequestId,
    pub(crate) peer: Option<Peer>,
    pub(crate) path: ItemPath,
    pub(crate) query: Parameters,
    pub(crate) headers: HeaderMap,
    pub(crate) uri: Uri,
    /// Fires when the plane stops; for answers that stream.
    pub(crate) stopping: Stopping,
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
            permit: parts.extensions.get::<Permit>().cloned().unwrap_or_default(),
            id: parts.extensions.get::<RequestId>().cloned().unwrap_or_default(),
            peer: parts.extensions.get::<Peer>().copied(),
            path,
            query,
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
            stopping: parts.extensions.get::<Stopping>().cloned().unwrap_or_default(),
        })
    }
}

impl Ask {
    /// On whose behalf a write is done.
    pub(crate) fn actor(&self) -> Actor {
        let subject = self.caller.as_ref().map(|caller| caller.name.as_str()).unwrap_or_default();
        let method = self.caller.as_ref().map_or(AuthMethod::None, |caller| caller.credential.method);
        let request = RequestInfo { id: self.id.0.clone(), method, reason: None };
        Actor::recorded(format!("user:{subject}"), self.address()).asking(request)
    }

    /// Notes in the audit what is done beside resources; when this fails, it must not be done.
    pub(crate) async fn record(&self, plane: &Plane, verb: &str, object: String, reason: Option<String>) -> Result<(), Problem> {
        let Actor { subject, address, request, .. } = self.actor();
        let record = AuditRecord {
            at: plane.clock.now(),
            revision: None,
            request_id: Some(self.id.0.clone()),
            subject,
            method: request.map_or(AuthMethod::None, |request| request.method),
            address,
            verb: verb.to_owned(),
            object,
            before: None,
            after: None,
            decision: Decision::Allowed,
            reason,
        };
        plane.store.record(record).await.map_err(|error| Problem::from_store(title::BAD_REQUEST, &error))
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.address.ip())
    }

    pub(crate) fn strictness(&self) -> Result<Strictness, Problem> {
        Ok(if self.query.flag("strict")? { Strictness::Strict } else { Strictness::Lenient })
    }

    /// Whether the write is only judged: nothing is changed.
    pub(crate) fn is_dry_run(&self) -> Result<bool, Problem> {
        self.query.flag("dry_run")
    }

    /// The URL of the same request with another value of a parameter.
    pub(crate) fn with_parameter(&self, name: &str, value: &str) -> String {
        let scheme = if self.peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        let host = self.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let host = host.or_else(|| self.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
        let kept = self.query.0.iter().filter(|(key, _)| key != name);
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).append_pair(name, value);
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

    /// Every value of a parameter that may stand several times.
    pub(crate) fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
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

pub(crate) fn parameter(name: &str, reason: String) -> Problem {
    Problem::invalid(title::BAD_REQUEST, [Invalid { field: name.to_owned(), reason, position: None }])
}

/// Waits until this instance knows the revision that the client has seen, from whichever instance.
async fn await_revision(plane: &Plane, query: &Parameters) -> Result<(), Problem> {
    let Some(wanted) = query.revision("min-revision")? else { return Ok(()) };
    if reaches(plane, wanted).await {
        return Ok(());
    }
    let here = plane.store.snapshot().revision();
    Err(Problem::unavailable(format!("revision {wanted} is not here yet (at {here}); ask again")))
}

/// Whether this instance comes to a revision, which may be another's, within the time that a read waits for it.
pub(crate) async fn reaches(plane: &Plane, wanted: Revision) -> bool {
    let mut tables = plane.store.subscribe();
    let reached = tables.wait_for(|table| table.revision() >= wanted);
    matches!(tokio::time::timeout(REVISION_TIME, reached).await, Ok(Ok(_)))
}
