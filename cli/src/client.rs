//! HTTP to a plane, with errors that say what to do.

use std::time::Duration;

use anyhow::{Context as _, bail};
use atoll_runtime::tls;
use http::{Method, StatusCode};
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Connection, context::Contexts, output::Ordered};

/// How long one request may take.
const TIME: Duration = Duration::from_secs(30);
/// Items of one page.
const PAGE: usize = 1000;

/// A plane.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub text: String,
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

impl Client {
    /// The plane of the chosen context.
    ///
    /// # Errors
    /// When there is no context, or its URL or CA cannot be used.
    pub fn of(connection: &Connection) -> anyhow::Result<Self> {
        let context = Contexts::open(connection)?.chosen(connection)?;
        let url: Url = context.url.parse().with_context(|| format!("{:?} in the context is no URL", context.url))?;
        let mut builder = reqwest::Client::builder().timeout(TIME).connect_timeout(Duration::from_secs(5)).no_proxy();
        if url.scheme() == "https" {
            tls::install_provider();
            let ca = context.ca.context("the context has no CA certificate for https; add it again from operator.yaml")?;
            let roots = tls::roots_from_pem(&ca).context("the CA certificate in the context cannot be used")?;
            let config = tls::client_config(roots, None, &[b"h2", b"http/1.1"])?;
            builder = builder.tls_backend_preconfigured(rustls::ClientConfig::clone(&config));
        }
        let http = builder.build().context("cannot set up HTTP")?;
        Ok(Self { http, url, token: context.token })
    }

    /// Where the plane is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// GET; the answer's status is a success.
    ///
    /// # Errors
    /// When the plane cannot be reached or refuses.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Answer> {
        self.call(Method::GET, path, query, None).await?.refuse()
    }

    /// The JSON of a GET.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_json(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        let answer = self.get(path, query).await?;
        serde_json::from_str(&answer.text).with_context(|| self.not_a_plane())
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Vec<Value>> {
        self.pages(path, query).await
    }

    /// [`Client::list`] with fields in the plane's order.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list_ordered(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Vec<Ordered>> {
        self.pages(path, query).await
    }

    async fn pages<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut offset = None;
        loop {
            let mut asked = vec![("size", PAGE.to_string())];
            asked.extend(query.iter().cloned());
            asked.extend(offset.take().map(|offset| ("offset", offset)));
            let answer = self.get(path, &asked).await?;
            let page: Page<T> = serde_json::from_str(&answer.text).with_context(|| self.not_a_plane())?;
            items.extend(page.items);
            let next = page.next.and_then(|next| Url::parse(&next).ok());
            offset =
                next.and_then(|next| next.query_pairs().find(|(key, _)| key == "offset").map(|(_, value)| value.into_owned()));
            if offset.is_none() {
                return Ok(items);
            }
        }
    }

    fn not_a_plane(&self) -> String {
        format!("{} did not answer as a control plane does; is the context right?", self.url)
    }

    /// Sends a request; the answer may be a refusal.
    ///
    /// # Errors
    /// When the plane cannot be reached.
    pub async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<(&'static str, String)>,
    ) -> anyhow::Result<Answer> {
        let mut url = self.url.clone();
        url.path_segments_mut().map_err(|()| anyhow::anyhow!("{} cannot have a path", self.url))?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some((content_type, text)) = body {
            request = request.header("content-type", content_type).body(text);
        }
        let response = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("the answer of {} broke off", self.url))?;
        Ok(Answer { status, text })
    }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> anyhow::Error {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    if cause.contains("certificate") || cause.contains("UnknownIssuer") {
        return anyhow::anyhow!(
            "{url} shows a certificate that the context's CA did not sign ({cause}); add the context again from that plane's \
             operator.yaml"
        );
    }
    anyhow::anyhow!("cannot reach the control plane at {url} ({cause}); is it running, and is the context right?")
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
        let faults = problem.invalid_parameters.iter().map(|fault| format!("\n  {}: {}", fault.field, fault.reason));
        let faults: String = faults.collect();
        match self.status {
            StatusCode::UNAUTHORIZED => bail!(
                "the control plane does not accept the context's token ({}); add the context again, on the plane's host \
                 `global-cp reset-operator` makes a new credential",
                problem.detail
            ),
            _ => bail!("{}: {}{faults}", problem.title, problem.detail),
        }
    }
}
