//! What Kuma calls the insights of meshes: how many dataplanes are there and online, how many resources of each kind.

use std::collections::BTreeMap;

use atoll_model::{Kind, Name, Resource, Scope, kinds::Access};
use atoll_store::TableSnapshot;
use axum::{
    extract::State,
    response::Response,
    routing::{MethodFilter, on},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    Plane, Problem,
    access::{Operation, Subject, Verb},
    naming, negotiate, present,
    problem::title,
    query::Ask,
    routes::{Route, Shape, row},
};

/// The routes.
pub(crate) fn mesh_insight_rows() -> Vec<Route> {
    let operation = |verb| Operation { verb, subject: Subject::Kind(Kind::Mesh) };
    vec![
        row(
            Method::GET,
            "/mesh-insights",
            "listMeshInsights",
            "Counts the dataplanes and the resources of every mesh.",
            operation(Verb::List),
            Shape::System,
            on(MethodFilter::GET, |State(plane): State<Plane>, ask: Ask| async move { mesh_insights(plane, ask) }),
        ),
        row(
            Method::GET,
            "/mesh-insights/{name}",
            "getMeshInsight",
            "Counts the dataplanes and the resources of one mesh.",
            operation(Verb::Get),
            Shape::System,
            on(MethodFilter::GET, |State(plane): State<Plane>, ask: Ask| async move { mesh_insight(plane, ask) }),
        ),
    ]
}

/// The insights of all meshes that the caller may see.
fn mesh_insights(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    ask.permit.require_some(Access::List, Kind::Mesh)?;
    let table = plane.store.snapshot();
    let seen = table.list(Kind::Mesh, None).filter(|mesh| ask.permit.may(&plane, &table, Access::List, &mesh.key));
    let items: Vec<Value> = seen.map(|mesh| insight(&plane, &table, &ask, mesh)).collect();
    let body = json!({"total": items.len(), "items": items, "next": null});
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}

/// The insight of one mesh.
fn mesh_insight(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let mesh = naming::find(&plane, &table, Kind::Mesh, &Name::none(), &ask.path.name(), &ask.permit, title::RETRIEVE)?;
    ask.permit.require(&plane, &table, Access::Get, &mesh.key, title::RETRIEVE)?;
    let body = insight(&plane, &table, &ask, mesh);
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}

fn insight(plane: &Plane, table: &TableSnapshot, ask: &Ask, mesh: &Resource) -> Value {
    let inside = |kind: Kind| {
        let all = table.list(kind, Some(&mesh.key.name));
        all.filter(|one| ask.permit.may(plane, table, Access::List, &one.key))
    };
    let (mut total, mut online) = (0_u64, 0_u64);
    for dataplane in inside(Kind::Dataplane) {
        total += 1;
        online += u64::from(plane.status.insight(&dataplane.key).is_some_and(|insight| insight["online"] == true));
    }
    let kinds = Kind::ALL.iter().filter(|kind| kind.descriptor().scope == Scope::Mesh && **kind != Kind::VipAllocation);
    let resources: BTreeMap<&str, Value> = kinds
        .map(|kind| (kind.name(), inside(*kind).count()))
        .filter(|(_, total)| *total > 0)
        .map(|(name, total)| (name, json!({ "total": total })))
        .collect();
    json!({
        "type": "MeshInsight",
        "name": mesh.key.name.as_str(),
        "creationTime": present::time(mesh.created),
        "modificationTime": present::time(mesh.modified),
        "dataplanes": {"total": total, "online": online, "offline": total - online},
        "dataplanesByType": {"standard": {"total": total, "online": online, "offline": total - online}},
        "resources": resources,
    })
}
