//! Files to one text of YAML documents, and places in that text back to places in the files.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::de::IgnoredAny;

/// What is sent, and where its parts come from.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) text: String,
    parts: Vec<Part>,
}

/// One file within the text.
#[derive(Debug)]
struct Part {
    name: String,
    /// The line of the text that is the file's first, from 1.
    first_line: usize,
    /// The index of the file's first document.
    first_document: usize,
    /// A JSON file is sent in one line: its lines cannot be told.
    has_lines: bool,
}

impl Sources {
    pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut sources = Self { text: String::new(), parts: Vec::new() };
        let mut documents = 0;
        for path in paths {
            for (name, text) in files(path)? {
                documents += sources.add(name, &text, documents)?;
            }
        }
        if documents == 0 {
            bail!(
                "there is no document in {}",
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(sources)
    }

    /// Adds a file; gives the count of its documents.
    fn add(&mut self, name: String, text: &str, first_document: usize) -> anyhow::Result<usize> {
        let is_json = text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok();
        let (text, count) = if is_json { from_json(text)? } else { from_yaml(&name, text)? };
        if !self.text.is_empty() {
            self.text.push_str("---\n");
        }
        let first_line = self.text.lines().count() + 1;
        self.text.push_str(&text);
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.parts.push(Part { name, first_line, first_document, has_lines: !is_json });
        Ok(count)
    }

    /// Where document `index`, or the line of the text, is in the files.
    pub(super) fn place(&self, index: usize, line: Option<usize>, column: Option<usize>) -> String {
        let Some(part) = self.parts.iter().rev().find(|part| part.first_document <= index) else { return String::new() };
        match (line, column) {
            (Some(line), Some(column)) if part.has_lines && line >= part.first_line => {
                format!("{}:{}:{column}", part.name, line - part.first_line + 1)
            }
            _ => part.name.clone(),
        }
    }
}

/// The files of a path with their names.
fn files(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok((path.display().to_string(), text))
    };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(vec![("(standard input)".to_owned(), text)]);
    }
    if !path.is_dir() {
        return Ok(vec![read(path)?]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let path = entry?.path();
        let is_document = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if is_document && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{} has no .yaml, .yml or .json file", path.display());
    }
    found.iter().map(|path| read(path)).collect()
}

/// A JSON document, or a list of them, as YAML documents of one line each.
fn from_json(text: &str) -> anyhow::Result<(String, usize)> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let documents = match value {
        serde_json::Value::Array(documents) => documents,
        one => vec![one],
    };
    let lines: Vec<String> = documents.iter().map(ToString::to_string).collect();
    Ok((lines.join("\n---\n"), documents.len()))
}

fn from_yaml(name: &str, text: &str) -> anyhow::Result<(String, usize)> {
    let options = serde_saphyr::options! { with_snippet: true };
    let documents: Vec<IgnoredAny> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| anyhow::anyhow!("{name} is no YAML: {error}"))?;
    Ok((text.to_owned(), documents.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_to_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", "type: Mesh\nname: a\n---\n# nothing\n---\ntype: Mesh\nname: b");
        write("b.json", "[{\"type\": \"Mesh\",\n \"name\": \"c\"}, {\"type\": \"Mesh\", \"name\": \"d\"}]");
        write("c.yml", "---\ntype: Mesh\nname: e\n");
        write("notes.txt", "no document");
        let sources = Sources::read(&[folder.path().to_owned()]).unwrap();
        let count: Vec<IgnoredAny> = serde_saphyr::from_multiple(&sources.text).unwrap();
        assert_eq!(count.len(), 5);
        let line = sources.text.lines().position(|line| line == "name: e").unwrap() + 1;
        assert!(sources.place(4, Some(line), Some(7)).ends_with("c.yml:3:7"));
        assert!(sources.place(1, Some(7), Some(1)).ends_with("a.yaml:7:1"));
        assert!(sources.place(3, Some(9), Some(1)).ends_with("b.json"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |path: &Path| format!("{:#}", Sources::read(&[path.to_owned()]).unwrap_err());
        assert!(fault(&folder.path().join("nope.yaml")).contains("nope.yaml"));
        assert!(fault(folder.path()).contains("no .yaml"));
        let bad = folder.path().join("bad.yaml");
        fs::write(&bad, "a: [1\n").unwrap();
        assert!(fault(&bad).contains("bad.yaml is no YAML"));
        fs::write(&bad, "# empty\n").unwrap();
        assert!(fault(&bad).contains("no document"));
    }
}
