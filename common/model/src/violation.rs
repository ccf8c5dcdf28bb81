//! What is wrong with a document, and where.

use serde::{Deserialize, Serialize};

/// One fault of a document: the path of the field, as its author writes it, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Violation {
    /// Path such as `spec.to[0].default.connectionTimeout` or `labels["a/b"]`.
    pub field: String,
    /// What is wrong, in words for the author of the document.
    pub message: String,
}

impl Violation {
    /// Makes a violation of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A place in a document, to which violations are reported.
///
/// ```
/// use atoll_model::violation::Path;
/// let path = Path::root("spec").field("to").index(0).field("default");
/// assert_eq!(path.to_string(), "spec.to[0].default");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// Starts at a top-level field; an empty name is the document itself.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` of this place.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The element `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key:?}]", self.0))
    }

    /// A violation here.
    pub fn violation(&self, message: impl Into<String>) -> Violation {
        Violation::new(self.0.clone(), message)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
