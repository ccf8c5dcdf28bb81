//! `label-validation/`: a PUT of a labelled document to global or to a federated zone.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use atoll_model::Kind;
use serde_json::{Value, json};

use crate::{
    cases,
    plane::{Plane, item_path},
    report::{Outcome, Report},
};

const CORPUS: &str = "label-validation";
const MESH: &str = "multizone-label-validation";
const ZONE: &str = "kuma-4";

pub(crate) async fn judge(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let corpus = folder.join(CORPUS);
    for case in cases::list(&corpus)? {
        let outcome = Outcome::or_failed(judge_one(&corpus, &case).await);
        report.add(CORPUS, None, &cases::text(&case, "case"), &outcome);
    }
    Ok(())
}

async fn judge_one(corpus: &Path, case: &Value) -> anyhow::Result<Outcome> {
    let plane = match cases::text(case, "target").as_str() {
        "global" => Plane::global().await?,
        "zone-uni" => Plane::zone(ZONE, true).await?,
        other => return Ok(Outcome::Skipped(format!("there is no plane {other}"))),
    };
    let mesh = json!({"type": "Mesh", "name": MESH, "labels": {"kuma.io/origin": "global"}});
    plane.load(vec![mesh]).await?.map_err(anyhow::Error::msg)?;
    let text = cases::read(&corpus.join(cases::text(case, "input")))?;
    let document: Value = serde_saphyr::from_str(&text)?;
    let kind = cases::text(&document, "type");
    let Ok(kind) = kind.parse::<Kind>() else { return Ok(Outcome::Skipped(format!("there is no kind {kind}"))) };
    let path = item_path(kind, &cases::text(&document, "mesh"), &cases::text(&document, "name"));
    let answer = plane.send("PUT", &path, Some(("application/yaml", text))).await?;
    let (status, fields) = golden(&cases::read(&corpus.join(cases::text(case, "expect")))?)?;
    let agrees = answer.status == status && answer.fields() == fields;
    Ok(Outcome::of((!agrees).then(|| {
        format!("PUT {path}\nexpected {status} {fields:?}\ngot {} {:?}\n{}", answer.status, answer.fields(), answer.body)
    })))
}

/// Status and faulty fields of an HTTP answer, as it stands in a file.
fn golden(text: &str) -> anyhow::Result<(u16, BTreeSet<String>)> {
    let status = text.split_whitespace().nth(1).context("an answer begins with its status line")?.parse()?;
    let body: Value = text.split_once("\n\n").map(|(_, body)| serde_saphyr::from_str(body)).transpose()?.unwrap_or_default();
    let faults = body["invalid_parameters"].as_array().into_iter().flatten();
    Ok((status, faults.filter_map(|fault| Some(fault["field"].as_str()?.to_owned())).collect()))
}
