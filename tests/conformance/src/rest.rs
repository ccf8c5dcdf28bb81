//! `rest/`: requests in their order, to a plane that holds what the case says.

use std::path::Path;

use atoll_model::labels;
use serde_json::Value;

use crate::{
    cases,
    compare::{self, difference},
    plane::{self, ADDRESS, Plane},
    report::{Outcome, Report},
};

const CORPUS: &str = "rest";
/// The zone whose plane answers.
const ZONE: &str = "default";

pub(crate) async fn judge(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let corpus = folder.join(CORPUS);
    for case in cases::list(&corpus)? {
        let name = cases::text(&case, "case");
        let folder = name.rsplit_once('/').map(|(folder, _)| folder);
        let outcome = Outcome::or_failed(judge_one(&corpus, &case).await);
        report.add(CORPUS, folder, &name, &outcome);
    }
    Ok(())
}

async fn judge_one(corpus: &Path, case: &Value) -> anyhow::Result<Outcome> {
    let actions = case["actions"].as_array().cloned().unwrap_or_default();
    for action in &actions {
        let (method, path) = (cases::text(action, "method"), cases::text(action, "path"));
        if !plane::is_offered(&method, &path) {
            return Ok(Outcome::Skipped(format!("there is no endpoint like {method} {}", general(&path))));
        }
    }
    let documents = cases::documents(&corpus.join(cases::text(case, "preload")))?;
    let zone = home(&actions, &documents).or_else(|| own_zone(&documents)).unwrap_or_else(|| ZONE.to_owned());
    let plane = match cases::text(case, "cp_mode").as_str() {
        "global" => Plane::global().await?,
        "zone-unfederated" => Plane::zone(&zone, false).await?,
        "zone-federated" | "zone" => Plane::zone(&zone, true).await?,
        other => return Ok(Outcome::Skipped(format!("there is no mode {other}"))),
    };
    if let Err(reason) = plane.load(documents).await? {
        return Ok(Outcome::Skipped(reason));
    }
    for action in &actions {
        let fault = act(&plane, corpus, action).await?;
        if fault.is_some() {
            return Ok(Outcome::of(fault));
        }
    }
    Ok(Outcome::Passed)
}

/// The zone of which documents say that they are its own: on a zone's plane, `origin: zone` means the plane's.
fn own_zone(documents: &[Value]) -> Option<String> {
    let labels = documents.iter().map(|document| &document["labels"]);
    let mut own = labels.filter(|labels| labels[labels::ORIGIN] == "zone");
    own.find_map(|labels| labels[labels::ZONE].as_str()).map(str::to_owned)
}

/// The zone of the proxy whose layout a case asks for: only the plane of that zone has one.
fn home(actions: &[Value], documents: &[Value]) -> Option<String> {
    actions.iter().find(|action| cases::text(action, "path").ends_with("/_layout"))?;
    documents.iter().find(|document| document["type"] == "Dataplane")?["labels"][labels::ZONE].as_str().map(str::to_owned)
}

/// Sends one request; says where its answer is not the expected one.
async fn act(plane: &Plane, corpus: &Path, action: &Value) -> anyhow::Result<Option<String>> {
    let (method, path) = (cases::text(action, "method"), cases::text(action, "path"));
    let body = match action["body"].as_str() {
        Some(file) => Some(("application/json", cases::read(&corpus.join(file))?)),
        None => None,
    };
    let answer = plane.send(&method, &path, body).await?;
    let expected = match action["expect"].as_str() {
        Some(file) => serde_json::from_str(&cases::read(&corpus.join(file))?)?,
        None => Value::Null,
    };
    let wanted = action["status"].as_u64().unwrap_or_default();
    let fault = if u64::from(answer.status) != wanted {
        Some(format!("expected status {wanted}, got {}", answer.status))
    } else if expected.is_null() {
        None
    } else {
        difference(&expected, &answer.body, compare::Plane { zone: plane.zone_name(), address: ADDRESS })
    };
    Ok(fault.map(|fault| format!("{method} {path}\n{fault}\nexpected {expected:#}\ngot {:#}", answer.body)))
}

/// A path without the names that only this case has.
fn general(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = path.split('/').collect();
    for i in 1..parts.len() {
        let after_kind = i % 2 == if parts[1] == "meshes" { 0 } else { 1 } || i > 4;
        if after_kind && !parts[i].starts_with('_') && i > 1 {
            parts[i] = "…";
        }
    }
    parts.join("/")
}
