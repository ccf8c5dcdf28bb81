//! Lists: of a mesh or across meshes, in pages, by name and labels; or followed as they change.

use std::sync::Arc;

use atoll_model::{Kind, Name, Resource, Scope, labels};
use atoll_store::TableSnapshot;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::{require_mesh, watch};
use crate::{
    Plane, Problem, negotiate, present,
    query::{Ask, From, Page, Selection, offset_after},
};

#[derive(Serialize)]
pub(super) struct List<T> {
    pub(super) total: usize,
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

/// A page of a list, or its changes with `watch=true`.
pub(crate) fn list(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let mesh = wanted_mesh(kind, &ask);
    let selection = Selection::of(&ask.query, &route(kind, mesh.as_ref()))?;
    let table = plane.store.snapshot();
    if let Some(mesh) = &mesh {
        require_mesh(&table, kind, mesh)?;
    }
    if ask.query.flag("watch")? {
        return watch::watch(plane, kind, mesh, selection, ask.query.revision("since")?);
    }
    let page = Page::of(&ask.query, kind)?;
    let (total, items) = select(&plane, &table, kind, mesh.as_ref(), &selection, &page);
    let next = next_page(&ask, &page, &items);
    let items = items.iter().take(page.size).map(|resource| present::answer(&plane, &table, resource)).collect();
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &List { total, items, next }), table.revision()))
}

/// The mesh that the path names; none across meshes and for kinds beside the meshes.
pub(super) fn wanted_mesh(kind: Kind, ask: &Ask) -> Option<Name> {
    Some(ask.path.mesh()).filter(|mesh| !mesh.is_empty() && kind.descriptor().scope == Scope::Mesh)
}

pub(super) fn route(kind: Kind, mesh: Option<&Name>) -> String {
    let path = kind.descriptor().path;
    if mesh.is_some() { format!("/meshes/{{mesh}}/{path}") } else { format!("/{path}") }
}

/// How many resources are selected, and those of the page.
pub(super) fn select<'a>(
    plane: &Plane,
    table: &'a TableSnapshot,
    kind: Kind,
    mesh: Option<&Name>,
    selection: &Selection,
    page: &Page,
) -> (usize, Vec<&'a Arc<Resource>>) {
    let mut total = 0;
    let mut items = Vec::new();
    // One more than fits tells whether there is a next page.
    let wanted = page.size + 1;
    for resource in table.list(kind, mesh) {
        if !is_selected(plane, table, selection, resource) {
            continue;
        }
        let is_after = match &page.from {
            From::Index(skipped) => total >= *skipped,
            From::After(key) => resource.key > *key,
        };
        total += 1;
        if is_after && items.len() < wanted {
            items.push(resource);
        }
    }
    (total, items)
}

/// Whether a resource is one of those that the client wants to see.
pub(super) fn is_selected(plane: &Plane, table: &TableSnapshot, selection: &Selection, resource: &Resource) -> bool {
    if selection.is_all() {
        return true;
    }
    let named = |part: &String| {
        resource.key.name.contains(part.as_str()) || present::shown_name(plane, table, &resource.key).contains(part.as_str())
    };
    selection.name.as_ref().is_none_or(named)
        && (selection.labels.is_empty() || labels::matches(&selection.labels, &present::shown_labels(plane, table, resource)))
}

/// Where the next page begins, if there is one: `items` then holds one more than fits.
pub(super) fn next_page(ask: &Ask, page: &Page, items: &[&Arc<Resource>]) -> Option<String> {
    let last = items[..items.len().min(page.size)].last()?;
    (items.len() > page.size).then(|| ask.with_offset(&offset_after(&last.key)))
}
