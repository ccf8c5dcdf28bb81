//! What a plane says when it refuses, and what its user can do about it.

use anyhow::{anyhow, bail};
use http::StatusCode;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::Answer;

/// Whom a context speaks with.
#[derive(Clone, Debug)]
pub(super) struct Where {
    pub(super) url: Url,
    pub(super) context: String,
    /// Whether the context shows a client certificate.
    pub(super) has_certificate: bool,
}

/// What a plane says when it refuses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What could not be done.
    pub title: String,
    /// Why.
    pub detail: String,
    /// The faulty fields.
    pub invalid_parameters: Vec<Fault>,
    /// Results per document, of an apply.
    pub results: Vec<Value>,
}

/// A faulty field.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Its path.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// Line in the YAML that was sent.
    pub line: Option<usize>,
    /// Column there.
    pub column: Option<usize>,
}

impl Problem {
    /// Title, detail and every fault.
    pub fn told(&self) -> String {
        let faults = self.invalid_parameters.iter().map(|fault| {
            let colon = if fault.field.is_empty() { "" } else { ": " };
            format!("\n  {}{colon}{}", fault.field, fault.reason)
        });
        format!("{}: {}{}", self.title, self.detail, faults.collect::<String>())
    }
}

impl Answer {
    /// The problem document of a refusal.
    pub fn problem(&self) -> Problem {
        serde_json::from_str(&self.text).unwrap_or_else(|_| Problem {
            title: self.status.to_string(),
            detail: self.text.chars().take(300).collect(),
            ..Problem::default()
        })
    }

    /// The answer, unless it is a refusal.
    ///
    /// # Errors
    /// What the plane says, with what can be done about it.
    pub fn refuse(self) -> anyhow::Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let problem = self.problem();
        if self.status == StatusCode::UNAUTHORIZED {
            return Err(self.place.refused_token(&problem.detail));
        }
        bail!("{}", problem.told())
    }
}

impl Where {
    fn refused_token(&self, detail: &str) -> anyhow::Error {
        let Where { url, context, has_certificate } = self;
        if *has_certificate {
            return anyhow!(
                "the control plane at {url} does not know who the context {context:?} is ({detail}); it takes client certificates only \
                 when it was started with --rest-client-ca-file; `atoll context add --name {context}` gives the context another \
                 certificate, or a token"
            );
        }
        let new = format!(
            "have an administrator run `atoll token user NAME`, then `atoll context add --name {context} --token-file FILE`; on the \
             plane's own host `global-cp reset-operator` makes a new operator.yaml for `atoll context add --name {context} --from \
             FILE`"
        );
        if detail.contains("expired") {
            return anyhow!("the token of the context {context:?} expired ({url}); to renew it, {new}");
        }
        anyhow!(
            "the control plane at {url} does not accept the token of the context {context:?} ({detail}); for another one, {new}"
        )
    }
}

/// Why a plane could not be reached, and what to look at.
pub(super) fn unreachable(place: &Where, error: &reqwest::Error) -> anyhow::Error {
    let Where { url, context, has_certificate } = place;
    let cause = cause(error);
    // A server says no to a certificate after the handshake, and its reason is often lost with the connection.
    if *has_certificate && !error.is_connect() && !error.is_timeout() {
        return anyhow!(
            "{url} ended the connection ({cause}); does it refuse the client certificate of the context {context:?}? That must be of \
             a CA in the plane's --rest-client-ca-file and hold now: `atoll context show {context}`"
        );
    }
    if cause.contains("NotValidForName") || cause.contains("not valid for name") {
        let host = url.host_str().unwrap_or_default();
        return anyhow!(
            "the certificate of {url} does not carry the name {host:?} ({cause}); dial a name that it carries, or start the plane \
             with --tls-san {host}"
        );
    }
    if cause.contains("certificate") || cause.contains("UnknownIssuer") {
        return anyhow!(
            "{url} shows a certificate that the CA of the context {context:?} did not sign ({cause}); if this is the plane that you \
             mean, give its CA: `atoll context add --name {context} --ca-file CA.pem`, or add the context again with --from and \
             that plane's operator.yaml"
        );
    }
    anyhow!(
        "cannot reach the control plane at {url} of the context {context:?} ({cause}); is it running, and is the context right? \
         `atoll context list` shows all"
    )
}

/// The innermost cause.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    cause
}
