//! What stays because others need it: the dependants of a resource, named.
//!
//! Kuma deletes a mesh with everything in it unless dataplanes are left. Policies and secrets go with it here, too: they mean
//! nothing without their mesh. What else people wrote into it, and what zones own there, is somebody's: it is named.

use atoll_model::{Kind, Owner, Resource, ResourceKey, Scope, Violation, labels::MANAGED_BY};
use atoll_store::TableSnapshot;

use crate::{
    Plane,
    access::{Permit, bindings_of},
    present,
};

/// Dependants that a refusal names, at most.
const NAMED: usize = 10;

/// Why a resource stays.
pub(super) fn faults(plane: &Plane, table: &TableSnapshot, resource: &Resource, permit: &Permit) -> Vec<Violation> {
    let key = &resource.key;
    let mut faults = match key.kind {
        Kind::Mesh => of_mesh(plane, table, key, permit),
        _ => bound(plane, table, key, permit),
    };
    faults.extend(plane.admission.review_delete(table, key));
    faults
}

fn of_mesh(plane: &Plane, table: &TableSnapshot, mesh: &ResourceKey, permit: &Permit) -> Vec<Violation> {
    let mut faults = Vec::new();
    let dataplanes: Vec<_> = table.list(Kind::Dataplane, Some(&mesh.name)).map(|resource| &resource.key).collect();
    if !dataplanes.is_empty() {
        let why = "unable to delete mesh, there are still some dataplanes attached";
        faults.push(Violation::new("mesh", format!("{why} ({})", named(plane, table, &dataplanes, permit))));
    }
    let others: Vec<_> = in_mesh(table, mesh).filter(|other| is_somebodys(plane, other)).map(|other| &other.key).collect();
    if !others.is_empty() {
        let why = "unable to delete mesh, others still use it: delete these first";
        faults.push(Violation::new("mesh", format!("{why} ({})", named(plane, table, &others, permit))));
    }
    faults
}

/// Everything in a mesh.
pub(super) fn in_mesh<'a>(table: &'a TableSnapshot, mesh: &'a ResourceKey) -> impl Iterator<Item = &'a Resource> {
    let kinds = Kind::ALL.iter().filter(|kind| kind.descriptor().scope == Scope::Mesh);
    kinds.flat_map(|kind| table.list(*kind, Some(&mesh.name))).map(AsRef::as_ref)
}

/// Whether somebody wrote it who must be asked before its mesh goes.
fn is_somebodys(plane: &Plane, resource: &Resource) -> bool {
    let (key, row) = (&resource.key, resource.key.kind.descriptor());
    let goes_along = key.kind == Kind::Dataplane || row.sealed;
    let made_by_planes = resource.labels.contains_key(MANAGED_BY)
        || matches!(key.kind, Kind::VipAllocation | Kind::Workload)
        // Zones publish these by themselves.
        || (matches!(key.kind, Kind::MeshTrust | Kind::MeshZoneAddress) && matches!(key.owner, Owner::Zone(_)));
    let is_own_policy = row.policy.is_some() && key.owner == plane.viewpoint.owner();
    !goes_along && !made_by_planes && !is_own_policy
}

/// A role that somebody holds stays.
fn bound(plane: &Plane, table: &TableSnapshot, key: &ResourceKey, permit: &Permit) -> Vec<Violation> {
    let bindings: Vec<_> = bindings_of(plane, table, key).collect();
    if bindings.is_empty() {
        return Vec::new();
    }
    let why = "unable to delete the role, it is still bound";
    vec![Violation::new("name", format!("{why} ({})", named(plane, table, &bindings, permit)))]
}

/// How many there are, and the first of them that who asks may know of.
fn named(plane: &Plane, table: &TableSnapshot, keys: &[&ResourceKey], permit: &Permit) -> String {
    let seen = keys.iter().filter(|key| permit.sees(plane, table, key));
    let listed: Vec<_> = seen.take(NAMED).map(|key| name(plane, table, key)).collect();
    let more = if keys.len() > listed.len() && !listed.is_empty() { ", …" } else { "" };
    format!("{}: {}{more}", keys.len(), listed.join(", ")).trim_end_matches(": ").to_owned()
}

fn name(plane: &Plane, table: &TableSnapshot, key: &ResourceKey) -> String {
    let zone = present::zone(plane, table, key).filter(|_| key.owner != plane.viewpoint.owner());
    let zone = zone.map(|zone| format!(" of zone {zone}")).unwrap_or_default();
    format!("{} {}{zone}", key.kind, key.name)
}
