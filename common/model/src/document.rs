//! Documents: the envelope around a spec, and the check of a spec against its kind.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    Kind, Labels, Name, Scope, Style, Violation, kinds::mesh_service, resource::SEALED, schema::Schema, violation::Path,
};

/// What a check of one spec found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Faults; an empty list means that the spec is valid.
    pub violations: Vec<Violation>,
    /// Paths of fields that the kind does not have. They are stored, and named in `warnings`.
    pub unknown: Vec<String>,
    /// Paths of fields that this version stores but does not put into effect.
    pub not_enforced: Vec<String>,
}

/// Checks a spec (for flat kinds: the fields beside the metadata).
pub type Checker = fn(&Value) -> Checked;

/// Checks the shape of `spec`, then parses it as `T` and adds what `validate` finds. A spec of the wrong shape is not judged any
/// further.
pub fn check_spec<T: DeserializeOwned>(
    schema: &Schema,
    spec: &Value,
    validate: impl FnOnce(&T, &Path) -> Vec<Violation>,
) -> Checked {
    let violations = schema.faults(spec, &Path::root("spec"));
    if violations.is_empty() { check_as(spec, "spec", validate) } else { Checked { violations, ..Checked::default() } }
}

/// Parses `spec` as `T` and, if it parses, adds what `validate` finds. `root` is `spec` or empty for flat kinds.
pub fn check_as<T: DeserializeOwned>(spec: &Value, root: &str, validate: impl FnOnce(&T, &Path) -> Vec<Violation>) -> Checked {
    let root = Path::root(root);
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let parsed: Result<T, _> = {
        let tracked = serde_path_to_error::Deserializer::new(spec, &mut track);
        serde_ignored::deserialize(tracked, |path| unknown.push(root.field(&ignored_path(&path.to_string())).to_string()))
    };
    match parsed {
        Ok(parsed) => Checked { violations: validate(&parsed, &root), unknown, not_enforced: Vec::new() },
        Err(error) => {
            let at = track.path().to_string();
            let field = if at == "." { root.to_string() } else { root.field(&at).to_string() };
            Checked { violations: vec![Violation::new(field, plain(&error))], unknown, not_enforced: Vec::new() }
        }
    }
}

/// serde_ignored writes `a.0.?.b`; documents write `a[0].b`.
fn ignored_path(path: &str) -> String {
    let mut out = Path::default();
    for part in path.split('.').filter(|part| *part != "?") {
        out = match part.parse::<usize>() {
            Ok(index) => out.index(index),
            Err(_) => out.field(part),
        };
    }
    out.to_string()
}

/// serde_json's message without the position, which means nothing to the reader of a parsed value.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A document, taken apart. Its `Debug` form shows no secret.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// `type`.
    pub kind: Kind,
    /// `mesh`; none for global-scoped kinds.
    pub mesh: Name,
    /// `name`.
    pub name: Name,
    /// `labels`.
    pub labels: Labels,
    /// The spec: `spec`, or the fields beside the metadata of flat kinds.
    pub spec: Value,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = if self.kind.descriptor().sealed { &Value::from(SEALED) } else { &self.spec };
        f.debug_struct("Document")
            .field("kind", &self.kind)
            .field("mesh", &self.mesh)
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("spec", spec)
            .finish()
    }
}

/// Fields of the envelope that planes compute; what a client sends there is ignored.
const COMPUTED_FIELDS: [&str; 6] = ["creationTime", "modificationTime", "kri", "snis", "status", "version"];

