//! A client of one plane's REST, made from the file that its first start writes.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use atoll_runtime::tls;
use serde::Deserialize;
use serde_json::Value;

/// The most documents in one request.
const DOCUMENTS_MAX: usize = 400;

#[derive(Deserialize)]
struct Credential {
    url: String,
    ca: String,
    token: String,
}

/// A client with a credential.
#[derive(Clone)]
pub(crate) struct Rest {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Rest {
    /// Reads `operator.yaml` of a plane's data directory.
    pub(crate) fn from_data(data: &Path) -> Result<Self> {
        let path = data.join("operator.yaml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let credential: Credential = serde_saphyr::from_str(&text)?;
        let config = tls::client_config(tls::roots_from_pem(&credential.ca)?, None, &[b"http/1.1"])?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*config).clone())
            .tcp_nodelay(true)
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { client, url: credential.url, token: credential.token })
    }

    /// The same credential at another instance.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The bearer token.
    pub(crate) fn bearer(&self) -> &str {
        &self.token
    }

    /// A request with the credential.
    pub(crate) fn request(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Writes documents, all or none of each request.
    pub(crate) async fn apply(&self, documents: &[Value]) -> Result<()> {
        for part in documents.chunks(DOCUMENTS_MAX) {
            let request = self.client.post(format!("{}/_apply", self.url)).json(&part);
            self.send(request).await?;
        }
        Ok(())
    }

    /// Replaces one resource.
    pub(crate) async fn put(&self, path: &str, document: &Value) -> Result<()> {
        self.send(self.client.put(format!("{}{path}", self.url)).json(document)).await.map(drop)
    }

    /// Reads one resource or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let text = self.send(self.client.get(format!("{}{path}", self.url))).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Makes a token.
    pub(crate) async fn token(&self, path: &str, request: &Value) -> Result<String> {
        self.send(self.client.post(format!("{}{path}", self.url)).json(request)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<String> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        Ok(text)
    }
}
