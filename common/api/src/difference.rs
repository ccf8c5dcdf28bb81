//! What differs between two documents, field by field.

use atoll_model::{resource::SEALED, violation::Path};
use serde::Serialize;
use serde_json::{Map, Value};

/// Differences that are shown of one document, at most.
const SHOWN: usize = 200;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// Its path, as in faults.
    pub(crate) field: String,
    /// What stood there; absent when nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Value>,
    /// What stands there; absent when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Value>,
}

/// The fields in which two documents differ, in their order: the innermost ones, elements of lists by their place.
pub(crate) fn between(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&Path::default(), Some(before), Some(after), &mut found);
    if found.len() > SHOWN {
        let more = found.len() - SHOWN;
        found.truncate(SHOWN);
        found.push(Difference { field: format!("and {more} more"), before: None, after: None });
    }
    found
}

/// The same of secrets: which fields, not what stands there.
pub(crate) fn sealed(differences: Vec<Difference>) -> Vec<Difference> {
    let hide = |value: Option<Value>| value.map(|_| Value::from(SEALED));
    let plain = |field: &str| field == "labels" || field.starts_with("labels[");
    differences
        .into_iter()
        .map(|one| match plain(&one.field) {
            true => one,
            false => Difference { before: hide(one.before), after: hide(one.after), ..one },
        })
        .collect()
}

fn compare(at: &Path, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            for key in keys(before, after) {
                compare(&field(at, key), before.get(key), after.get(key), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                compare(&at.index(index), before.get(index), after.get(index), found);
            }
        }
        (before, after) => {
            found.push(Difference { field: at.to_string(), before: before.cloned(), after: after.cloned() });
        }
    }
}

/// The keys of both, in order.
fn keys<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> Vec<&'a String> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// A key that reads like a field is written as one; any other, such as that of a label, in brackets.
fn field(at: &Path, key: &str) -> Path {
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_plain && at.to_string() != "labels" { at.field(key) } else { at.key(key) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(before: Value, after: Value, expected: &[(&str, Value, Value)]) {
        let some = |value: &Value| (!value.is_null()).then(|| value.clone());
        let expected: Vec<_> = expected
            .iter()
            .map(|(field, before, after)| Difference { field: (*field).to_owned(), before: some(before), after: some(after) })
            .collect();
        assert_eq!(between(&before, &after), expected);
    }

    #[test]
    fn only_what_differs_is_shown_at_its_innermost_place() {
        check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2}]}), &[]);
        check(
            json!({"labels": {"team": "x"}, "spec": {"to": [{"default": {"idleTimeout": "1h", "x": 1}}]}}),
            json!({"labels": {"a/b": "y"}, "spec": {"to": [{"default": {"idleTimeout": "2h", "x": 1}}, {}]}}),
            &[
                ("labels[\"a/b\"]", json!(null), json!("y")),
                ("labels[\"team\"]", json!("x"), json!(null)),
                ("spec.to[0].default.idleTimeout", json!("1h"), json!("2h")),
                ("spec.to[1]", json!(null), json!({})),
            ],
        );
        check(json!({}), json!({"spec": {"x": 1}}), &[("spec", json!(null), json!({"x": 1}))]);
        check(json!({"a": 1}), json!({"a": {"b": 1}}), &[("a", json!(1), json!({"b": 1}))]);
    }

    #[test]
    fn a_secret_is_named_and_not_shown() {
        let found = sealed(between(&json!({"data": "aGk="}), &json!({"data": "aG8=", "labels": {"a": "b"}})));
        assert_eq!(found[0], Difference { field: "data".into(), before: Some(json!(SEALED)), after: Some(json!(SEALED)) });
        assert_eq!(found[1].after, Some(json!({"a": "b"})));
    }

    #[test]
    fn a_difference_has_an_end() {
        let many: Map<String, Value> = (0..500).map(|i| (format!("f{i:03}"), json!(i))).collect();
        let found = between(&json!({}), &Value::Object(many));
        assert_eq!((found.len(), &*found[200].field), (201, "and 300 more"));
    }
}
