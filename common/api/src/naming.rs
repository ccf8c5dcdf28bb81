//! Names in paths: a path takes the bare name and Kuma's alias; the plane's own resource comes first.

use std::sync::Arc;

use atoll_model::{Kind, Name, Resource, ResourceKey};
use atoll_store::TableSnapshot;
use http::StatusCode;

use crate::{Plane, Problem, access::Permit, present};

/// The resource that a path means.
///
/// # Errors
/// 404, also when `permit` hides it; 409 with the candidates when a bare name means several.
pub(crate) fn find<'a>(
    plane: &Plane,
    table: &'a TableSnapshot,
    kind: Kind,
    mesh: &Name,
    name: &Name,
    permit: &Permit,
    title: &'static str,
) -> Result<&'a Arc<Resource>, Problem> {
    let own = ResourceKey::new(kind, mesh.clone(), name.clone(), plane.viewpoint.owner());
    let seen = |resource: &&Arc<Resource>| permit.sees(plane, table, &resource.key);
    if let Some(resource) = table.get(&own).filter(seen) {
        return Ok(resource);
    }
    let candidates: Vec<_> = table.by_name(kind, mesh, name).filter(seen).collect();
    match candidates[..] {
        [only] => Ok(only),
        [] => by_alias(plane, table, kind, mesh, name).filter(seen).ok_or_else(|| permit.hide(title)),
        _ => Err(ambiguous(plane, table, name, &candidates, title)),
    }
}

/// The resource of another plane that an alias means.
pub(crate) fn by_alias<'a>(
    plane: &Plane,
    table: &'a TableSnapshot,
    kind: Kind,
    mesh: &Name,
    name: &Name,
) -> Option<&'a Arc<Resource>> {
    // An alias is the name, cut at most, with a dash and 16 characters: anything shorter needs no search.
    let stem = name.len().checked_sub(17).and_then(|cut| name.get(..cut))?;
    let own = plane.viewpoint.owner();
    table
        .list(kind, Some(mesh))
        .filter(|resource| resource.key.owner != own && resource.key.name.starts_with(stem))
        .find(|resource| present::alias_of(plane, table, &resource.key) == name.as_str())
}

fn ambiguous(plane: &Plane, table: &TableSnapshot, name: &Name, candidates: &[&Arc<Resource>], title: &'static str) -> Problem {
    let listed: Vec<_> = candidates
        .iter()
        .map(|resource| {
            let zone = present::zone(plane, table, &resource.key);
            format!("{} (zone {})", present::alias_of(plane, table, &resource.key), zone.as_deref().unwrap_or("none: global"))
        })
        .collect();
    Problem::new(StatusCode::CONFLICT, title, format!("{name} is the name of several: use one of {}", listed.join(", ")))
}
