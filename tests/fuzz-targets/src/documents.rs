//! Documents, as clients send them.

use atoll_api::{
    Limits,
    body::{Format, parse_many},
};
use atoll_model::{Kind, Violation, document::Document, resource::canonical_json};
use bytes::Bytes;
use serde_json::Value;

/// A JSON body.
pub(crate) fn json(bytes: &[u8]) {
    body(Format::Json, bytes);
}

/// A YAML body.
pub(crate) fn yaml(bytes: &[u8]) {
    body(Format::Yaml, bytes);
}

fn body(format: Format, bytes: &[u8]) {
    let Ok(parsed) = parse_many(&Limits::default(), format, &Bytes::copy_from_slice(bytes)) else { return };
    for value in parsed.documents {
        if let Ok(document) = Document::from_value(value.clone(), None) {
            accepted(&document);
        }
        // What stands in the path of a request says the kind, too.
        for kind in Kind::ALL {
            let fields = value.as_object().cloned().unwrap_or_default();
            let named = fields.into_iter().filter(|(field, _)| field != "type").collect();
            if let Ok(document) = Document::from_value(Value::Object(named), Some(*kind)) {
                accepted(&document);
            }
        }
    }
}

/// A document that was taken apart: its faults have places, and what is stored of it is judged as it was.
fn accepted(document: &Document) {
    let row = document.kind.descriptor();
    let checked = (row.check)(&document.spec);
    let stored = canonical_json(&document.spec);
    let mut read: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!((row.check)(&read), checked, "{} is judged otherwise after it was stored", document.kind);
    if let Some(schema) = row.schema {
        schema.fill(&mut read);
        assert_eq!(canonical_json(&read), stored, "the defaults of {} change again", document.kind);
    }
    if row.sealed {
        silent(&document.spec, &checked.violations, &format!("{document:?}"));
    }
}

/// No fault and no printed form of a secret repeats it.
fn silent(spec: &Value, faults: &[Violation], printed: &str) {
    let Some(data) = spec["data"].as_str().filter(|data| data.len() > 12) else { return };
    assert!(!printed.contains(data) && faults.iter().all(|fault| !fault.message.contains(data)), "a secret is shown");
}
