//! Paths that Kuma's clients call and Atoll does not serve: 501 with the reason, so that nobody takes the answer for "there is
//! none". They stand beside the table of routes, since the OpenAPI document promises what is served.

use atoll_model::{Kind, Scope};
use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;

use crate::{
    Plane, Problem,
    access::{self, Operation, Subject, Verb},
};

/// What a proxy is configured with is asked of its Envoy.
const BY_LAB: &str =
    "this plane does not fetch it from the proxy; look at the Envoy's own admin port (127.0.0.1 beside the proxy)";
/// Matching is done where the configuration is made.
const BY_ZONE: &str =
    "this plane does not show which policies reach which proxy; `atoll describe` shows what selects a resource by labels";

/// Below a dataplane.
const OF_DATAPLANE: [(&str, &str); 8] = [
    ("xds", BY_LAB),
    ("stats", BY_LAB),
    ("clusters", BY_LAB),
    ("_config", BY_LAB),
    ("_policies", BY_ZONE),
    ("_rules", BY_ZONE),
    ("rules", BY_ZONE),
    ("policies", BY_ZONE),
];

/// Every such path with the reason.
pub(crate) fn rows() -> Vec<(String, &'static str)> {
    let dataplane = |(end, why): (&str, &'static str)| (format!("/meshes/{{mesh}}/dataplanes/{{name}}/{end}"), why);
    let mut rows: Vec<_> = OF_DATAPLANE.into_iter().map(dataplane).collect();
    for kind in Kind::ALL.iter().filter(|kind| is_inspected(**kind)) {
        let item = format!("/meshes/{{mesh}}/{}/{{name}}", kind.descriptor().path);
        rows.extend(["dataplanes", "_resources/dataplanes"].map(|end| (format!("{item}/{end}"), BY_ZONE)));
    }
    rows
}

/// `kumactl inspect` knows policies and services.
fn is_inspected(kind: Kind) -> bool {
    let row = kind.descriptor();
    row.scope == Scope::Mesh && (row.policy.is_some() || kind == Kind::MeshService)
}

/// Adds the paths to the routes that are served, behind the same guard.
pub(crate) fn add(mut router: Router<Plane>, plane: &Plane) -> Router<Plane> {
    for (path, why) in rows() {
        let guarding = plane.clone();
        let operation = Operation { verb: Verb::Get, subject: Subject::Known("paths") };
        let guard = from_fn(move |request: Request, next: Next| access::guard(guarding.clone(), operation, request, next));
        router = router.route(&path, get(async move || answer(why)).layer(guard));
    }
    router
}

fn answer(why: &str) -> Response {
    Problem::new(StatusCode::NOT_IMPLEMENTED, "Not implemented", why).into_response()
}
