//! GET of one resource, by path or by KRI; as it is, or as it was.

use std::sync::Arc;

use atoll_model::{Kind, Resource, kinds::Access, kri::Kri};
use atoll_store::TableSnapshot;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::{history, mesh_of};
use crate::{Plane, Problem, naming, negotiate, present, problem::title, query::Ask};

/// One resource, as JSON; with `revision=` as it was then.
pub(crate) async fn get(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    if let Some(revision) = ask.query.revision("revision")? {
        return history::at(&plane, &table, kind, revision, &ask).await;
    }
    let mesh = mesh_of(kind, ask.path.mesh());
    let resource = naming::find(&plane, &table, kind, &mesh, &ask.path.name(), &ask.permit, title::RETRIEVE)?;
    ask.permit.require(&plane, &table, Access::Get, &resource.key, title::RETRIEVE)?;
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
    // The name says the kind, not the path: who holds nothing on the kind must not learn that there is such a resource.
    if !ask.permit.may(&plane, &table, Access::Get, &resource.key) {
        return Err(ask.permit.hide(title::RETRIEVE));
    }
    Ok(respond(&plane, &table, resource, &ask))
}

pub(super) fn respond(plane: &Plane, table: &TableSnapshot, resource: &Arc<Resource>, ask: &Ask) -> Response {
    let document = present::document(plane, table, resource);
    let response = if negotiate::is_unmodified(&ask.headers, &document.tag) {
        (StatusCode::NOT_MODIFIED, [(header::CACHE_CONTROL, "no-cache")]).into_response()
    } else {
        negotiate::json_text(StatusCode::OK, document.text)
    };
    negotiate::with_revision(negotiate::with_etag(response, &document.tag), table.revision())
}
