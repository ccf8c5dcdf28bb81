//! How people name kinds on the command line.

use anyhow::bail;
use atoll_model::{Kind, Scope};

/// The kind that `text` means: its name, its plural in paths or its short name, in any case.
///
/// # Errors
/// The kinds that there are.
pub fn parse(text: &str) -> anyhow::Result<Kind> {
    let wanted = text.to_ascii_lowercase();
    let means = |kind: &&Kind| {
        let row = kind.descriptor();
        wanted == row.path || wanted == row.short || wanted == kind.name().to_ascii_lowercase()
    };
    match Kind::ALL.iter().find(means) {
        Some(kind) => Ok(*kind),
        None => {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.descriptor().path).collect();
            bail!("{text:?} is no kind of resource; use one of {}", known.join(", "))
        }
    }
}

/// The path of a kind's list in a mesh, or across meshes.
pub fn list_path(kind: Kind, mesh: Option<&str>) -> Vec<&str> {
    match (kind.descriptor().scope, mesh) {
        (Scope::Mesh, Some(mesh)) => vec!["meshes", mesh, kind.descriptor().path],
        (Scope::Mesh | Scope::Global, _) => vec![kind.descriptor().path],
    }
}

/// The path of one resource.
pub fn item_path<'a>(kind: Kind, mesh: &'a str, name: &'a str) -> Vec<&'a str> {
    let mut path = list_path(kind, Some(mesh));
    path.push(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_three_names() {
        for text in ["MeshTimeout", "meshtimeouts", "mt", "meshtimeout", "MT"] {
            assert_eq!(parse(text).unwrap(), Kind::MeshTimeout);
        }
        assert!(parse("pods").unwrap_err().to_string().contains("meshtimeouts"));
    }
}
