//! Lists: of a mesh or across meshes, in pages, by name and labels; or followed as they change.

use std::sync::Arc;

use atoll_model::{Kind, Resource, kinds::Access};
use atoll_store::TableSnapshot;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use super::{require_mesh, watch};
use crate::{
    Plane, Problem,
    access::Permit,
    negotiate, present,
    query::{Ask, From, Page, Selection, offset_after},
};

/// A page of a list, or its changes with `watch=true`.
pub(crate) fn list(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let selection = Selection::of(kind, &ask)?;
    let table = plane.store.snapshot();
    if let Some(mesh) = &selection.mesh {
        require_mesh(&table, kind, mesh, &ask.permit)?;
    }
    if ask.query.flag("watch")? {
        return watch::watch(plane, selection, ask);
    }
    ask.permit.require_some(Access::List, kind)?;
    paged(&plane, &table, &ask, &selection, |resource| present::document(&plane, &table, resource).text)
}

/// The page that is asked for, of texts that `show` makes.
pub(super) fn paged(
    plane: &Plane,
    table: &TableSnapshot,
    ask: &Ask,
    selection: &Selection,
    show: impl Fn(&Arc<Resource>) -> Bytes,
) -> Result<Response, Problem> {
    let page = Page::of(&ask.query, selection)?;
    let (total, items) = select(plane, table, selection, &page, &ask.permit);
    let shown = &items[..items.len().min(page.size)];
    let has_more = items.len() > page.size;
    let last = shown.last().filter(|_| has_more);
    let next = last.map(|last| ask.with_parameter("offset", &offset_after(selection, &last.key)));
    let texts: Vec<Bytes> = shown.iter().map(|resource| show(resource)).collect();
    let response = negotiate::json_text(StatusCode::OK, present::page(total, &texts, next.as_deref()));
    Ok(negotiate::with_revision(response, table.revision()))
}

/// How many resources are selected, and those of the page: one more than fits tells whether there is a next page.
fn select<'a>(
    plane: &Plane,
    table: &'a TableSnapshot,
    selection: &'a Selection,
    page: &Page,
    permit: &Permit,
) -> (usize, Vec<&'a Arc<Resource>>) {
    let mut total = 0;
    let mut items = Vec::with_capacity(page.size + 1);
    for resource in selection.candidates(table) {
        if !selection.holds(plane, table, resource) || !permit.may(plane, table, Access::List, &resource.key) {
            continue;
        }
        let is_after = match &page.from {
            From::Index(skipped) => total >= *skipped,
            From::After(key) => resource.key > *key,
        };
        total += 1;
        if is_after && items.len() <= page.size {
            items.push(resource);
        }
    }
    (total, items)
}
