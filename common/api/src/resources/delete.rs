//! DELETE: removes one resource, and what lives in it.

use atoll_model::{Kind, Name, Owner, Resource, ResourceKey, kinds::Access, kinds::Zone};
use atoll_store::{Expect, TableSnapshot, Write, WriteBatch};
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{mesh_check, mesh_of, perform, protection, rehearse, word};
use crate::{Plane, Problem, naming, negotiate, once, plane, present, problem::title, query::Ask};

/// Resources that a dry run names, at most.
const FORETOLD: usize = 100;

/// Removes one resource of this plane.
pub(crate) async fn delete(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    if !plane.viewpoint.may_write(kind) {
        return Err(Problem::not_allowed(plane::read_only_reason(&plane.viewpoint, kind)));
    }
    let key = once::key(&ask, &Method::DELETE, &[])?;
    let table = plane.store.snapshot();
    let planned = plan(&plane, &table, kind, &ask);
    if ask.is_dry_run()? {
        return foretold(&plane, &table, &ask, planned?).await;
    }
    let done = perform(&plane, &ask, planned, key, title::DELETE).await?;
    let mut revision = done.revision;
    if !done.repeated {
        // What was written into a mesh while its dependants were gathered; nothing can come after.
        let late = late_in_mesh(&plane, kind, &ask.path.name());
        if !late.is_empty() {
            let batch = WriteBatch::new(ask.actor(), late);
            revision = plane.store.commit(batch).await.map_err(|error| Problem::from_store(title::DELETE, &error))?.revision;
        }
    }
    let mut response = negotiate::json(StatusCode::OK, &json!({}));
    if done.repeated {
        response = once::replayed(response);
    }
    Ok(negotiate::with_revision(response, revision))
}

/// The deletions: what goes with the resource, then itself.
fn plan(plane: &Plane, table: &TableSnapshot, kind: Kind, ask: &Ask) -> Result<Vec<Write>, Problem> {
    let mesh = mesh_of(kind, ask.path.mesh());
    let key = own_key(plane, table, kind, &mesh, ask)?;
    let resource = table.get(&key).ok_or_else(|| Problem::not_found(title::DELETE))?;
    ask.permit.require(plane, table, Access::Delete, &key, title::DELETE)?;
    let expect = match negotiate::precondition(&ask.headers, Some(resource))? {
        Expect::Absent => return Err(negotiate::failed_precondition("a delete wants what exists")),
        Expect::Any => Expect::Exists,
        given @ (Expect::Exists | Expect::Version(_)) => given,
    };
    let faults = protection::faults(plane, table, resource, &ask.permit);
    if !faults.is_empty() {
        return Err(Problem::invalid(title::DELETE, faults));
    }
    let along = dependants(plane, table, resource);
    for key in &along {
        ask.permit.require(plane, table, Access::Delete, key, title::DELETE)?;
    }
    let along = along.into_iter().map(Write::delete);
    Ok(along.chain([Write::Delete { key, expect }]).collect())
}

/// What a delete means: the plane's own resource. One of another plane is named in the refusal.
fn own_key(plane: &Plane, table: &TableSnapshot, kind: Kind, mesh: &Name, ask: &Ask) -> Result<ResourceKey, Problem> {
    let name = ask.path.name();
    let own = ResourceKey::new(kind, mesh.clone(), name.clone(), plane.viewpoint.owner());
    if table.get(&own).is_some() {
        return Ok(own);
    }
    let foreign = naming::find(plane, table, kind, mesh, &name, &ask.permit, title::DELETE)?;
    ask.permit.require(plane, table, Access::Delete, &foreign.key, title::DELETE)?;
    let owner = present::zone(plane, table, &foreign.key).map_or_else(|| "global".to_owned(), |zone| format!("zone {zone}"));
    Err(Problem::not_allowed(format!("{name} belongs to {owner}: delete it there")))
}

/// What goes with a resource, in the same transaction: this plane's resources in a mesh; of a zone, what it owns.
fn dependants(plane: &Plane, table: &TableSnapshot, resource: &Resource) -> Vec<ResourceKey> {
    match resource.key.kind {
        Kind::Mesh => in_mesh(plane, table, &resource.key),
        Kind::Zone => match resource.parse::<Zone>().ok().and_then(|zone| zone.uid) {
            Some(uid) if Owner::Zone(uid) != plane.viewpoint.owner() => {
                let all = Kind::ALL.iter().flat_map(|kind| table.list(*kind, None));
                all.filter(|one| one.key.owner == Owner::Zone(uid)).map(|one| one.key.clone()).collect()
            }
            Some(_) | None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn late_in_mesh(plane: &Plane, kind: Kind, name: &Name) -> Vec<Write> {
    let table = plane.store.snapshot();
    if kind != Kind::Mesh || mesh_check(&table, name).is_some() {
        return Vec::new();
    }
    let gone = ResourceKey::new(Kind::Mesh, Name::none(), name.clone(), plane.viewpoint.owner());
    in_mesh(plane, &table, &gone).into_iter().map(Write::delete).collect()
}

/// This plane's resources in a mesh. What zones own there is theirs to take away.
fn in_mesh(plane: &Plane, table: &TableSnapshot, mesh: &ResourceKey) -> Vec<ResourceKey> {
    let own = protection::in_mesh(table, mesh).filter(|one| one.key.owner == plane.viewpoint.owner());
    own.map(|one| one.key.clone()).collect()
}

/// What would go.
async fn foretold(plane: &Plane, table: &TableSnapshot, ask: &Ask, writes: Vec<Write>) -> Result<Response, Problem> {
    let keys: Vec<_> = writes.iter().rev().take(FORETOLD).map(|write| write.key().clone()).collect();
    let total = writes.len();
    let results = rehearse(plane, ask, writes, title::DELETE).await?;
    let shown: Vec<Value> = keys
        .iter()
        .zip(results.iter().rev())
        .map(|(key, result)| {
            json!({
                "type": key.kind.name(),
                "mesh": key.mesh.as_str(),
                "name": present::shown_name(plane, table, key),
                "kri": present::kri(plane, table, key).to_string(),
                "result": word(result.kind()),
            })
        })
        .collect();
    let body = json!({"dryRun": true, "result": "deleted", "total": total, "results": shown});
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}
