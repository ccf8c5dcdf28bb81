//! `_layout`: what a proxy is given, and whether it is open.

use atoll_model::{Kind, kinds::Access, labels::Viewpoint};
use axum::response::Response;
use http::StatusCode;

use super::mesh_of;
use crate::{Plane, Problem, naming, negotiate, plane::ProxyLayout, problem::title, query::Ask};

/// The layout of one proxy, on the plane of its zone, without services of which who asks may not know.
pub(crate) fn layout(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let mesh = mesh_of(kind, ask.path.mesh());
    let resource = naming::find(&plane, &table, kind, &mesh, &ask.path.name(), &ask.permit, title::RETRIEVE)?;
    ask.permit.require(&plane, &table, Access::Get, &resource.key, title::RETRIEVE)?;
    if plane.viewpoint == Viewpoint::Global {
        return Err(Problem::not_allowed("what a proxy is given is decided by the plane of its zone: ask there"));
    }
    let known = plane.status.layout(&resource.key);
    let known = known.ok_or_else(|| Problem::unavailable("this dataplane was not looked at yet: try again"))?;
    let ProxyLayout { mut shown, services } = known;
    if let Some(outbounds) = shown["outbounds"].as_array_mut() {
        let mut services = services.iter();
        outbounds.retain(|_| services.next().is_some_and(|service| ask.permit.sees(&plane, &table, service)));
    }
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &shown), table.revision()))
}
