//! DELETE: removes one resource, and what lives in it.

use atoll_model::{Kind, Name, Owner, Resource, ResourceKey, Scope, Violation, kinds::Zone};
use atoll_store::{Expect, TableSnapshot, Write, WriteBatch};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{mesh_check, mesh_of};
use crate::{Plane, Problem, naming, negotiate, plane, present, problem::title, query::Ask};

/// Dependants that a refusal names, at most.
const NAMED: usize = 5;

/// Removes one resource of this plane.
pub(crate) async fn delete(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    if !plane.viewpoint.may_write(kind) {
        return Err(Problem::not_allowed(plane::read_only_reason(&plane.viewpoint, kind)));
    }
    let table = plane.store.snapshot();
    let mesh = mesh_of(kind, ask.path.mesh());
    let name = ask.path.name();
    let key = own_key(&plane, &table, kind, &mesh, &name)?;
    let resource = table.get(&key).ok_or_else(|| Problem::not_found(title::DELETE))?;
    let faults: Vec<Violation> =
        dataplanes_left(&table, resource).into_iter().chain(plane.admission.review_delete(&table, &key)).collect();
    if !faults.is_empty() {
        return Err(Problem::invalid(title::DELETE, faults));
    }
    let expect = match negotiate::precondition(&ask.headers)? {
        Expect::Absent => return Err(negotiate::failed_precondition("a delete wants what exists")),
        Expect::Any => Expect::Exists,
        given @ (Expect::Exists | Expect::Version(_)) => given,
    };
    let mut writes = dependants(&plane, &table, resource);
    writes.push(Write::Delete { key, expect });
    let batch = WriteBatch::new(ask.actor(), writes);
    let mut committed = plane.store.commit(batch).await.map_err(|error| Problem::from_store(title::DELETE, &error))?;
    // What was written into a mesh while its dependants were gathered; nothing can come after.
    let late = late_in_mesh(&plane, kind, &name);
    if !late.is_empty() {
        let batch = WriteBatch::new(ask.actor(), late);
        committed = plane.store.commit(batch).await.map_err(|error| Problem::from_store(title::DELETE, &error))?;
    }
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &json!({})), committed.revision))
}

/// What a delete means: the plane's own resource. One of another plane is named in the refusal.
fn own_key(plane: &Plane, table: &TableSnapshot, kind: Kind, mesh: &Name, name: &Name) -> Result<ResourceKey, Problem> {
    let own = ResourceKey::new(kind, mesh.clone(), name.clone(), plane.viewpoint.owner());
    if table.get(&own).is_some() {
        return Ok(own);
    }
    let foreign = naming::find(plane, table, kind, mesh, name, title::DELETE)?;
    let owner = present::zone(plane, table, &foreign.key).map_or_else(|| "global".to_owned(), |zone| format!("zone {zone}"));
    Err(Problem::not_allowed(format!("{name} belongs to {owner}: delete it there")))
}

/// A mesh with dataplanes stays.
fn dataplanes_left(table: &TableSnapshot, resource: &Resource) -> Option<Violation> {
    if resource.key.kind != Kind::Mesh {
        return None;
    }
    let names: Vec<_> = table.list(Kind::Dataplane, Some(&resource.key.name)).map(|one| one.key.name.to_string()).collect();
    let listed = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED { ", …" } else { "" };
    (!names.is_empty()).then(|| {
        let message = format!("unable to delete mesh, there are still {} dataplanes attached: {listed}{more}", names.len());
        Violation::new("mesh", message)
    })
}

/// What goes with a resource, in the same transaction: this plane's resources in a mesh; of a zone, what it owns.
fn dependants(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Vec<Write> {
    match resource.key.kind {
        Kind::Mesh => in_mesh(plane, table, &resource.key.name),
        Kind::Zone => match resource.parse::<Zone>().ok().and_then(|zone| zone.uid) {
            Some(uid) if Owner::Zone(uid) != plane.viewpoint.owner() => {
                let all = Kind::ALL.iter().flat_map(|kind| table.list(*kind, None));
                all.filter(|one| one.key.owner == Owner::Zone(uid)).map(|one| Write::delete(one.key.clone())).collect()
            }
            Some(_) | None => Vec::new(),
        },
        Kind::Dataplane
        | Kind::MeshService
        | Kind::MeshZoneAddress
        | Kind::HostnameGenerator
        | Kind::MeshIdentity
        | Kind::MeshTrust
        | Kind::MeshTrafficPermission
        | Kind::MeshTimeout
        | Kind::MeshTls
        | Kind::VipAllocation
        | Kind::MeshExternalService
        | Kind::Workload
        | Kind::Secret
        | Kind::GlobalSecret
        | Kind::AccessRole
        | Kind::AccessRoleBinding => Vec::new(),
    }
}

fn late_in_mesh(plane: &Plane, kind: Kind, name: &Name) -> Vec<Write> {
    let table = plane.store.snapshot();
    let is_gone = kind == Kind::Mesh && mesh_check(&table, name).is_none();
    if is_gone { in_mesh(plane, &table, name) } else { Vec::new() }
}

/// Deletions of this plane's resources in a mesh. What zones own there is theirs to take away.
fn in_mesh(plane: &Plane, table: &TableSnapshot, mesh: &Name) -> Vec<Write> {
    let kinds = Kind::ALL.iter().filter(|kind| kind.descriptor().scope == Scope::Mesh);
    let inside = kinds.flat_map(|kind| table.list(*kind, Some(mesh)));
    inside.filter(|one| one.key.owner == plane.viewpoint.owner()).map(|one| Write::delete(one.key.clone())).collect()
}
