//! What a check says.

use serde::Serialize;

/// One point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was looked at.
    #[serde(rename = "check")]
    pub what: String,
    /// What was seen, or what to do.
    pub detail: String,
}

/// Whether a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Ok,
    /// It does not, and that may be meant.
    Note,
    /// It does not.
    Fail,
}

impl Verdict {
    /// As tables show it.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail => "FAIL",
        }
    }
}

impl Point {
    /// A point that holds.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), detail: detail.into() }
    }

    /// A point that may be meant like that.
    pub fn note(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, what: what.into(), detail: detail.into() }
    }

    /// A point that does not hold.
    pub fn fail(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what: what.into(), detail: detail.into() }
    }

    /// A point that holds or not.
    pub fn holds(holds: bool, what: impl Into<String>, detail: impl Into<String>) -> Self {
        if holds { Self::ok(what, detail) } else { Self::fail(what, detail) }
    }
}