impl Document {
    /// Takes a parsed document apart, and fills in the defaults of its spec. The kind comes from `type`, unless `expected` says
    /// which it must be.
    ///
    /// # Errors
    /// Every fault of the envelope. The spec is not checked here.
    pub fn from_value(value: Value, expected: Option<Kind>) -> Result<Self, Vec<Violation>> {
        let Value::Object(mut fields) = value else {
            return Err(vec![Violation::new("", "a document must be an object with the fields type, name and spec")]);
        };
        let mut faults = Vec::new();
        let kind = take_kind(&mut fields, expected, &mut faults);
        let mesh = take_text(&mut fields, "mesh", &mut faults);
        let name = take_text(&mut fields, "name", &mut faults);
        let labels = take_labels(&mut fields, &mut faults);
        for computed in COMPUTED_FIELDS {
            fields.remove(computed);
        }
        let (Some(kind), true) = (kind, faults.is_empty()) else { return Err(faults) };
        let row = kind.descriptor();
        let mesh = match row.scope {
            Scope::Global => Name::none(),
            Scope::Mesh => mesh.unwrap_or_default().into(),
        };
        let mut spec = match row.style {
            Style::Flat => Value::Object(fields),
            Style::Spec => fields.remove("spec").ok_or_else(|| vec![Violation::new("", "spec in body is required")])?,
        };
        if let Some(schema) = row.schema {
            schema.fill(&mut spec);
        }
        Ok(Self { kind, mesh, name: name.unwrap_or_default().into(), labels, spec })
    }
}

impl Document {
    /// What the author of a valid document should know of it.
    pub fn warnings(&self) -> Vec<String> {
        match self.kind {
            Kind::MeshService => mesh_service::warnings(&self.name, &self.spec),
            _ => Vec::new(),
        }
    }
}

fn take_kind(fields: &mut Map<String, Value>, expected: Option<Kind>, faults: &mut Vec<Violation>) -> Option<Kind> {
    let given = take_text(fields, "type", faults);
    match (given.as_deref().map(str::parse::<Kind>), expected) {
        (None, Some(kind)) => Some(kind),
        (None, None) => {
            if faults.is_empty() {
                faults.push(Violation::new("type", "cannot be empty"));
            }
            None
        }
        (Some(Ok(kind)), None) => Some(kind),
        (Some(Ok(kind)), Some(expected)) if kind == expected => Some(kind),
        // Kuma knows the types of new-style documents by their schema.
        (Some(_), Some(expected)) if expected.descriptor().style == Style::Spec => {
            faults.push(Violation::new("", format!("type in body should be one of [{expected}]")));
            None
        }
        (Some(_), Some(_)) => {
            faults.push(Violation::new("type", "type from the URL has to be the same as in body"));
            None
        }
        (Some(Err(unknown)), None) => {
            faults.push(Violation::new("type", unknown.to_string()));
            None
        }
    }
}

fn take_text(fields: &mut Map<String, Value>, name: &str, faults: &mut Vec<Violation>) -> Option<String> {
    match fields.remove(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            faults.push(Violation::new(name, "must be a string"));
            None
        }
    }
}

fn take_labels(fields: &mut Map<String, Value>, faults: &mut Vec<Violation>) -> Labels {
    match fields.remove("labels") {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(labels)) => labels
            .into_iter()
            .filter_map(|(key, value)| match value {
                Value::String(text) => Some((key, text)),
                _ => {
                    faults.push(Path::root("labels").key(&key).violation("must be a string"));
                    None
                }
            })
            .collect(),
        Some(_) => {
            faults.push(Violation::new("labels", "must be an object of strings"));
            Labels::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_style_document_is_taken_apart() {
        let document = Document::from_value(
            json!({"type": "MeshTimeout", "mesh": "default", "name": "a", "labels": {"k": "v"}, "spec": {"x": 1}, "kri": "k"}),
            None,
        );
        let expected = Document {
            kind: Kind::MeshTimeout,
            mesh: "default".into(),
            name: "a".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            spec: json!({"x": 1}),
        };
        assert_eq!(document, Ok(expected));
    }

    #[test]
    fn a_flat_document_keeps_the_fields_beside_the_metadata() {
        let document = Document::from_value(json!({"type": "Zone", "name": "a", "enabled": false}), Some(Kind::Zone));
        assert_eq!(document.map(|document| document.spec), Ok(json!({"enabled": false})));
    }

    #[test]
    fn every_fault_of_the_envelope_is_named() {
        let faults = Document::from_value(json!({"type": "Nope", "name": 1, "labels": {"a": 1}}), None).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["type", "name", r#"labels["a"]"#]);
    }
}
