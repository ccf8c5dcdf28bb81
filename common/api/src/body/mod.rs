//! Bodies: bytes to values, within the limits of one place.

mod budget;
pub mod limits;
pub mod positions;
mod yaml;

use std::{fmt, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::{Problem, limits::Limits, problem::Invalid};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML 1.2.
    Yaml,
}

/// A body that was read and parsed.
#[derive(Debug)]
pub struct Parsed {
    /// Its documents, in order; empty YAML documents are left out.
    pub documents: Vec<Value>,
    /// The YAML text, for positions of faults.
    pub yaml: Option<String>,
}

/// Why a text is no document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    message: String,
    at: Option<positions::Position>,
}

impl Syntax {
    fn new(message: String, at: Option<(usize, usize)>) -> Self {
        Self { message, at: at.map(|(line, column)| positions::Position { line, column }) }
    }

    /// What serde_json says; its position stands beside the message, not in it.
    fn of_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        // Line 0 means that there is no position.
        let at = Some((error.line(), error.column())).filter(|(line, _)| *line > 0);
        Self::new(format!("invalid JSON: {message}"), at)
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.at {
            Some(at) => write!(f, " at line {} column {}", at.line, at.column),
            None => Ok(()),
        }
    }
}

/// 400: the place stands in the text and, for programs, in the one faulty parameter: the body itself.
impl From<Syntax> for Problem {
    fn from(syntax: Syntax) -> Self {
        let detail = syntax.to_string();
        let fault = Invalid { field: String::new(), reason: syntax.message, position: syntax.at };
        Self { invalid: vec![fault], ..Self::bad_request(detail) }
    }
}

/// Takes a body of at most `limit` bytes within `time`; a longer one is refused by its announced length, if it has one, before it is read.
///
/// # Errors
/// 413, or 408 when the client is too slow.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(time, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(too_large(limit)),
        Ok(Err(_)) => Err(Problem::bad_request("the body ended before it was complete")),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout", format!("the body did not arrive within {time:?}")))
        }
    }
}

/// The bytes of a body that the pace of requests has taken within the limits.
///
/// # Errors
/// When it breaks off.
pub(crate) async fn whole(body: Body) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Problem::bad_request("the body ended before it was complete"))
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "Payload Too Large",
        format!("the body is larger than {limit} bytes; split it into several requests"),
    )
}

/// Which format a body has, by its content type or, where the client names none, by its first character.
///
/// # Errors
/// 415 for all that is neither JSON nor YAML.
pub fn format(headers: &HeaderMap, bytes: &[u8]) -> Result<Format, Problem> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let essence = given.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim());
    match essence {
        Some("application/json" | "text/json") => Ok(Format::Json),
        Some("application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml") => Ok(Format::Yaml),
        None | Some("") => match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{' | b'[') => Ok(Format::Json),
            _ => Ok(Format::Yaml),
        },
        Some(other) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Unsupported Media Type",
            format!("content type {other:?} is not read; send application/json or application/yaml"),
        )),
    }
}

/// Parses a body of one document.
///
/// # Errors
/// 400 with line and column.
pub fn parse_one(limits: &Limits, format: Format, bytes: &Bytes) -> Result<Parsed, Problem> {
    let parsed = parse_many(limits, format, bytes)?;
    match parsed.documents.len() {
        1 => Ok(parsed),
        0 => Err(Problem::bad_request("the body is empty; send one document")),
        n => Err(Problem::bad_request(format!("the body holds {n} documents; send one, or all of them to POST /_apply"))),
    }
}

/// Parses a body of documents: YAML documents, one JSON document, or a JSON list of them.
///
/// # Errors
/// 400 with line and column.
pub fn parse_many(limits: &Limits, format: Format, bytes: &Bytes) -> Result<Parsed, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no UTF-8 text (byte {})", error.valid_up_to())))?;
    match format {
        Format::Json => Ok(Parsed { documents: budget::from_json(limits, text)?, yaml: None }),
        Format::Yaml => {
            let documents = yaml::from_yaml(limits, text)?;
            Ok(Parsed { documents, yaml: Some(text.to_owned()) })
        }
    }
}

/// Parses a JSON object that is no resource.
///
/// # Errors
/// 400 with line and column, or the field.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Syntax::of_json(&error).into())
}
