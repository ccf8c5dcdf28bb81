//! HTTP to a plane, with errors that say what to do.

use std::time::Duration;

use anyhow::Context as _;
use atoll_runtime::tls;
use http::{Method, StatusCode, header};
use reqwest::{Response, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{Connection, context::Contexts, output::Ordered};

mod refusal;
mod retry;

pub use refusal::{Fault, Problem};
use refusal::{Where, unreachable};
use retry::Retries;

/// How long one request may take.
const TIME: Duration = Duration::from_secs(30);
/// How long a stream may last; it is watched by its keep-alives.
const STREAM_TIME: Duration = Duration::from_secs(365 * 86_400);
/// Items of one page.
const PAGE: usize = 1000;

/// A plane.
pub struct Client {
    http: reqwest::Client,
    place: Where,
    token: Option<String>,
    retries: Retries,
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
    /// Who gave it.
    place: Where,
}

impl Client {
    /// The plane of the chosen context.
    ///
    /// # Errors
    /// When there is no context, or its URL or CA cannot be used.
    pub fn of(connection: &Connection) -> anyhow::Result<Self> {
        let contexts = Contexts::open(connection)?;
        let name = contexts.chosen_name(connection)?;
        let context = contexts.read(&name)?;
        let url: Url = context.url.parse().with_context(|| format!("{:?} in the context is no URL", context.url))?;
        let mut builder = reqwest::Client::builder().timeout(TIME).connect_timeout(Duration::from_secs(5)).no_proxy();
        tls::install_provider();
        let certificate = context.certificate().with_context(|| format!("the context {name:?} cannot be used"))?;
        let has_certificate = certificate.is_some();
        if url.scheme() == "https" {
            let ca = context.ca.as_deref().with_context(|| {
                format!(
                    "the context {name:?} has no CA certificate for https: `atoll context add --name {name} --ca-file CA.pem`"
                )
            })?;
            let roots = tls::roots_from_pem(ca).context("the CA certificate in the context cannot be used")?;
            let config = tls::client_config(roots, certificate, &[b"h2", b"http/1.1"]);
            let config = config.context("the client certificate in the context cannot be used")?;
            builder = builder.tls_backend_preconfigured(rustls::ClientConfig::clone(&config));
        }
        let http = builder.build().context("cannot set up HTTP")?;
        let place = Where { url, context: name, has_certificate };
        Ok(Self { http, place, token: context.token, retries: Retries::default() })
    }

    /// Where the plane is.
    pub fn url(&self) -> &Url {
        &self.place.url
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

    /// The JSON of a GET, unless there is nothing at the path.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn find(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Option<Value>> {
        let answer = self.call(Method::GET, path, query, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        serde_json::from_str(&answer.refuse()?.text).map(Some).with_context(|| self.not_a_plane())
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
        format!("{} did not answer as a control plane does; is the context {:?} right?", self.place.url, self.place.context)
    }

    /// Opens a stream of server-sent events; the answer may be a refusal.
    ///
    /// # Errors
    /// When the plane cannot be reached.
    pub async fn stream(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Response> {
        let request = self.request(Method::GET, self.address(path, query)?).timeout(STREAM_TIME);
        request.header(header::ACCEPT, "text/event-stream").send().await.map_err(|error| unreachable(&self.place, &error))
    }

    /// Reads an answer to the end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn read(&self, response: Response) -> reqwest::Result<Answer> {
        let status = response.status();
        Ok(Answer { status, text: response.text().await?, place: self.place.clone() })
    }

    /// Sends a request; the answer may be a refusal. A write carries an `Idempotency-Key`, so that it is repeated without harm
    /// when the plane cannot be reached for a moment or its answer is lost.
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
        let url = self.address(path, query)?;
        let key = (!method.is_safe()).then(|| Uuid::new_v4().to_string());
        let mut tries = self.retries.begin();
        loop {
            let mut request = self.request(method.clone(), url.clone()).header(header::ACCEPT, "application/json");
            if let Some((content_type, text)) = &body {
                request = request.header(header::CONTENT_TYPE, *content_type).body(text.clone());
            }
            if let Some(key) = &key {
                request = request.header("idempotency-key", key);
            }
            let answered = match request.send().await {
                Ok(response) => {
                    let after = retry::after(response.headers());
                    self.read(response).await.map(|answer| (answer, after))
                }
                Err(error) => Err(error),
            };
            let (why, after) = match answered {
                Ok((answer, after)) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    if key.is_none() || tries.is_last() {
                        return Ok(answer);
                    }
                    (answer.problem().told(), after)
                }
                Ok((answer, _)) => return Ok(answer),
                // Who was never reached is not waited for: the context may be wrong. Who was, may be starting again.
                Err(error) if key.is_none() || tries.is_last() || (error.is_connect() && tries.is_first()) => {
                    return Err(unreachable(&self.place, &error));
                }
                Err(error) => (refusal::cause(&error), None),
            };
            tries.wait(&self.place.url, &why, after).await;
        }
    }

    fn address(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Url> {
        let mut url = self.place.url.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("{} cannot have a path", self.place.url))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

#[cfg(test)]
mod tests;
