//! Label selectors of the command line: `-l KEY=VALUE`, several by commas or repetition; all must hold.

use std::{fmt, str::FromStr};

use atoll_model::Labels;

/// Labels that a resource must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Labels);

impl FromStr for Selector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').filter(|(key, _)| !key.is_empty() && !key.ends_with('!'))?;
            Some((key.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()))
        };
        let labels: Option<Labels> = text.split(',').map(pair).collect();
        labels.map(Self).ok_or_else(|| format!("{text:?} is no selector; write KEY=VALUE, such as -l team=shop"))
    }
}

impl Selector {
    /// What all of `selectors` want.
    pub fn all(selectors: &[Selector]) -> Self {
        Self(selectors.iter().flat_map(|selector| selector.0.clone()).collect())
    }

    /// Query parameters that select on the plane.
    pub fn query(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(key, value)| (format!("filter[labels.{key}]"), value.clone())).collect()
    }

    /// Whether a document has the labels.
    pub fn matches(&self, labels: &serde_json::Value) -> bool {
        self.0.iter().all(|(key, value)| labels[key] == value.as_str())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn several_labels_must_all_be_there() {
        let selector = Selector::all(&["a=1,b=2".parse().unwrap(), "c.d/e==3".parse().unwrap()]);
        assert_eq!(selector.to_string(), "a=1,b=2,c.d/e=3");
        assert!(selector.matches(&json!({"a": "1", "b": "2", "c.d/e": "3", "f": "4"})));
        assert!(!selector.matches(&json!({"a": "1", "b": "2"})));
        assert_eq!("a=1".parse::<Selector>().unwrap().query(), [("filter[labels.a]".to_owned(), "1".to_owned())]);
        for bad in ["a", "", "=1", "a!=1", "a=1,b"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad:?}");
        }
    }
}
