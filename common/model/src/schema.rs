//! The shape of a spec: every fault of a document at once, in the words of Kuma's API server, and the defaults that go with it.
//!
//! The shape comes from the Rust types (`schemars`); a typed parse would stop at its first fault.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{Violation, violation::Path};

/// The shape of one kind's specs.
#[derive(Debug)]
pub struct Schema {
    root: Node,
    source: Value,
}

#[derive(Debug)]
struct Node {
    shape: Shape,
    allowed: Vec<Value>,
    default: Option<Value>,
}

#[derive(Debug)]
enum Shape {
    Any,
    Boolean,
    Number,
    Integer { min: Option<i64>, max: Option<i64> },
    IntegerOrString,
    Text { min: usize, max: Option<usize> },
    List { items: Box<Node>, min: usize },
    Object { fields: BTreeMap<String, Node>, required: BTreeSet<String>, others: Option<Box<Node>> },
}

impl Schema {
    /// The shape of `T`.
    pub fn of<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let source = settings.into_generator().into_root_schema_for::<T>().to_value();
        Self { root: node(&source), source }
    }

    /// The shape as JSON Schema.
    pub fn json(&self) -> &Value {
        &self.source
    }

    /// Puts the defaults of absent fields into `spec`.
    pub fn fill(&self, spec: &mut Value) {
        fill(&self.root, spec);
    }

    /// Every fault of `spec`, which stands at `root`, sorted by place.
    pub fn faults(&self, spec: &Value, root: &Path) -> Vec<Violation> {
        let mut faults = Vec::new();
        check(&self.root, spec, root, &mut faults);
        faults.sort();
        faults
    }
}

fn node(schema: &Value) -> Node {
    let default = schema.get("default").filter(|default| !default.is_null()).cloned();
    let branches = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
    if let Some(branches) = branches {
        return Node { default, ..alternatives(branches) };
    }
    let allowed = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values.iter().filter(|value| !value.is_null()).cloned().collect(),
        (_, Some(value)) => vec![value.clone()],
        (_, None) => Vec::new(),
    };
    Node { shape: shape(schema), allowed, default }
}

/// Null beside a shape is what `Option` leaves; a list of constants is an enum; a whole number beside a text is a port.
fn alternatives(branches: &[Value]) -> Node {
    let mut nodes: Vec<Node> = branches.iter().filter(|branch| type_of(branch) != Some("null")).map(node).collect();
    if nodes.len() > 1 && nodes.iter().all(|node| !node.allowed.is_empty()) {
        let allowed = nodes.iter().flat_map(|node| node.allowed.clone()).collect();
        return Node { shape: Shape::Text { min: 0, max: None }, allowed, default: None };
    }
    match (nodes.pop(), nodes.is_empty()) {
        (Some(only), true) => only,
        (Some(Node { shape: Shape::Text { .. } | Shape::Integer { .. }, .. }), false) => {
            Node { shape: Shape::IntegerOrString, allowed: Vec::new(), default: None }
        }
        (Some(_) | None, _) => Node { shape: Shape::Any, allowed: Vec::new(), default: None },
    }
}

/// The type, or the one beside null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn shape(schema: &Value) -> Shape {
    let size = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    match type_of(schema) {
        Some("boolean") => Shape::Boolean,
        Some("number") => Shape::Number,
        Some("integer") => {
            let limit = |key: &str| schema.get(key).and_then(Value::as_f64).map(|limit| limit as i64);
            Shape::Integer { min: limit("minimum"), max: limit("maximum") }
        }
        Some("string") => Shape::Text { min: size("minLength").unwrap_or(0), max: size("maxLength") },
        Some("array") => {
            let items = Box::new(node(schema.get("items").unwrap_or(&Value::Null)));
            Shape::List { items, min: size("minItems").unwrap_or(0) }
        }
        Some("object") => object(schema),
        Some(_) | None => Shape::Any,
    }
}

fn object(schema: &Value) -> Shape {
    let fields = schema.get("properties").and_then(Value::as_object);
    let fields = fields.into_iter().flatten().map(|(name, schema)| (name.clone(), node(schema))).collect();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required = required.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    let others = schema.get("additionalProperties").filter(|others| others.is_object()).map(|others| Box::new(node(others)));
    Shape::Object { fields, required, others }
}

