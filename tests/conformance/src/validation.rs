//! `validation/`: a document is accepted, or refused for the same fields.

use std::{collections::BTreeSet, path::Path};

use atoll_model::{Kind, Scope, names};
use serde_json::{Value, json};

use crate::{
    cases,
    plane::{Plane, item_path},
    quirks,
    report::{Outcome, Report},
};

const CORPUS: &str = "validation";
const MESH: &str = "default";

pub(crate) async fn judge(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let corpus = folder.join(CORPUS);
    let cases = cases::list(&corpus)?;
    if cases.is_empty() {
        return Ok(());
    }
    // A stand-alone zone takes every kind.
    let plane = Plane::zone("zone", false).await?;
    for case in cases {
        let (name, kind) = (cases::text(&case, "case"), cases::text(&case, "kind"));
        let outcome = Outcome::or_failed(judge_one(&plane, &corpus, &case, &name, &kind).await);
        report.add(CORPUS, Some(&kind), &name, &outcome);
    }
    Ok(())
}

async fn judge_one(plane: &Plane, corpus: &Path, case: &Value, name: &str, kind: &str) -> anyhow::Result<Outcome> {
    let text = cases::read(&corpus.join(format!("{name}.yaml")))?;
    let valid = name.starts_with("valid/");
    let shape_fits = case["schema_ok"] != false;
    if valid && !shape_fits {
        return Ok(Outcome::Skipped("Kuma's own schema refuses this valid document".to_owned()));
    }
    let found = if kind == "_Meta" {
        envelope(&serde_saphyr::from_str(&text)?)
    } else {
        match answer(plane, kind, &text).await? {
            Ok(found) => found,
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        }
    };
    let expected = if valid { BTreeSet::new() } else { expected(corpus, name, kind)? };
    Ok(Outcome::of(match &found {
        Some(_) if !valid && !shape_fits => None,
        Some(fields) if valid => Some(format!("expected to be accepted, refused for {fields:?}")),
        Some(fields) if *fields != expected => Some(format!("expected {expected:?}, got {fields:?}")),
        None if !valid => Some(format!("expected to be refused for {expected:?}, accepted")),
        Some(_) | None => None,
    }))
}

fn expected(corpus: &Path, name: &str, kind: &str) -> anyhow::Result<BTreeSet<String>> {
    let document: Value = serde_saphyr::from_str(&cases::read(&corpus.join(format!("{name}.expected.yaml")))?)?;
    let violations = document["violations"].as_array().cloned().unwrap_or_default();
    Ok(violations.iter().filter_map(|violation| Some(quirks::field(kind, violation["field"].as_str()?))).collect())
}

/// The fields for which a PUT of the document is refused; none if it is accepted. Nothing is stored.
async fn answer(plane: &Plane, kind: &str, text: &str) -> anyhow::Result<Result<Option<BTreeSet<String>>, String>> {
    let Ok(kind) = kind.parse::<Kind>() else { return Ok(Err(format!("there is no kind {kind}"))) };
    let document: Value = serde_saphyr::from_str(text)?;
    let row = kind.descriptor();
    let mesh = Some(cases::text(&document, "mesh")).filter(|mesh| !mesh.is_empty()).unwrap_or_else(|| MESH.to_owned());
    if row.scope == Scope::Mesh {
        plane.load(vec![json!({"type": "Mesh", "name": mesh})]).await?.map_err(anyhow::Error::msg)?;
    }
    let path = item_path(kind, &mesh, &cases::text(&document, "name"));
    let answer = plane.send("PUT", &format!("{path}?dry_run=true"), Some(("application/yaml", text.to_owned()))).await?;
    match answer.status {
        200 | 201 => Ok(Ok(None)),
        400 => Ok(Ok(Some(answer.fields()))),
        other => anyhow::bail!("PUT {path} answers {other}: {}", answer.body),
    }
}

/// Names and meshes of documents of no kind.
fn envelope(document: &Value) -> Option<BTreeSet<String>> {
    let (mesh, name) = (cases::text(document, "mesh"), cases::text(document, "name"));
    let mut fields = BTreeSet::new();
    fields.extend(names::name_fault(&name, false).map(|_| "name".to_owned()));
    if document["scope"] == "Mesh" {
        fields.extend(names::mesh_fault(&mesh).map(|_| "mesh".to_owned()));
    }
    (!fields.is_empty()).then_some(fields)
}
