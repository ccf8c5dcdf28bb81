//! The table of routes: from it come the router, the guards and the OpenAPI document, so that none of the three can lack a row.

use atoll_model::Kind;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    Plane, Problem,
    access::{self, Operation, Subject, Verb},
    apply, docs, kuma_gaps, links, pace,
    problem::title,
    query::Ask,
    resources, system, tokens,
};

mod kinds;

/// What an operation takes and gives; for the OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Gives an object about the plane.
    System,
    /// Gives a text of this content type.
    Text(&'static str),
    /// Gives one resource.
    Item(Kind),
    /// Gives a page of resources, or their changes.
    List(Kind),
    /// Gives one overview.
    Overview(Kind),
    /// Gives a page of overviews.
    Overviews(Kind),
    /// Gives what a proxy is given, on the plane of its zone.
    Layout,
    /// Gives what was done to one resource.
    History(Kind),
    /// Gives the hostnames of one service.
    Hostnames(Kind),
    /// Says why there is nothing: no promise of the OpenAPI document.
    Refused,
    /// Takes one resource.
    Put(Kind),
    /// Removes one resource.
    Delete(Kind),
    /// Gives the resource with a KRI.
    ByKri,
    /// Takes many documents.
    Apply,
    /// Takes a request for a token, gives the token.
    Token,
    /// Gives the revoked tokens.
    Revocations,
    /// Takes a token, or its name, and ends it.
    Revoke,
    /// Gives a page of the audit.
    Audit,
    /// Gives what a zone says of itself.
    ZoneAnswer,
    /// Takes an operator's word on a link.
    Word {
        /// Offered on zones, not on global.
        of_zone: bool,
        /// It names a kind.
        has_kind: bool,
    },
}

/// One row.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, parameters in braces.
    pub path: String,
    /// The operation's name.
    pub id: String,
    /// One sentence for readers of the OpenAPI document.
    pub summary: String,
    /// What the guard decides on.
    pub operation: Operation,
    /// What it takes and gives.
    pub shape: Shape,
    handler: MethodRouter<Plane>,
}

/// The REST API of a plane.
pub fn router(plane: Plane) -> Router {
    let mut router = Router::new();
    for route in table() {
        let (guarding, operation) = (plane.clone(), route.operation);
        let guard = from_fn(move |request: Request, next: Next| access::guard(guarding.clone(), operation, request, next));
        let (pacing, shape) = (plane.clone(), route.shape);
        let paced = from_fn(move |request: Request, next: Next| pace::pace(pacing.clone(), shape, request, next));
        router = router.route(&route.path, route.handler.layer(paced).layer(guard));
    }
    router = kuma_gaps::add(router, &plane);
    let guard = || from_fn_with_state(plane.clone(), access::guard_unknown);
    let no_path = on(MethodFilter::GET, unknown_path).fallback(unknown_path).layer(guard());
    router
        .fallback_service(no_path.with_state(plane.clone()))
        .method_not_allowed_fallback(unknown_method)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| failed().into_response()))
        .with_state(plane)
}

fn failed() -> Problem {
    Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "the request failed; the log has the reason")
}

async fn unknown_path(request: Request) -> Problem {
    let path = request.uri().path();
    let kinds = Kind::ALL.iter().map(|kind| kind.descriptor().path).collect::<Vec<_>>().join(", ");
    let detail = format!("no such path: {path:?}; resources are at /meshes/MESH/KIND or /KIND, where KIND is one of {kinds}");
    Problem { detail, ..Problem::not_found(title::RETRIEVE) }
}

