//! How people name kinds on the command line.

use anyhow::bail;
use atoll_model::{Kind, Scope};

/// The kind that `text` means: its name, its plural in paths or its short name, in any case.
///
/// # Errors
/// The kinds that `text` may mean, or all that there are.
pub fn parse(text: &str) -> anyhow::Result<Kind> {
    let wanted = text.to_ascii_lowercase();
    match Kind::ALL.iter().find(|kind| names(**kind).contains(&wanted)) {
        Some(kind) => Ok(*kind),
        None => bail!("{text:?} is no kind of resource; {}", suggestion(&wanted)),
    }
}

/// The names by which people call a kind: in paths and documents first, then the short one.
fn names(kind: Kind) -> Vec<String> {
    let row = kind.descriptor();
    let long = [row.path.to_owned(), kind.name().to_ascii_lowercase()];
    let short = row.aliases.iter().chain([&row.short]).map(|name| (*name).to_owned());
    long.into_iter().chain(short).collect()
}

/// The kinds whose names are nearest, or all of them.
fn suggestion(wanted: &str) -> String {
    let distance = |kind: &Kind| {
        let far = |name: &str| {
            let is_part = wanted.len() >= 4 && name.contains(wanted);
            if is_part { 0 } else { strsim::damerau_levenshtein(name, wanted) }
        };
        names(*kind).iter().take(2).map(|name| far(name)).min().unwrap_or(usize::MAX)
    };
    let mut near: Vec<(usize, &Kind)> = Kind::ALL.iter().map(|kind| (distance(kind), kind)).collect();
    near.retain(|(distance, _)| *distance <= 2 + wanted.len() / 6);
    near.sort_by_key(|(distance, kind)| (*distance, kind.descriptor().path));
    if near.is_empty() {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.descriptor().path).collect();
        return format!("use one of {}", known.join(", "));
    }
    let near: Vec<_> = near.iter().take(3).map(|(_, kind)| kind.descriptor().path).collect();
    format!("did you mean {}?", near.join(" or "))
}

/// Takes `KIND/NAME`, as `get -o name` prints it, apart; or `KIND` beside names.
pub fn split<'a>(kind: &'a str, names: &'a [String]) -> anyhow::Result<(Kind, Vec<&'a str>)> {
    match kind.split_once('/') {
        None => Ok((parse(kind)?, names.iter().map(String::as_str).collect())),
        Some((_, _)) if !names.is_empty() => bail!("give either KIND/NAME or KIND and NAME"),
        Some((kind, name)) => Ok((parse(kind)?, vec![name])),
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

    #[test]
    fn the_nearest_kinds_are_named() {
        for (text, expected) in
            [("meshtimeuots", "did you mean meshtimeouts"), ("service", "meshservices"), ("dataplan", "dataplanes")]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("did you mean") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_name_may_stand_behind_its_kind() {
        let names = ["a".to_owned()];
        assert_eq!(split("mt/all", &[]).unwrap(), (Kind::MeshTimeout, vec!["all"]));
        assert_eq!(split("mt", &names).unwrap(), (Kind::MeshTimeout, vec!["a"]));
        assert!(split("mt/all", &names).is_err());
    }
}
