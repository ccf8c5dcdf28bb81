//! Builds values while it counts: depth, nodes, length of texts, and no key twice. The same for JSON and YAML.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Syntax;
use crate::limits::Limits;

/// A value within the limits.
#[derive(Debug)]
pub(super) struct Bounded(pub(super) Value);

thread_local! {
    /// The limits of the parse that this thread does: the YAML library has no place to hand them in.
    static IN_FORCE: Cell<Limits> = Cell::new(Limits::default());
}

/// Parses under `limits` what `parse` makes of [`Bounded`].
pub(super) fn within<T>(limits: &Limits, parse: impl FnOnce() -> T) -> T {
    IN_FORCE.set(*limits);
    parse()
}

impl<'de> de::Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (nodes, limits) = (Cell::new(0), IN_FORCE.get());
        Node { limits: &limits, nodes: &nodes, depth: 0 }.deserialize(deserializer).map(Self)
    }
}

/// Documents of a JSON body: the elements of a list, or the one value.
pub(super) fn from_json(limits: &Limits, text: &str) -> Result<Vec<Value>, Syntax> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let documents = Documents(limits).deserialize(&mut deserializer).and_then(|documents| deserializer.end().map(|()| documents));
    documents.map_err(|error| Syntax::of_json(&error))
}

/// Gives each element of a list its own budget.
struct Documents<'a>(&'a Limits);

impl<'de> DeserializeSeed<'de> for Documents<'_> {
    type Value = Vec<Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Documents<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document or a list of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Value>, A::Error> {
        let mut documents = Vec::new();
        loop {
            let nodes = Cell::new(0);
            let Some(document) = list.next_element_seed(Node { limits: self.0, nodes: &nodes, depth: 0 })? else {
                return Ok(documents);
            };
            if documents.len() == self.0.limit_documents {
                return Err(de::Error::custom(format_args!("more than {} documents", self.0.limit_documents)));
            }
            documents.push(document);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Value>, A::Error> {
        let nodes = Cell::new(1);
        Node { limits: self.0, nodes: &nodes, depth: 0 }.visit_map(map).map(|document| vec![document])
    }
}

/// One value and all below it.
#[derive(Clone, Copy)]
struct Node<'a> {
    limits: &'a Limits,
    nodes: &'a Cell<usize>,
    depth: usize,
}

impl Node<'_> {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == self.limits.limit_depth {
            return Err(E::custom(format_args!("nested deeper than {} levels", self.limits.limit_depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn count<E: de::Error>(self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > self.limits.limit_nodes {
            return Err(E::custom(format_args!("more than {} values in one document", self.limits.limit_nodes)));
        }
        Ok(())
    }

    fn text<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text.len() > self.limits.limit_scalar {
            return Err(E::custom(format_args!("a text longer than {} bytes", self.limits.limit_scalar)));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        self.text(&value)?;
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.text(&key)?;
            if fields.contains_key(&key) {
                return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
            }
            let value = map.next_value_seed(below)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json(text: &str) -> Result<Vec<Value>, Syntax> {
        super::from_json(&Limits::default(), text)
    }

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn the_limits_hold_at_their_edges() {
        let limits = Limits::default();
        let check = |text: String, fault: Option<&str>| match (from_json(&text), fault) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{fault:?}: {got:?}"),
        };
        check(nested(limits.limit_depth), None);
        check(nested(limits.limit_depth + 1), Some("nested deeper than 32"));
        let list = |n: usize| format!("{{\"a\":[{}]}}", vec!["1"; n].join(","));
        // The object and the list count, too.
        check(list(limits.limit_nodes - 2), None);
        check(list(limits.limit_nodes - 1), Some("more than 20000 values"));
        let text = |n: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(n));
        check(text(limits.limit_scalar), None);
        check(text(limits.limit_scalar + 1), Some("longer than 65536"));
        let documents = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
        check(documents(limits.limit_documents), None);
        check(documents(limits.limit_documents + 1), Some("more than 500 documents"));
    }

    #[test]
    fn duplicate_keys_and_rubbish_are_refused_with_their_place() {
        let error = from_json("{\"a\":1,\n \"a\":2}").unwrap_err().to_string();
        assert_eq!(error, "invalid JSON: duplicate key \"a\" at line 2 column 4");
        assert!(from_json("{\"a\":}").unwrap_err().to_string().contains("line 1 column 6"));
        assert!(from_json("{} x").unwrap_err().to_string().contains("trailing"));
        assert!(from_json(&"[".repeat(100_000)).is_err());
    }
}
