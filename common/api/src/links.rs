//! What a plane says over its links: questions to zones, and an operator's word on what was held back.

use async_trait::async_trait;
use atoll_model::{Kind, Name};
use axum::{
    extract::State,
    response::Response,
    routing::{MethodFilter, on},
};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::{
    Plane, Problem,
    access::{Operation, Subject, Verb},
    negotiate,
    problem::title,
    query::Ask,
    routes::{self, Route, Shape},
};

/// What can be asked of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether the ingresses of the other zones can be reached from it.
    Ingresses,
    /// Which hostnames it hands out.
    Names,
}

impl Question {
    /// How it is asked over the link.
    pub fn path(self) -> &'static str {
        match self {
            Self::Ingresses => "probe/ingresses",
            Self::Names => "names",
        }
    }
}

/// An operator's word on what a plane does not do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Do the deletions of a kind that are held because they are too many.
    Release(Kind),
    /// Of a zone that takes its own resources back from global: keep those of a kind that global's copy lacks.
    Keep(Kind),
    /// Of a zone: follow the history that global shows now, although it does not continue what the zone holds.
    Follow,
}

/// The links of a plane.
#[async_trait]
pub trait Links: Send + Sync {
    /// Asks a zone and waits for its answer.
    ///
    /// # Errors
    /// See [`LinkError`].
    async fn ask(&self, zone: &Name, question: Question) -> Result<Value, LinkError>;

    /// Says a word at this plane's end of the link with `zone`; of a zone, none means its own link. Gives what comes of it.
    ///
    /// # Errors
    /// See [`LinkError`].
    async fn say(&self, zone: Option<&Name>, word: Word) -> Result<Value, LinkError>;
}

/// Why there is no answer. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no such zone.
    #[error("there is no zone {0}")]
    UnknownZone(Name),
    /// It is another plane's to do; the text says whose.
    #[error("{0}")]
    NotHere(String),
    /// There is nothing to say a word on.
    #[error("{0}")]
    Nothing(String),
    /// The other plane has no stream here.
    #[error("{0}")]
    NotConnected(String),
    /// The other plane did not answer in time.
    #[error("{0}")]
    Timeout(String),
    /// The other plane answered with an error.
    #[error("{0}")]
    Failed(String),
}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        let detail = error.to_string();
        match error {
            LinkError::UnknownZone(_) => Self { detail, ..Self::not_found(title::RETRIEVE) },
            LinkError::NotHere(_) => Self::not_allowed(detail),
            LinkError::Nothing(_) => Self::new(StatusCode::CONFLICT, "Nothing to do", detail),
            LinkError::NotConnected(_) => Self::unavailable(detail),
            LinkError::Timeout(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "No answer in time", detail),
            LinkError::Failed(_) => Self::new(StatusCode::BAD_GATEWAY, "The zone could not answer", detail),
        }
    }
}

/// Has no links.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLinks;

#[async_trait]
impl Links for NoLinks {
    async fn ask(&self, zone: &Name, _: Question) -> Result<Value, LinkError> {
        Err(LinkError::UnknownZone(zone.clone()))
    }
    async fn say(&self, _: Option<&Name>, _: Word) -> Result<Value, LinkError> {
        Err(LinkError::NotHere("this plane has no links".to_owned()))
    }
}

/// Makes a handler of `async fn(Plane, Ask, …)`.
macro_rules! handler {
    ($method:ident, $function:expr $(, $more:expr)*) => {
        on(MethodFilter::$method, move |State(plane): State<Plane>, ask: Ask| async move { $function(plane, ask $(, $more)*).await })
    };
}

/// The rows of the table of routes.
pub(crate) fn rows() -> Vec<Route> {
    let get = |path: &str, id: &str, summary: &str, question: Question| {
        let operation = Operation { verb: Verb::Get, subject: Subject::System("links") };
        routes::row(Method::GET, path, id, summary, operation, Shape::ZoneAnswer, handler!(GET, ask_zone, question))
    };
    let word = Operation { verb: Verb::Put, subject: Subject::System("links") };
    let zones = |path: &str, id: &str, summary: &str, handler| {
        routes::row(
            Method::POST,
            path,
            id,
            summary,
            word,
            Shape::Word { of_zone: true, has_kind: path != "/_link/follow" },
            handler,
        )
    };
    vec![
        get(
            "/zones/{name}/_probe",
            "probeFromZone",
            "Has a zone dial the ingresses of all other zones, and says what it saw.",
            Question::Ingresses,
        ),
        get("/zones/{name}/_names", "namesOfZone", "Lists the hostnames that a zone's DNS hands out.", Question::Names),
        routes::row(
            Method::POST,
            "/zones/{name}/_release",
            "releaseDeletionsOfZone",
            "Does the deletions of a zone's resources that global holds back because they are too many at once.",
            word,
            Shape::Word { of_zone: false, has_kind: true },
            handler!(POST, release_of_zone),
        ),
        zones(
            "/_link/release",
            "releaseDeletions",
            "Does the deletions that this zone holds back because they are too many at once.",
            handler!(POST, own_link, Word::Release),
        ),
        zones(
            "/_link/keep",
            "keepResources",
            "Keeps the resources of this zone that global's copy of them lacks, while it restores what it lost.",
            handler!(POST, own_link, Word::Keep),
        ),
        zones(
            "/_link/follow",
            "followHistory",
            "Follows the history that global shows now, although it does not continue what this zone holds.",
            handler!(POST, follow),
        ),
    ]
}

async fn ask_zone(plane: Plane, ask: Ask, question: Question) -> Result<Response, Problem> {
    let answer = plane.links.ask(&ask.path.name(), question).await?;
    Ok(negotiate::json(StatusCode::OK, &answer))
}

async fn release_of_zone(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    let word = Word::Release(kind(&ask)?);
    say(&plane, &ask, Some(ask.path.name()), word).await
}

async fn own_link(plane: Plane, ask: Ask, word: fn(Kind) -> Word) -> Result<Response, Problem> {
    say(&plane, &ask, None, word(kind(&ask)?)).await
}

async fn follow(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    say(&plane, &ask, None, Word::Follow).await
}

async fn say(plane: &Plane, ask: &Ask, zone: Option<Name>, word: Word) -> Result<Response, Problem> {
    let object = zone.as_ref().map_or_else(|| "Link".to_owned(), |zone| format!("Link/{zone}"));
    ask.record(plane, Verb::Release.name(), object, Some(format!("{word:?}"))).await?;
    let done = plane.links.say(zone.as_ref(), word).await?;
    let user = ask.caller.as_ref().map(|caller| caller.name.as_str()).unwrap_or_default();
    tracing::warn!(user, address = ?ask.address(), zone = zone.as_deref(), ?word, %done, "an operator's word on a link");
    Ok(negotiate::json(StatusCode::OK, &done))
}

/// The kind that the query names.
fn kind(ask: &Ask) -> Result<Kind, Problem> {
    let text = ask.query.text("kind").unwrap_or_default();
    let wrong =
        || Problem::bad_request(format!("kind: must be the name of a kind of resource, such as MeshService, not {text:?}"));
    text.parse().map_err(|_| wrong())
}
