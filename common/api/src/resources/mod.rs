//! Reading and writing resources of any kind: one file an operation.

mod delete;
mod item;
mod list;
mod overview;
mod put;
mod watch;

use atoll_model::{Kind, Name, Scope};
use atoll_store::TableSnapshot;

pub(crate) use delete::delete;
pub(crate) use item::{by_kri, get};
pub(crate) use list::list;
pub(crate) use overview::{overview, overviews};
pub(crate) use put::{located, put};

use crate::{Problem, problem::title};

/// Refuses a mesh that is not there.
pub(crate) fn require_mesh(table: &TableSnapshot, kind: Kind, mesh: &Name) -> Result<(), Problem> {
    if kind.descriptor().scope == Scope::Global || has_mesh(table, mesh) { Ok(()) } else { Err(Problem::not_found(title::MESH)) }
}

/// Whether a mesh is there, whoever owns it.
pub(crate) fn has_mesh(table: &TableSnapshot, mesh: &Name) -> bool {
    table.by_name(Kind::Mesh, &Name::none(), mesh).next().is_some()
}

/// The mesh in keys of a kind: none for kinds beside the meshes.
pub(crate) fn mesh_of(kind: Kind, mesh: Name) -> Name {
    match kind.descriptor().scope {
        Scope::Global => Name::none(),
        Scope::Mesh => mesh,
    }
}
