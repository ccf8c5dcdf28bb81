//! Reading and writing resources of any kind: one file an operation.

mod delete;
mod history;
mod hostnames;
mod item;
mod layout;
mod list;
mod mesh_insights;
mod overview;
mod perform;
mod protection;
mod put;
mod rehearsal;
mod watch;

use atoll_model::{Kind, Name, Scope};
use atoll_store::{Expect, TableSnapshot, Write};

pub(crate) use delete::delete;
pub(crate) use history::history;
pub(crate) use hostnames::{KINDS as WITH_HOSTNAMES, hostnames, no_hostnames};
pub(crate) use item::{by_kri, get};
pub(crate) use layout::layout;
pub(crate) use list::list;
pub(crate) use mesh_insights::mesh_insight_rows;
pub(crate) use overview::{overview, overviews};
pub(crate) use perform::{Done, perform};
pub(crate) use put::{foreign_name, located, put};
pub(crate) use rehearsal::{differences, rehearse, word};

use crate::{Problem, access::Permit, problem::title};

/// What must hold when a resource of a kind is written in a mesh: that the mesh is there, also at the commit.
///
/// # Errors
/// 404 when it is not there now, or when who asks may not know of it.
pub(crate) fn require_mesh(table: &TableSnapshot, kind: Kind, mesh: &Name, permit: &Permit) -> Result<Option<Write>, Problem> {
    match kind.descriptor().scope {
        Scope::Global => Ok(None),
        Scope::Mesh if !permit.knows_mesh(kind, mesh) => Err(permit.hide(title::MESH)),
        Scope::Mesh => mesh_check(table, mesh).map(Some).ok_or_else(|| Problem::not_found(title::MESH)),
    }
}

/// The check that a mesh is there, whoever owns it; none if it is not.
pub(crate) fn mesh_check(table: &TableSnapshot, mesh: &Name) -> Option<Write> {
    let key = table.by_name(Kind::Mesh, &Name::none(), mesh).next()?.key.clone();
    Some(Write::Check { key, expect: Expect::Exists })
}

/// The mesh in keys of a kind: none for kinds beside the meshes.
pub(crate) fn mesh_of(kind: Kind, mesh: Name) -> Name {
    match kind.descriptor().scope {
        Scope::Global => Name::none(),
        Scope::Mesh => mesh,
    }
}
