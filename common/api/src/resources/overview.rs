//! Overviews: zones and dataplanes with what the plane knows of how they fare.

use atoll_model::{Kind, Resource, kinds::Access};
use atoll_store::TableSnapshot;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{list::paged, mesh_of, require_mesh};
use crate::{
    Plane, Problem, naming, negotiate, present,
    problem::title,
    query::{Ask, Selection},
};

/// A page of overviews.
pub(crate) fn overviews(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let selection = Selection::of(kind, &ask)?;
    let table = plane.store.snapshot();
    if let Some(mesh) = &selection.mesh {
        require_mesh(&table, kind, mesh, &ask.permit)?;
    }
    ask.permit.require_some(Access::List, kind)?;
    paged(&plane, &table, &ask, &selection, |resource| negotiate::pretty(&one(&plane, &table, resource)))
}

/// One overview.
pub(crate) fn overview(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let mesh = mesh_of(kind, ask.path.mesh());
    let resource = naming::find(&plane, &table, kind, &mesh, &ask.path.name(), &ask.permit, title::RETRIEVE)?;
    ask.permit.require(&plane, &table, Access::Get, &resource.key, title::RETRIEVE)?;
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &one(&plane, &table, resource)), table.revision()))
}

/// The metadata, the spec under the kind's name, and the insight beside it.
fn one(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Value {
    let part = if resource.key.kind == Kind::Zone { "zone" } else { "dataplane" };
    let mut shown = json!(present::answer(plane, table, resource));
    let spec: Value = serde_json::from_slice(&resource.document()).unwrap_or(Value::Null);
    let Value::Object(fields) = &mut shown else { return shown };
    if let Value::Object(spec) = &spec {
        fields.retain(|field, _| !spec.contains_key(field));
    }
    fields.insert("type".to_owned(), json!(format!("{}Overview", resource.key.kind)));
    fields.insert(part.to_owned(), spec);
    if part == "zone" {
        // Kuma's clients read `enabled` as given, and absent means yes.
        fields[part].as_object_mut().map(|zone| zone.entry("enabled").or_insert(Value::Bool(true)));
    }
    fields.insert(format!("{part}Insight"), plane.status.insight(&resource.key).unwrap_or_else(|| json!({})));
    shown
}
