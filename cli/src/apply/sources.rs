//! Files, folders and standard input to documents that know where they stand.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, value::RawValue};
use serde_saphyr::DuplicateKeyPolicy;

/// One document of the input.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its file.
    file: String,
    /// The line of the file at which `text` begins, from 1.
    first_line: usize,
    /// The line of its first content.
    line: usize,
    /// Lines of `text` are lines of the file; those of a JSON document are not.
    has_lines: bool,
    /// As YAML, without a marker.
    pub text: String,
    /// Parsed.
    pub value: Value,
}

impl Document {
    /// A field of the envelope.
    pub fn field(&self, name: &str) -> &str {
        self.value[name].as_str().unwrap_or_default()
    }

    /// Kind, mesh and name, as results show them.
    pub fn title(&self) -> String {
        title(self.field("type"), self.field("mesh"), self.field("name"))
    }

    /// `FILE:LINE` of its beginning.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// `FILE:LINE:COLUMN` of a place in its text.
    pub fn place_of(&self, line: usize, column: usize) -> String {
        if self.has_lines { format!("{}:{}:{column}", self.file, self.first_line + line - 1) } else { self.place() }
    }
}

/// Kind, mesh and name, as results show them.
pub fn title(kind: &str, mesh: &str, name: &str) -> String {
    let slash = if mesh.is_empty() { "" } else { "/" };
    format!("{kind} {mesh}{slash}{name}")
}

/// Reads all documents of files, folders and, for `-`, of standard input.
///
/// # Errors
/// When something cannot be read or parsed, or there is no document at all.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in paths {
        for (name, text) in files(path)? {
            documents.extend(of_text(&name, &text)?);
        }
    }
    if documents.is_empty() {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("there is no document in {}", paths.join(", "));
    }
    Ok(documents)
}

/// The files of a path with their names: of a folder those in it and below it, sorted.
fn files(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(vec![("stdin".to_owned(), text)]);
    }
    let mut found = Vec::new();
    if path.is_dir() {
        gather(path, &mut found)?;
        if found.is_empty() {
            bail!("{} has no .yaml, .yml or .json file", path.display());
        }
        found.sort();
    } else {
        found.push(path.to_owned());
    }
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    found.iter().map(read).collect()
}

/// Hidden files and folders are left out: editors and version control keep theirs there.
fn gather(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder is not followed: it may lead back here.
        if entry.file_type()?.is_dir() {
            gather(&path, found)?;
        } else if path.is_file() && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn of_text(name: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    // JSON that is broken is parsed as YAML, whose faults name line and column.
    match from_json(name, text) {
        Some(documents) => Ok(documents),
        None => from_yaml(name, text),
    }
}

/// A JSON document or a list of them; none when the text is no JSON.
fn from_json(name: &str, text: &str) -> Option<Vec<Document>> {
    let parts: Vec<&RawValue> = match text.trim_start().as_bytes().first()? {
        b'[' => serde_json::from_str(text).ok()?,
        b'{' => vec![serde_json::from_str(text).ok()?],
        _ => return None,
    };
    let document = |part: &RawValue| {
        let value: Value = serde_json::from_str(part.get()).ok()?;
        let offset = part.get().as_ptr() as usize - text.as_ptr() as usize;
        let line = text[..offset].matches('\n').count() + 1;
        Some(Document { file: name.to_owned(), first_line: line, line, has_lines: false, text: value.to_string() + "\n", value })
    };
    parts.into_iter().map(document).collect()
}

/// The documents of a YAML text. A line that begins with `---` begins a document wherever it stands, so the text can be cut there
/// before it is parsed.
fn from_yaml(name: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let mut parts: Vec<(usize, String)> = vec![(1, String::new())];
    for (i, line) in text.lines().enumerate() {
        let marker = |mark: &str| line.strip_prefix(mark).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        match (marker("---"), marker("...")) {
            (Some(rest), _) => parts.push((i + 1, format!("   {rest}\n"))),
            (None, Some(_)) => parts.push((i + 2, String::new())),
            (None, None) => {
                if let Some((_, part)) = parts.last_mut() {
                    part.push_str(line);
                    part.push('\n');
                }
            }
        }
    }
    let mut documents = Vec::new();
    for (first_line, text) in parts {
        documents.extend(of_part(name, first_line, text)?);
    }
    Ok(documents)
}

/// The document of a part; none when it has only comments.
fn of_part(name: &str, first_line: usize, text: String) -> anyhow::Result<Option<Document>> {
    let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let Some(skipped) = text.lines().position(is_content) else { return Ok(None) };
    // The plane reads by the same rules.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let parsed = serde_saphyr::from_multiple_with_options::<Value>(&text, options).map_err(|error| {
        let message = error.without_snippet().to_string();
        let message = message.split(" at line ").next().unwrap_or_default().lines().next().unwrap_or_default();
        let message = message.trim_end_matches([':', ',']).to_owned();
        match error.location() {
            Some(at) => {
                let line = first_line + usize::try_from(at.line()).unwrap_or(1) - 1;
                anyhow::anyhow!("{name}:{line}:{}: this is no YAML: {message}", at.column())
            }
            None => anyhow::anyhow!("{name}:{first_line}: this is no YAML: {message}"),
        }
    })?;
    let Some(value) = parsed.into_iter().next() else { return Ok(None) };
    Ok(Some(Document { file: name.to_owned(), first_line, line: first_line + skipped, has_lines: true, text, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(documents: &[Document], folder: &Path) -> Vec<String> {
        let root = folder.display().to_string() + "/";
        documents.iter().map(|one| format!("{} {}", one.field("name"), one.place().replace(&root, ""))).collect()
    }

    #[test]
    fn folders_are_read_to_the_bottom_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a.yaml", "type: Mesh\nname: a\n---\n# nothing\n---\n\n# b\ntype: Mesh\nname: b");
        write("b/deep/er.json", "[{\"type\": \"Mesh\",\n \"name\": \"c\"},\n {\"type\": \"Mesh\", \"name\": \"d\"}]");
        write("c.yml", "--- # first\ntype: Mesh\nname: e\n...\n--- {type: Mesh, name: f}\n");
        write("notes.txt", "no document");
        write(".git/x.yaml", "no: document");
        let documents = read(&[folder.path().to_owned()]).unwrap();
        assert_eq!(
            places(&documents, folder.path()),
            ["a a.yaml:1", "b a.yaml:8", "c b/deep/er.json:1", "d b/deep/er.json:3", "e c.yml:2", "f c.yml:5"]
        );
        assert!(documents[1].place_of(5, 7).ends_with("a.yaml:9:7"), "{}", documents[1].place_of(5, 7));
        assert!(documents[3].place_of(1, 9).ends_with("er.json:3"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |path: &Path| format!("{:#}", read(&[path.to_owned()]).unwrap_err());
        assert!(fault(&folder.path().join("nope.yaml")).contains("nope.yaml"));
        assert!(fault(folder.path()).contains("no .yaml"));
        let bad = folder.path().join("bad.yaml");
        fs::write(&bad, "a: 1\n---\na: 1\na: 2\n").unwrap();
        assert!(fault(&bad).contains("bad.yaml:4:"), "{}", fault(&bad));
        fs::write(&bad, "# empty\n").unwrap();
        assert!(fault(&bad).contains("no document"));
    }

    #[test]
    fn texts_are_read_as_the_plane_reads_them() {
        let documents = from_yaml("x", "a: yes\nb: 017\nc: true\n").unwrap();
        assert_eq!(documents[0].value, serde_json::json!({"a": "yes", "b": "017", "c": true}));
    }
}
