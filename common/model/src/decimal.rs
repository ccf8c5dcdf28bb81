//! Numbers that documents write as a whole number or as text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number: whole, or as text with or without a fraction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Decimal {
    /// A whole number.
    Whole(i64),
    /// A number as text.
    Text(String),
}

impl Decimal {
    /// Its value; `None` if the text is no number.
    pub fn value(&self) -> Option<f64> {
        match self {
            Decimal::Whole(number) => Some(*number as f64),
            Decimal::Text(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number() {
        let text = |text: &str| Decimal::Text(text.to_owned()).value();
        assert_eq!(Decimal::Whole(-3).value(), Some(-3.0));
        assert_eq!([text("0.5"), text("70"), text("hello"), text("inf"), text("")], [Some(0.5), Some(70.0), None, None, None]);
    }
}
