//! REST of one plane, as the lab uses it.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::Value;

/// A plane's REST over TLS, with a token.
#[derive(Clone, Debug)]
pub struct Plane {
    client: Client,
    url: String,
    token: String,
}

/// What a plane answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Atoll-Revision`.
    pub revision: Option<u64>,
    /// Its body: JSON, or a string of what is none.
    pub body: Value,
}

impl Plane {
    /// The plane at `url` whose certificate `ca` signed.
    pub fn new(url: &str, ca: &Path, token_file: &Path) -> Result<Self> {
        let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let token = std::fs::read_to_string(token_file).with_context(|| format!("cannot read {}", token_file.display()))?;
        let client = Client::builder()
            .tls_certs_only(Certificate::from_pem_bundle(&pem)?)
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token: token.trim().to_owned() })
    }

    /// Asks, whatever the answer is.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {}{path}", self.url))?;
        let status = response.status();
        let revision = response.headers().get("atoll-revision").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, revision, body })
    }

    /// Reads; `None` when it is not there.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.ask(Method::GET, path, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => accepted(&Method::GET, path, answer).map(|answer| Some(answer.body)),
        }
    }

    /// The items of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let answer = accepted(&Method::GET, path, self.ask(Method::GET, path, None).await?)?;
        Ok(answer.body["items"].as_array().cloned().unwrap_or_default())
    }

    /// Writes, and wants it accepted.
    pub async fn put(&self, path: &str, document: &Value) -> Result<Answer> {
        accepted(&Method::PUT, path, self.ask(Method::PUT, path, Some(document)).await?)
    }

    /// Deletes; what is not there is deleted already.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        let answer = self.ask(Method::DELETE, path, None).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(answer) } else { accepted(&Method::DELETE, path, answer) }
    }

    /// Posts and gives the text of the answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<String> {
        let answer = accepted(&Method::POST, path, self.ask(Method::POST, path, Some(body)).await?)?;
        Ok(answer.body.as_str().map_or_else(|| answer.body.to_string(), |text| text.trim().to_owned()))
    }
}

fn accepted(method: &Method, path: &str, answer: Answer) -> Result<Answer> {
    if !answer.status.is_success() {
        bail!("{method} {path}: {} {}", answer.status, answer.body);
    }
    Ok(answer)
}

/// Whether `http://<address><path>` answers 200.
pub async fn answers(address: SocketAddr, path: &str) -> bool {
    let client = Client::builder().timeout(Duration::from_secs(2)).no_proxy().build();
    let Ok(client) = client else { return false };
    client.get(format!("http://{address}{path}")).send().await.is_ok_and(|response| response.status() == StatusCode::OK)
}
