//! How many resources there may be.

use std::collections::BTreeMap;

use atoll_model::{Kind, Name, Scope};
use atoll_store::Write;
use http::StatusCode;

use crate::{Plane, Problem};

/// Refuses writes that would make more resources than there may be; what exists may always be changed and removed. Requests that
/// come at the same moment may pass together.
///
/// # Errors
/// 400 with the name of the limit.
pub(crate) fn check(plane: &Plane, writes: &[Write], title: &'static str) -> Result<(), Problem> {
    let (table, limits) = (plane.store.snapshot(), plane.limits());
    let mut made = Made::default();
    for write in writes {
        if let Write::Put { key, .. } = write
            && table.get(key).is_none()
        {
            made.all += 1;
            *made.kinds.entry(key.kind).or_default() += 1;
            if key.kind.descriptor().scope == Scope::Mesh {
                *made.meshes.entry(key.mesh.clone()).or_default() += 1;
            }
        }
    }
    let refuse = |flag: &str, limit: usize, what: String| {
        let detail = format!("{what}: --{flag} of this plane is {limit}; remove some, or raise the limit");
        Problem::new(StatusCode::BAD_REQUEST, title, detail)
    };
    if made.all > 0 && table.len() + made.all > limits.limit_resources {
        return Err(refuse("limit-resources", limits.limit_resources, "there would be too many resources".to_owned()));
    }
    for (kind, flag, limit) in
        [(Kind::Mesh, "limit-meshes", limits.limit_meshes), (Kind::Zone, "limit-zones", limits.limit_zones)]
    {
        let more = made.kinds.get(&kind).copied().unwrap_or_default();
        if more > 0 && table.list(kind, None).count() + more > limit {
            return Err(refuse(flag, limit, format!("there would be too many resources of kind {kind}")));
        }
    }
    for (mesh, more) in &made.meshes {
        let limit = limits.limit_resources_per_mesh;
        if table.len_of_mesh(mesh) + more > limit {
            return Err(refuse("limit-resources-per-mesh", limit, format!("mesh {mesh} would have too many resources")));
        }
    }
    Ok(())
}

/// What is not there yet.
#[derive(Default)]
struct Made {
    all: usize,
    kinds: BTreeMap<Kind, usize>,
    meshes: BTreeMap<Name, usize>,
}
