//! `atoll diff`: what an apply would change, as unified diffs of YAML.
//!
//! The plane says in a dry run which fields would differ. Both documents are shown without what differs and is not among these:
//! that is computed by planes and ignored in what people send.

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode};

use anyhow::bail;
use atoll_model::{Kind, Style, labels};
use clap::Args;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::{
    Connection,
    apply::{dry_run, sources, sources::Document},
    client::Client,
    kinds,
    output::Ordered,
};

const EXAMPLES: &str = "Examples:
  atoll diff -f policies/
  atoll diff -f policies/ --exit-code     in a pipeline: 0 nothing differs, 1 something does, 2 it cannot be told
  atoll get mt all -o yaml | sed s/1h/2h/ | atoll diff -f -";

/// Shows what an apply would change, document by document.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Diff {
    /// File, folder (its .yaml, .yml and .json files, at any depth), or - for standard input; repeatable.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Exit with 0 when nothing differs, 1 when something does, 2 when that cannot be told.
    #[arg(long)]
    pub exit_code: bool,
    /// Unknown fields, and what this version does not enforce, are faults.
    #[arg(long)]
    pub strict: bool,
}

impl Diff {
    /// Runs the command.
    ///
    /// # Errors
    /// When it cannot be told what differs; with `--exit-code` that is told on `err` and by the code.
    pub async fn run(self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<ExitCode> {
        match self.compare(connection, out, err).await {
            Ok(differs) => Ok(if differs && self.exit_code { ExitCode::from(1) } else { ExitCode::SUCCESS }),
            Err(error) if self.exit_code => {
                writeln!(err, "error: {error:#}")?;
                Ok(ExitCode::from(2))
            }
            Err(error) => Err(error),
        }
    }

    async fn compare(&self, connection: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<bool> {
        let documents = sources::read(&self.files)?;
        let client = Client::of(connection)?;
        let mut differs = false;
        let mut faulty = 0;
        for (document, foretold) in dry_run(&client, documents, self.strict, err).await? {
            match foretold.result.as_str() {
                "unchanged" => (),
                "created" | "updated" => {
                    differs = true;
                    let live = live(&client, &document, &foretold.result).await?;
                    let changed: BTreeSet<&str> = foretold.changes.iter().map(|one| one.field.as_str()).collect();
                    out.write_all(unified(&document, live, &changed)?.as_bytes())?;
                }
                _ => faulty += 1,
            }
        }
        if faulty > 0 {
            bail!("{faulty} documents would be refused");
        }
        Ok(differs)
    }
}

async fn live(client: &Client, document: &Document, result: &str) -> anyhow::Result<Option<Value>> {
    let kind: Kind = document.field("type").parse()?;
    if result == "created" {
        return Ok(None);
    }
    client.find(&kinds::item_path(kind, document.field("mesh"), document.field("name")), &[]).await
}

/// The unified diff of a document against what is there.
fn unified(document: &Document, live: Option<Value>, changed: &BTreeSet<&str>) -> anyhow::Result<String> {
    let kind: Kind = document.field("type").parse()?;
    let mut after = parts(kind, &document.value);
    let mut before = live.as_ref().map(|live| parts(kind, live));
    if let Some(before) = &mut before {
        drop_computed(kind, before, &mut after, changed);
    }
    if kind.descriptor().sealed {
        hide(&mut after, changed);
    }
    let shown = |parts: &Parts| serde_saphyr::to_string(&parts.document());
    let old = before.as_ref().map(shown).transpose()?.unwrap_or_default();
    let new = shown(&after)?;
    let from = if before.is_some() { format!("live {}", document.title()) } else { "/dev/null".to_owned() };
    let diff = TextDiff::from_lines(&old, &new);
    Ok(diff.unified_diff().context_radius(3).header(&from, &document.place()).to_string())
}

/// What an author writes of a document.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    envelope: Vec<(&'static str, Value)>,
    labels: Map<String, Value>,
    spec: Map<String, Value>,
    style: Style,
}

/// Beside the spec of flat documents.
const ENVELOPE: [&str; 10] =
    ["type", "mesh", "name", "labels", "creationTime", "modificationTime", "kri", "snis", "status", "version"];

fn parts(kind: Kind, document: &Value) -> Parts {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let style = kind.descriptor().style;
    let mut spec = match style {
        Style::Spec => object(&document["spec"]),
        Style::Flat => object(document),
    };
    if style == Style::Flat {
        spec.retain(|field, _| !ENVELOPE.contains(&field.as_str()));
    }
    let envelope = ["type", "mesh", "name"].into_iter().filter_map(|field| Some((field, document.get(field)?.clone())));
    let mut given = object(&document["labels"]);
    given.retain(|label, _| !labels::COMPUTED.contains(&label.as_str()));
    Parts { envelope: envelope.collect(), labels: given, spec, style }
}

impl Parts {
    fn document(&self) -> Ordered {
        let ordered = |value: &Value| serde_json::from_value::<Ordered>(value.clone()).unwrap_or(Ordered::List(Vec::new()));
        let object = |map: &Map<String, Value>| map.iter().map(|(key, value)| (key.clone(), ordered(value))).collect::<Vec<_>>();
        let mut fields: Vec<_> = self.envelope.iter().map(|(field, value)| ((*field).to_owned(), ordered(value))).collect();
        if !self.labels.is_empty() {
            fields.push(("labels".to_owned(), Ordered::Object(object(&self.labels))));
        }
        match self.style {
            Style::Spec => fields.push(("spec".to_owned(), Ordered::Object(object(&self.spec)))),
            Style::Flat => fields.extend(object(&self.spec)),
        }
        Ordered::Object(fields)
    }
}

/// Takes out of both what differs without being a change.
fn drop_computed(kind: Kind, before: &mut Parts, after: &mut Parts, changed: &BTreeSet<&str>) {
    // A plane that left some differences out, or tells none: all that differs is shown.
    if changed.is_empty() || changed.iter().any(|field| field.starts_with("and ")) {
        return;
    }
    let is_changed = |path: &str| {
        changed.iter().any(|field| {
            let covers = |long: &str, short: &str| {
                long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            covers(field, path) || covers(path, field)
        })
    };
    let root = if kind.descriptor().style == Style::Spec { "spec." } else { "" };
    keep_changes(&mut before.spec, &mut after.spec, |field| is_changed(&format!("{root}{field}")));
    keep_changes(&mut before.labels, &mut after.labels, |label| is_changed(&format!("labels[{label:?}]")));
}

fn keep_changes(before: &mut Map<String, Value>, after: &mut Map<String, Value>, is_changed: impl Fn(&str) -> bool) {
    let keys: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    for key in &keys {
        if before.get(key) != after.get(key) && !is_changed(key) {
            before.remove(key);
            after.remove(key);
        }
    }
}

/// A secret's new value is told of, not shown; the plane does not show the old one either.
fn hide(after: &mut Parts, changed: &BTreeSet<&str>) {
    for (field, value) in &mut after.spec {
        let names = [field.clone(), format!("spec.{field}"), "spec".to_owned()];
        let is_new = names.iter().any(|name| changed.contains(name.as_str()));
        *value = json!(if is_new { "(another value, not shown)" } else { atoll_model::resource::SEALED });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, text).unwrap();
        sources::read(&[path]).unwrap().remove(0)
    }

    fn check(text: &str, live: Option<Value>, changed: &[&str], expected: &str) {
        let document = document(text);
        let folder = document.place().replace("x.yaml:1", "");
        let diff = unified(&document, live, &changed.iter().copied().collect()).unwrap();
        assert_eq!(diff.replace(&folder, ""), expected);
    }

    const TIMEOUT: &str =
        "type: MeshTimeout\nmesh: default\nname: all\nlabels: {team: b}\nspec:\n  to:\n  - default: {idleTimeout: 2h}\n";

    #[test]
    fn a_change_is_shown_without_what_planes_compute() {
        let live = json!({
            "type": "MeshTimeout", "mesh": "default", "name": "all", "kri": "kri_x", "creationTime": "2026-01-01T00:00:00Z",
            "labels": {"team": "a", "kuma.io/origin": "global"},
            "spec": {"to": [{"default": {"idleTimeout": "1h"}}], "computed": 7}, "status": {"x": 1},
        });
        check(
            TIMEOUT,
            Some(live),
            &["labels[\"team\"]", "spec.to[0].default.idleTimeout"],
            "--- live MeshTimeout default/all\n+++ x.yaml:1\n@@ -2,8 +2,8 @@\n mesh: default\n name: all\n labels:\n-  team: a\n+  \
             team: b\n spec:\n   to:\n   - default:\n-      idleTimeout: 1h\n+      idleTimeout: 2h\n",
        );
    }

    #[test]
    fn what_is_new_is_shown_whole() {
        check(
            "type: Zone\nname: aws\nenabled: false\n",
            None,
            &[],
            "--- /dev/null\n+++ x.yaml:1\n@@ -0,0 +1,3 @@\n+type: Zone\n+name: aws\n+enabled: false\n",
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let document = document("type: GlobalSecret\nname: s\ndata: aGk=\n");
        for (live, changed) in [(None, vec![]), (Some(json!({"type": "GlobalSecret", "name": "s", "data": "x"})), vec!["data"])] {
            let diff = unified(&document, live, &changed.into_iter().collect()).unwrap();
            assert!(!diff.contains("aGk=") && diff.contains("+data:"), "{diff}");
        }
    }
}
