//! GET of one resource, by path or by KRI.

use atoll_model::{Kind, Resource, kri::Kri};
use atoll_store::TableSnapshot;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::mesh_of;
use crate::{Plane, Problem, naming, negotiate, present, problem::title, query::Ask};

/// One resource, as JSON.
pub(crate) fn get(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let mesh = mesh_of(kind, ask.path.mesh());
    let resource = naming::find(&plane, &table, kind, &mesh, &ask.path.name(), title::RETRIEVE)?;
    Ok(respond(&plane, &table, resource, &ask))
}

/// The resource with a KRI.
pub(crate) fn by_kri(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    let kri: Kri = ask.path.name().parse().map_err(|error| Problem::bad_request(format!("bad request: {error}")))?;
    let table = plane.store.snapshot();
    let mut named = table.by_name(kri.kind, &kri.mesh.as_str().into(), &kri.name.as_str().into());
    let wanted = kri.with_section("");
    let found = named.find(|resource| present::kri(&plane, &table, &resource.key) == wanted);
    let resource = found.ok_or_else(|| Problem::not_found(title::RETRIEVE))?;
    Ok(respond(&plane, &table, resource, &ask))
}

fn respond(plane: &Plane, table: &TableSnapshot, resource: &Resource, ask: &Ask) -> Response {
    let response = if negotiate::is_unmodified(&ask.headers, resource) {
        (StatusCode::NOT_MODIFIED, [(header::CACHE_CONTROL, "no-cache")]).into_response()
    } else {
        negotiate::json(StatusCode::OK, &present::answer(plane, table, resource))
    };
    negotiate::with_revision(negotiate::with_etag(response, resource), table.revision())
}
