//! The plane about itself.

use atoll_model::{Kind, Scope};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{Plane, Problem, negotiate, query::Ask};

/// Who answers here.
pub(crate) fn index(plane: Plane, _: Ask) -> Result<Response, Problem> {
    Ok(negotiate::json(StatusCode::OK, &plane.info))
}

/// The process lives.
pub(crate) fn healthy(_: Plane, _: Ask) -> Result<Response, Problem> {
    Ok(negotiate::json(StatusCode::OK, &json!({"healthy": true})))
}

/// Whether the plane can do its job.
pub(crate) fn ready(plane: Plane, _: Ask) -> Result<Response, Problem> {
    match (plane.ready)() {
        Ok(()) => Ok(negotiate::json(StatusCode::OK, &json!({"ready": true}))),
        Err(why) => Err(Problem::unavailable(format!("not ready: {why}"))),
    }
}

/// The effective configuration.
pub(crate) fn config(plane: Plane, _: Ask) -> Result<Response, Problem> {
    Ok(negotiate::json(StatusCode::OK, &plane.config))
}

/// Name and groups of who asks.
pub(crate) fn who_am_i(_: Plane, ask: Ask) -> Result<Response, Problem> {
    let caller = ask.caller.ok_or_else(|| Problem::unauthenticated("Unauthenticated"))?;
    Ok(negotiate::json(StatusCode::OK, &json!({"name": caller.name, "groups": caller.groups})))
}

/// The table of kinds. What only Atoll has is left out: Kuma's clients stop at kinds that they do not know.
pub(crate) fn kinds(plane: Plane, _: Ask) -> Result<Response, Problem> {
    let shown = Kind::ALL.iter().filter(|kind| **kind != Kind::VipAllocation);
    let mut resources: Vec<Value> = shown.map(|kind| row(&plane, *kind)).collect();
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Ok(negotiate::json(StatusCode::OK, &json!({"resources": resources})))
}

fn row(plane: &Plane, kind: Kind) -> Value {
    let row = kind.descriptor();
    let singular = spaced(kind.name());
    let mut shown = json!({
        "name": kind.name(),
        "path": row.path,
        "scope": match row.scope { Scope::Global => "Global", Scope::Mesh => "Mesh" },
        "shortName": row.short,
        "readOnly": !plane.viewpoint.may_write(kind),
        "includeInFederation": row.travel.down && kind != Kind::Zone,
        "pluralDisplayName": plural(&singular),
        "singularDisplayName": singular,
    });
    if let Some(shape) = row.policy {
        shown["policy"] = json!({
            "isTargetRef": true,
            "hasToTargetRef": shape.to,
            "hasFromTargetRef": false,
            "hasRulesTargetRef": shape.rules,
            "isFromAsRules": shape.rules,
        });
    }
    shown
}

/// `MeshTLS` as people say it: `Mesh TLS`.
fn spaced(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut text = String::with_capacity(name.len() + 4);
    for (i, letter) in letters.iter().enumerate() {
        let after_lower = i > 0 && letters[i - 1].is_lowercase();
        let before_lower = letters.get(i + 1).is_some_and(|next| next.is_lowercase());
        if i > 0 && letter.is_uppercase() && (after_lower || before_lower) {
            text.push(' ');
        }
        text.push(*letter);
    }
    text
}

fn plural(singular: &str) -> String {
    match singular.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if singular.ends_with('s') || singular.ends_with('S') => format!("{singular}es"),
        None => format!("{singular}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_for_people() {
        assert_eq!(spaced("MeshTLS"), "Mesh TLS");
        assert_eq!(spaced("MeshHTTPRoute"), "Mesh HTTP Route");
        assert_eq!(plural("Mesh Identity"), "Mesh Identities");
        assert_eq!(plural("Mesh Zone Address"), "Mesh Zone Addresses");
    }
}
