//! What commands print: tables for people, YAML and JSON for programs.

use std::{fmt, io::Write};

use atoll_model::Kind;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, presets};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// YAML documents, as `apply` takes them.
    Yaml,
    /// JSON.
    Json,
}

/// How to print resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Columns for people.
    #[default]
    Table,
    /// Columns, and labels and identifiers beside them.
    Wide,
    /// YAML documents, as `apply` takes them.
    Yaml,
    /// JSON.
    Json,
    /// KIND/NAME lines, as `delete` and `describe` take them.
    Name,
}

impl Listing {
    /// Whether people read it as columns.
    pub fn is_table(self) -> bool {
        matches!(self, Listing::Table | Listing::Wide)
    }
}

/// Columns for people.
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(headings.iter().copied());
        Self { inner }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.inner.add_row(cells);
    }

    /// Prints it.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.inner.lines().try_for_each(|line| writeln!(out, "{}", line.trim()))
    }
}

/// A JSON value whose objects keep the order in which the plane wrote them: type and name first.
#[derive(Clone, Debug)]
pub enum Ordered {
    /// A scalar.
    Scalar(serde_json::Value),
    /// A list.
    List(Vec<Ordered>),
    /// An object.
    Object(Vec<(String, Ordered)>),
}

impl Ordered {
    /// The value of a field, of an object.
    pub fn take(self, field: &str) -> Option<Ordered> {
        match self {
            Ordered::Object(fields) => fields.into_iter().find(|(key, _)| key == field).map(|(_, value)| value),
            Ordered::Scalar(_) | Ordered::List(_) => None,
        }
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ordered::Scalar(value) => value.serialize(serializer),
            Ordered::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Ordered::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }
    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(serde_json::Value::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Ordered::Object(fields))
    }
}

/// Prints `KIND/NAME` of a resource.
///
/// # Errors
/// When nobody reads any more.
pub fn name(kind: Kind, item: &serde_json::Value, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}/{}", kind.name().to_ascii_lowercase(), item["name"].as_str().unwrap_or("?"))
}

/// Prints a plane's JSON, of one resource or of a list, as YAML documents.
///
/// # Errors
/// When it is no JSON, or nobody reads any more.
pub fn yaml(text: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let value: Ordered = serde_json::from_str(text)?;
    documents(value, out)
}

/// Prints resources as YAML documents.
///
/// # Errors
/// When nobody reads any more.
pub fn documents(value: Ordered, out: &mut dyn Write) -> anyhow::Result<()> {
    let documents = match value {
        Ordered::List(items) => items,
        one @ (Ordered::Object(_) | Ordered::Scalar(_)) => vec![one],
    };
    for (i, document) in documents.iter().enumerate() {
        if i > 0 {
            writeln!(out, "---")?;
        }
        let text = serde_saphyr::to_string(document)?;
        write!(out, "{}{}", text, if text.ends_with('\n') { "" } else { "\n" })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_the_planes_order_and_quotes_what_others_would_guess() {
        let mut out = Vec::new();
        yaml(r#"[{"type":"Mesh","name":"yes","a":[1,{"b":null}],"d":"1h0m0s"},{"type":"Zone"}]"#, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("type: Mesh\nname: \"yes\"\n") || text.starts_with("type: Mesh\nname: 'yes'\n"), "{text}");
        assert!(text.contains("\n---\ntype: Zone\n"), "{text}");
    }
}
