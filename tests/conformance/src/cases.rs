//! Reads the folder.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

/// The cases of a corpus, in order; none if the folder has no such corpus.
pub(crate) fn list(corpus: &Path) -> anyhow::Result<Vec<Value>> {
    let path = corpus.join("cases.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read(&path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}

/// A text of the case.
pub(crate) fn text(case: &Value, field: &str) -> String {
    case[field].as_str().unwrap_or_default().to_owned()
}

/// A file.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The YAML documents of a file.
pub(crate) fn documents(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = read(path)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