fn fill(node: &Node, value: &mut Value) {
    match (&node.shape, value) {
        (Shape::Object { fields, others, .. }, Value::Object(values)) => {
            for (name, field) in fields {
                if let (Some(default), false) = (&field.default, values.contains_key(name)) {
                    values.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in values.iter_mut() {
                if let Some(field) = fields.get(name).or(others.as_deref()) {
                    fill(field, value);
                }
            }
        }
        (Shape::List { items, .. }, Value::Array(values)) => values.iter_mut().for_each(|value| fill(items, value)),
        _ => {}
    }
}

fn check(node: &Node, value: &Value, path: &Path, faults: &mut Vec<Violation>) {
    let mut fault = |message: String| faults.push(path.violation(message));
    let wrong_type = |expected: &str| format!("in body must be of type {expected}: {:?}", type_name(value));
    if !node.allowed.is_empty() && !node.allowed.contains(value) {
        let allowed: Vec<&str> = node.allowed.iter().filter_map(Value::as_str).collect();
        fault(format!("in body should be one of [{}]", allowed.join(" ")));
    }
    match (&node.shape, value) {
        (Shape::Any, _) | (Shape::Boolean, Value::Bool(_)) | (Shape::Number, Value::Number(_)) => {}
        (Shape::IntegerOrString, Value::String(_)) => {}
        (Shape::IntegerOrString, Value::Number(number)) if whole(number).is_some() => {}
        (Shape::Integer { min, max }, Value::Number(number)) if whole(number).is_some() => {
            let number = whole(number).unwrap_or_default();
            if let Some(min) = min.filter(|min| number < i128::from(*min)) {
                fault(format!("in body should be greater than or equal to {min}"));
            }
            if let Some(max) = max.filter(|max| number > i128::from(*max)) {
                fault(format!("in body should be less than or equal to {max}"));
            }
        }
        (Shape::Text { min, max }, Value::String(text)) => {
            let length = text.chars().count();
            if length < *min {
                fault(format!("in body should be at least {min} chars long"));
            }
            if let Some(max) = max.filter(|max| length > *max) {
                fault(format!("in body should be at most {max} chars long"));
            }
        }
        (Shape::List { items, min }, Value::Array(values)) => {
            if values.len() < *min {
                fault(format!("in body should have at least {min} items"));
            }
            for (i, value) in values.iter().enumerate() {
                check(items, value, &path.index(i), faults);
            }
        }
        (Shape::Object { fields, required, others }, Value::Object(values)) => {
            check_fields(fields, required, others.as_deref(), values, path, faults);
        }
        (Shape::Boolean, _) => fault(wrong_type("boolean")),
        (Shape::Number, _) => fault(wrong_type("number")),
        (Shape::Integer { .. }, _) => fault(wrong_type("integer")),
        (Shape::IntegerOrString, _) => fault(wrong_type("integer,string")),
        (Shape::Text { .. }, _) => fault(wrong_type("string")),
        (Shape::List { .. }, _) => fault(wrong_type("array")),
        (Shape::Object { .. }, _) => fault(wrong_type("object")),
    }
}

fn check_fields(
    fields: &BTreeMap<String, Node>,
    required: &BTreeSet<String>,
    others: Option<&Node>,
    values: &Map<String, Value>,
    path: &Path,
    faults: &mut Vec<Violation>,
) {
    for name in required.iter().filter(|name| !values.contains_key(*name)) {
        faults.push(path.field(name).violation("in body is required"));
    }
    for (name, value) in values {
        if let Some(field) = fields.get(name).or(others) {
            check(field, value, &path.field(name), faults);
        }
    }
}

/// The number, if it has no fraction: `1.0` is a whole number, too.
fn whole(number: &serde_json::Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| {
        let number = number.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 1e18).then_some(number as i128)
    })
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Spec {
        /// Documented variants make another JSON Schema than bare ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<Mode>,
        #[schemars(range(min = 1, max = 65535))]
        port: u32,
        #[serde(default = "tcp")]
        protocol: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inner: Vec<Inner>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Target>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        #[schemars(length(min = 1))]
        name: String,
        #[serde(default)]
        on: bool,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    enum Mode {
        /// One.
        Strict,
        /// The other.
        Permissive,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(untagged)]
    enum Target {
        Number(u16),
        Name(String),
    }

    fn tcp() -> String {
        "tcp".into()
    }

    fn faults(spec: Value) -> Vec<String> {
        let faults = Schema::of::<Spec>().faults(&spec, &Path::root("spec"));
        faults.into_iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect()
    }

    #[test]
    fn every_fault_is_named_in_kumas_words() {
        let spec = json!({
            "mode": "Loose", "port": 0, "protocol": 7, "labels": {"a": 1}, "target": true,
            "inner": [{"name": ""}, {"on": "yes"}, 3],
        });
        let expected = [
            "spec.inner[0].name in body should be at least 1 chars long",
            "spec.inner[1].name in body is required",
            "spec.inner[1].on in body must be of type boolean: \"string\"",
            "spec.inner[2] in body must be of type object: \"number\"",
            "spec.labels.a in body must be of type string: \"number\"",
            "spec.mode in body should be one of [Strict Permissive]",
            "spec.port in body should be greater than or equal to 1",
            "spec.protocol in body must be of type string: \"number\"",
            "spec.target in body must be of type integer,string: \"boolean\"",
        ];
        assert_eq!(faults(spec), expected);
        assert_eq!(faults(json!({"port": 70000})), ["spec.port in body should be less than or equal to 65535"]);
        assert_eq!(faults(json!([])), ["spec in body must be of type object: \"array\""]);
        assert_eq!(faults(json!({"port": 80.0, "target": "http", "mode": "Strict", "unknown": [1]})), [""; 0]);
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let mut spec = json!({"port": 80, "inner": [{"name": "a"}, {"name": "b", "on": true}]});
        Schema::of::<Spec>().fill(&mut spec);
        let filled = json!({"port": 80, "protocol": "tcp", "inner": [{"name": "a", "on": false}, {"name": "b", "on": true}]});
        assert_eq!(spec, filled);
    }
}
