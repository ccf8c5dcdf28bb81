//! What a request passes before anything of the plane sees it: sizes, who may ask from a browser, how many at once.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use atoll_runtime::connections::{Connections, Slot};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use tokio::sync::Semaphore;

use super::{Hosts, answer, timed::Held};
use crate::{Limits, Problem};

/// The gate of one class of listeners; clones share its counts.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    limits: Limits,
    hosts: Hosts,
    connections: Connections,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    shed: ShedCounts,
}

/// What was turned away because there was too much of it.
#[derive(Debug, Default)]
pub struct ShedCounts {
    /// Connections.
    pub connections: AtomicU64,
    /// Requests.
    pub requests: AtomicU64,
    /// Watches.
    pub watches: AtomicU64,
}

impl ShedCounts {
    /// Each count with what it counts.
    pub fn shown(&self) -> [(&'static str, u64); 3] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [("connections", read(&self.connections)), ("requests", read(&self.requests)), ("watches", read(&self.watches))]
    }
}

impl Gate {
    /// Lets through what `limits` and `hosts` allow.
    pub fn new(limits: Limits, hosts: Hosts) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Whole {
            connections: Connections::new(limits.limit_connections, limits.limit_connections_per_ip),
            requests: permits(limits.limit_requests),
            watches: permits(limits.limit_watches),
            shed: ShedCounts::default(),
            limits,
            hosts,
        }))
    }

    /// What was turned away.
    pub fn shed(&self) -> &ShedCounts {
        &self.0.shed
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// A place for a connection.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Slot> {
        let slot = self.0.connections.admit(address);
        if slot.is_none() {
            self.0.shed.connections.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    /// The answer to a request: the router's, or a refusal.
    pub(super) async fn pass(&self, router: Router, request: Request<Body>) -> Response {
        let version = request.version();
        let checked = self.fits(&request).and_then(|()| self.is_for_us(&request));
        let response = match checked {
            Ok(()) => self.one_of_many(router, request).await,
            Err(problem) => last(problem.into_response(), version),
        };
        for_browsers(response)
    }

    fn fits(&self, request: &Request<Body>) -> Result<(), Problem> {
        let limits = &self.0.limits;
        let (uri, headers) = (request.uri(), request.headers());
        let url = uri.path_and_query().map_or(0, |url| url.as_str().len());
        if url > limits.limit_url {
            let detail = format!("path and query have more than {} bytes", limits.limit_url);
            return Err(Problem::new(StatusCode::URI_TOO_LONG, "URI Too Long", detail));
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > limits.limit_header || headers.len() > limits.limit_header_fields {
            let most = (limits.limit_header, limits.limit_header_fields);
            let detail = format!("the header has more than {} bytes, or more than {} fields", most.0, most.1);
            return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large", detail));
        }
        if uri.query().is_some_and(|query| query.split('&').count() > limits.limit_query_keys) {
            return Err(Problem::bad_request(format!("the query has more than {} parameters", limits.limit_query_keys)));
        }
        Ok(())
    }

    /// Not from another site's page: neither under its name, nor by its script.
    fn is_for_us(&self, request: &Request<Body>) -> Result<(), Problem> {
        let headers = request.headers();
        let host = host(request.uri(), headers);
        if !host.is_some_and(|host| self.0.hosts.knows(host)) {
            let detail = format!("this plane is not {}; --tls-san gives it another name", host.unwrap_or("without a name"));
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "Misdirected Request", detail));
        }
        let origin = text(headers, &header::ORIGIN);
        let own = origin.is_none_or(|origin| origin.split_once("://").map(|(_, at)| at) == host);
        let site = text(headers, &FETCH_SITE);
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if own && (!changes || site.is_none_or(|site| matches!(site, "same-origin" | "none"))) {
            return Ok(());
        }
        Err(Problem::denied("a page of another site asked for this: only pages of this plane may"))
    }

    /// Health is answered whatever else is asked: it has no place in the count.
    async fn one_of_many(&self, router: Router, request: Request<Body>) -> Response {
        if matches!(request.uri().path(), "/" | "/healthy" | "/ready") {
            return answer(router, request).await;
        }
        let Ok(_permit) = self.0.requests.try_acquire() else {
            self.0.shed.requests.fetch_add(1, Ordering::Relaxed);
            return too_much("requests", "limit-requests", self.0.limits.limit_requests).into_response();
        };
        let response = answer(router, request).await;
        if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != "text/event-stream") {
            return response;
        }
        match Arc::clone(&self.0.watches).try_acquire_owned() {
            Ok(held) => response.map(|body| Body::new(Held { body, _held: held })),
            Err(_) => {
                self.0.shed.watches.fetch_add(1, Ordering::Relaxed);
                too_much("watches", "limit-watches", self.0.limits.limit_watches).into_response()
            }
        }
    }
}

/// Who sends what is refused unseen need not be listened to any more.
fn last(mut response: Response, version: Version) -> Response {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn too_much(what: &str, flag: &str, limit: usize) -> Problem {
    Problem::unavailable(format!("{limit} {what} run already (--{flag}): try again in a moment"))
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The name under which the plane was asked.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    uri.authority().map(http::uri::Authority::as_str).or_else(|| text(headers, &header::HOST))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// What a browser may do with any answer: show it in its own page, nothing else.
const FOR_BROWSERS: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'; form-action 'none'",
    ),
];

fn for_browsers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in FOR_BROWSERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
