//! The Dataplane document: variables, YAML or JSON, name and mesh.

use std::{collections::BTreeMap, path::Path};

use atoll_model::{Kind, Violation, document::Document, kinds::Dataplane};
use serde_json::Value;

/// A document that is ready to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Its mesh.
    pub mesh: String,
    /// Its name.
    pub name: String,
    /// The whole document; none: the resource must exist at the zone.
    pub document: Option<Value>,
    /// The part of it that this program looks at.
    pub dataplane: Dataplane,
}

impl Proxy {
    /// Its name as an Envoy: `<mesh>.<name>`.
    pub fn node_id(&self) -> String {
        format!("{}.{}", self.mesh, self.name)
    }
}

/// What is wrong with a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentFault {
    /// It cannot be read.
    #[error("cannot read the Dataplane document {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It uses a variable that has no value.
    #[error("the Dataplane document uses {{{{ {0} }}}}: give it a value with --dataplane-var {0}=…")]
    Variable(String),
    /// It uses something else of the template language.
    #[error("the Dataplane document uses {0:?}; only variables are supported")]
    Template(String),
    /// Neither YAML nor JSON.
    #[error("the Dataplane document is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// Every fault with its path.
    #[error("the Dataplane document is not valid: {}", list(.0))]
    Invalid(Vec<Violation>),
    /// Nobody says which proxy this is.
    #[error("which proxy is this? Give --dataplane-file, or --name of a Dataplane that exists at the zone")]
    NoName,
}

fn list(faults: &[Violation]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect::<Vec<_>>().join("; ")
}

/// Reads a document from a file (`-`: standard input).
///
/// # Errors
/// When the file cannot be read, or [`parse`] refuses it.
pub fn read(
    path: Option<&Path>,
    variables: &BTreeMap<String, String>,
    name: Option<&str>,
    mesh: Option<&str>,
) -> Result<Proxy, DocumentFault> {
    let Some(path) = path else {
        let name = name.filter(|name| !name.is_empty()).ok_or(DocumentFault::NoName)?.to_owned();
        let mesh = mesh.unwrap_or("default").to_owned();
        return Ok(Proxy { mesh, name, document: None, dataplane: Dataplane::default() });
    };
    let text = if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| DocumentFault::Unreadable(path.display().to_string(), error))?;
    parse(&text, variables, name, mesh)
}

/// Fills in variables, name and mesh, and checks the document.
///
/// # Errors
/// Every fault that is found in the document.
pub fn parse(
    text: &str,
    variables: &BTreeMap<String, String>,
    name: Option<&str>,
    mesh: Option<&str>,
) -> Result<Proxy, DocumentFault> {
    let text = fill(text, variables)?;
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut value: Value =
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| DocumentFault::Syntax(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        for (field, given, fallback) in [("name", name, None), ("mesh", mesh, Some("default"))] {
            let absent = fields.get(field).is_none_or(Value::is_null);
            if let (true, Some(text)) = (absent, given.or(fallback)) {
                fields.insert(field.to_owned(), text.into());
            }
        }
        fields.entry("type").or_insert_with(|| Kind::Dataplane.name().into());
    }
    let document = Document::from_value(value.clone(), Some(Kind::Dataplane)).map_err(DocumentFault::Invalid)?;
    if document.name.is_empty() {
        return Err(DocumentFault::Invalid(vec![Violation::new("name", "cannot be empty; set it, or give --name")]));
    }
    let mut faults = other(&document.name, name, "name");
    faults.extend(other(&document.mesh, mesh, "mesh"));
    faults.extend((Kind::Dataplane.descriptor().check)(&document.spec).violations);
    if !faults.is_empty() {
        return Err(DocumentFault::Invalid(faults));
    }
    let dataplane = serde_json::from_value(document.spec).map_err(|error| DocumentFault::Syntax(error.to_string()))?;
    Ok(Proxy { mesh: document.mesh.to_string(), name: document.name.to_string(), document: Some(value), dataplane })
}

fn other(written: &str, given: Option<&str>, field: &str) -> Vec<Violation> {
    match given {
        Some(given) if given != written => vec![Violation::new(field, format!("is {written:?}, and --{field} is {given:?}"))],
        Some(_) | None => Vec::new(),
    }
}

/// Replaces `{{ variable }}` and `{{{ variable }}}`.
fn fill(text: &str, variables: &BTreeMap<String, String>) -> Result<String, DocumentFault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once("{{") {
        out.push_str(before);
        let (open, close) = if tag.starts_with('{') { (1, "}}}") } else { (0, "}}") };
        let Some((inner, after)) = tag[open..].split_once(close) else {
            return Err(DocumentFault::Template(format!("{{{{{}", tag.lines().next().unwrap_or_default())));
        };
        let name = inner.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')) {
            return Err(DocumentFault::Template(format!("{{{{{inner}}}}}")));
        }
        out.push_str(variables.get(name).ok_or_else(|| DocumentFault::Variable(name.to_owned()))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GATEWAY: &str = "
type: Dataplane
mesh: default
name: {{ name }}
labels: {kuma.io/workload: gw, enabled: 'yes'}
networking:
  address: {{{address}}}
  inbound: [{port: 8443}]
";

    fn check(text: &str, name: Option<&str>) -> Result<Proxy, String> {
        let variables = [("name", "gw-1"), ("address", "127.0.0.1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        parse(text, &variables, name, None).map_err(|fault| fault.to_string())
    }

    #[test]
    fn variables_are_filled_in() {
        let proxy = check(GATEWAY, None).unwrap();
        assert_eq!((proxy.mesh.as_str(), proxy.name.as_str()), ("default", "gw-1"));
        assert_eq!(proxy.document.unwrap()["networking"]["address"], json!("127.0.0.1"));
    }

    #[test]
    fn name_and_mesh_may_come_from_the_command_line() {
        let proxy = check(r#"{"networking": {"address": "127.0.0.1"}}"#, Some("a")).unwrap();
        assert_eq!(
            proxy.document.unwrap(),
            json!({"type": "Dataplane", "mesh": "default", "name": "a", "networking": {"address": "127.0.0.1"}})
        );
    }

    #[test]
    fn faults_say_what_to_do() {
        for (text, name, word) in [
            ("name: {{ other }}", None, "--dataplane-var other="),
            ("{{# section }}", None, "only variables"),
            ("name: {{ open", None, "only variables"),
            ("a: [", None, "neither YAML nor JSON"),
            ("networking: {address: 127.0.0.1}", None, "--name"),
            (GATEWAY, Some("gw-2"), "--name is \"gw-2\""),
            ("{name: a, networking: {address: 0.0.0.0}}", None, "networking.address"),
            ("{type: Mesh, name: a}", None, "type"),
            ("just text", None, "not valid"),
        ] {
            let fault = check(text, name).unwrap_err();
            assert!(fault.contains(word), "{text}: {fault}");
        }
    }

    #[test]
    fn without_a_document_a_name_is_needed() {
        assert!(matches!(read(None, &BTreeMap::new(), None, None), Err(DocumentFault::NoName)));
        assert_eq!(read(None, &BTreeMap::new(), Some("a"), None).unwrap().mesh, "default");
    }
}
