//! The name of a request, by which logs, the audit and the client speak of it.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header of requests and answers.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name that is taken from a client.
const LONGEST: usize = 128;

/// A request's name: the client's, if it is sane, or a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_sane(text));
        Self(given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }

    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.insert(X_REQUEST_ID, value);
        }
    }
}

fn is_sane(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    (1..=LONGEST).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_names_are_taken() {
        let of = |text: &'static str| {
            let headers = [(X_REQUEST_ID, HeaderValue::from_static(text))].into_iter().collect();
            RequestId::of(&headers).0
        };
        assert_eq!(of("a1-b2"), "a1-b2");
        for text in ["", "a b", "<script>"] {
            assert!(of(text).parse::<Uuid>().is_ok(), "{text:?}");
        }
    }
}
