//! Secret and GlobalSecret: bytes that only few may read. No text made here repeats what a client sent.

use std::fmt;

use base64::{Engine, engine::general_purpose};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Violation, document::Checked, resource::SEALED};

/// The spec of a Secret or a GlobalSecret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("data", &SEALED).finish()
    }
}

impl Secret {
    /// The bytes; none if what is stored is no base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decode(self.data.as_deref().unwrap_or_default())
    }
}

/// Both alphabets, padded or not: what Kuma's clients send.
fn decode(text: &str) -> Option<Vec<u8>> {
    let standard: String = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    general_purpose::STANDARD_NO_PAD.decode(standard).ok()
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    let Value::Object(fields) = spec else {
        return Checked { violations: vec![Violation::new("", "must be an object")], ..Checked::default() };
    };
    let fault = match fields.get("data") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => decode(text).is_none().then_some("must be base64"),
        Some(_) => Some("must be a string in base64"),
    };
    let unknown = fields.keys().filter(|field| *field != "data").cloned().collect();
    let violations = fault.map(|fault| Violation::new("data", fault)).into_iter().collect();
    Checked { violations, unknown, ..Checked::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Kind, document::Document};

    #[test]
    fn data_is_base64_of_either_alphabet() {
        for good in ["", "dGVzdAo=", "dGVzdAo", "_-8=", "/+8"] {
            assert_eq!(check(&json!({"data": good})).violations, [], "{good}");
        }
        for bad in [json!("a secret!"), json!(7), json!({"x": "a secret!"})] {
            let faults = check(&json!({ "data": bad })).violations;
            assert_eq!(faults[0].field, "data");
            assert!(!faults[0].message.contains("a secret!"));
        }
        assert_eq!(Secret { data: Some("_-8".into()) }.bytes(), Some(vec![0xff, 0xef]));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret { data: Some("dGVzdAo=".into()) };
        let document = json!({"type": "Secret", "mesh": "m", "name": "s", "data": "dGVzdAo="});
        let document = Document::from_value(document, Some(Kind::Secret)).unwrap();
        for printed in [format!("{secret:?}"), format!("{document:?}")] {
            assert!(!printed.contains("dGVzdAo"), "{printed}");
        }
    }
}