async fn unknown_method(State(plane): State<Plane>, mut request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match access::admit_unknown(&plane, &mut request).await {
        Ok(()) => Problem::not_allowed(format!("{method} is not offered at {path:?}")).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Every row, in the order of the OpenAPI document.
pub fn table() -> Vec<Route> {
    let mut rows = about_the_plane();
    rows.extend(docs::rows());
    rows.extend(many_kinds());
    rows.extend(links::rows());
    rows.extend(access::rows());
    rows.extend(resources::mesh_insight_rows());
    rows.push(no_hostnames());
    for kind in Kind::ALL {
        rows.extend(kinds::rows(*kind));
    }
    rows
}

/// Makes a handler of `fn(Plane, Ask)`: reads are from memory.
macro_rules! read {
    ($method:ident, $function:expr) => {
        on(MethodFilter::$method, |State(plane): State<Plane>, ask: Ask| async move { $function(plane, ask) })
    };
}

/// Makes a handler of `async fn(Plane, Ask, Body)`.
macro_rules! write {
    ($method:ident, $function:expr) => {
        on(
            MethodFilter::$method,
            |State(plane): State<Plane>, ask: Ask, body: Body| async move { $function(plane, ask, body).await },
        )
    };
}

fn about_the_plane() -> Vec<Route> {
    let get = |path: &str, id: &str, summary: &str, subject, handler| {
        row(Method::GET, path, id, summary, Operation { verb: Verb::Get, subject }, Shape::System, handler)
    };
    vec![
        get("/", "index", "Says who answers here.", Subject::Open, read!(GET, system::index)),
        get("/healthy", "healthy", "Says that the process lives.", Subject::Open, read!(GET, system::healthy)),
        get("/ready", "ready", "Says whether the plane can do its job.", Subject::Open, read!(GET, system::ready)),
        get(
            "/config",
            "config",
            "Shows the effective configuration, secrets redacted.",
            Subject::System("config"),
            read!(GET, system::config),
        ),
        get(
            "/who-am-i",
            "whoAmI",
            "Shows name and groups of the token.",
            Subject::Known("who-am-i"),
            read!(GET, system::who_am_i),
        ),
        get(
            "/_resources",
            "resourceTypes",
            "Lists the kinds of resources and their paths.",
            Subject::Known("resources"),
            read!(GET, system::kinds),
        ),
    ]
}

/// Kinds with hostnames have rows of their own, which are looked at first.
fn no_hostnames() -> Route {
    let operation = Operation { verb: Verb::Get, subject: Subject::AnyKind };
    row(
        Method::GET,
        "/meshes/{mesh}/{kind}/{name}/_hostnames",
        "hostnamesOfOtherKinds",
        "Says which kinds have hostnames.",
        operation,
        Shape::Refused,
        on(MethodFilter::GET, |State(plane): State<Plane>, ask: Ask| async move { resources::no_hostnames(plane, ask).await }),
    )
}

fn many_kinds() -> Vec<Route> {
    let by_kri = Operation { verb: Verb::Get, subject: Subject::AnyKind };
    let apply = Operation { verb: Verb::Put, subject: Subject::AnyKind };
    let token = |path: &str, id: &str, summary: &str, subject, handler| {
        let operation = Operation { verb: Verb::Issue, subject: Subject::Token(subject) };
        row(Method::POST, path, id, summary, operation, Shape::Token, handler)
    };
    vec![
        row(
            Method::GET,
            "/_kri/{name}",
            "getByKri",
            "Gives the resource with this KRI.",
            by_kri,
            Shape::ByKri,
            read!(GET, resources::by_kri),
        ),
        row(
            Method::POST,
            "/_apply",
            "apply",
            "Writes many documents in one transaction.",
            apply,
            Shape::Apply,
            write!(POST, apply::apply),
        ),
        token("/tokens/user", "issueUserToken", "Issues a user token.", "user", write!(POST, tokens::user)),
        token(
            "/tokens/dataplane",
            "issueDataplaneToken",
            "Issues a dataplane token.",
            "dataplane",
            write!(POST, tokens::dataplane),
        ),
        token(
            "/tokens/zone",
            "issueZoneToken",
            "Issues the one-time token by which a zone joins.",
            "zone",
            write!(POST, tokens::zone),
        ),
    ]
}

pub(crate) fn row(
    method: Method,
    path: &str,
    id: &str,
    summary: &str,
    operation: Operation,
    shape: Shape,
    handler: MethodRouter<Plane>,
) -> Route {
    Route { method, path: path.to_owned(), id: id.to_owned(), summary: summary.to_owned(), operation, shape, handler }
}
