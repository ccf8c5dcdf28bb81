//! Who asks, and whether they may: one decision for every operation. Default is no.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};

use crate::{Plane, Problem, negotiate};

/// The group whose members may do everything.
pub const ADMIN_GROUP: &str = "mesh-system:admin";
/// The group of everybody with a valid token.
pub const AUTHENTICATED_GROUP: &str = "mesh-system:authenticated";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name in the token.
    pub name: String,
    /// Groups in the token.
    pub groups: Vec<String>,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// It is none of ours, or no more valid. The text says which, and nothing of the token.
    #[error("{0}")]
    Refused(String),
    /// It cannot be judged now.
    #[error("tokens cannot be verified at the moment")]
    Unavailable,
}

/// Judges bearer tokens of users.
pub trait Authenticate: Send + Sync {
    /// Who holds `token`.
    ///
    /// # Errors
    /// When the token proves nothing.
    fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError>;
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one.
    Get,
    /// Reads many.
    List,
    /// Creates or changes.
    Put,
    /// Removes.
    Delete,
    /// Gives out a token.
    Issue,
}

/// To what it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What everybody may see: `GET /`, health and readiness.
    Open,
    /// Resources of a kind.
    Kind(atoll_model::Kind),
    /// Documents of any kind, in one request.
    AnyKind,
    /// The plane itself, by the name of the view.
    System(&'static str),
    /// Tokens, by what they are for.
    Token(&'static str),
}

/// One operation, as decisions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What is done.
    pub verb: Verb,
    /// To what.
    pub subject: Subject,
}

/// An answer to "may they?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// Who asks must say who they are.
    Unauthenticated,
    /// No.
    Deny,
}

/// The decision. Only administrators may do anything that is not open to all.
pub fn decide(caller: Option<&Caller>, operation: Operation) -> Decision {
    match (operation.subject, caller) {
        (Subject::Open, _) => Decision::Allow,
        (Subject::Kind(_) | Subject::AnyKind | Subject::System(_) | Subject::Token(_), None) => Decision::Unauthenticated,
        (Subject::Kind(_) | Subject::AnyKind | Subject::System(_) | Subject::Token(_), Some(caller)) => {
            if caller.groups.iter().any(|group| group == ADMIN_GROUP) { Decision::Allow } else { Decision::Deny }
        }
    }
}

/// Stands before every handler: judges the token, asks [`decide`], and names the caller to the handler.
pub(crate) async fn guard(plane: Plane, operation: Operation, mut request: Request, next: Next) -> Response {
    let response = match admit(&plane, request.headers(), operation) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    answered(&plane, response)
}

/// Stands before what no route matches, so that strangers learn nothing of the paths either.
pub(crate) async fn guard_unknown(State(plane): State<Plane>, request: Request, next: Next) -> Response {
    guard(plane, Operation { verb: Verb::Get, subject: Subject::System("unknown path") }, request, next).await
}

/// Who asks, if they may.
pub(crate) fn admit(plane: &Plane, headers: &HeaderMap, operation: Operation) -> Result<Option<Caller>, Problem> {
    let caller = match caller(plane, headers) {
        Ok(caller) => caller,
        // Kuma's clients send what they have to `GET /`, too: a stale token must not hide who answers.
        Err(_) if operation.subject == Subject::Open => None,
        Err(problem) => return Err(problem),
    };
    match decide(caller.as_ref(), operation) {
        Decision::Allow => Ok(caller),
        Decision::Unauthenticated => Err(missing_token()),
        Decision::Deny => Err(denied(caller.as_ref(), operation)),
    }
}

fn answered(plane: &Plane, response: Response) -> Response {
    if response.headers().contains_key(negotiate::ATOLL_REVISION) {
        return response;
    }
    negotiate::with_revision(response, plane.store.snapshot().revision())
}

fn caller(plane: &Plane, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthenticated("Unauthenticated: the Authorization header must be `Bearer TOKEN`"))?;
    match plane.authenticate.authenticate(token) {
        Ok(mut caller) => {
            caller.groups.push(AUTHENTICATED_GROUP.to_owned());
            Ok(Some(caller))
        }
        Err(AuthenticationError::Refused(why)) => {
            tracing::debug!(reason = %why, "a token was refused");
            Err(Problem::unauthenticated(format!("Unauthenticated: {why}")))
        }
        Err(AuthenticationError::Unavailable) => Err(Problem::unavailable("tokens cannot be verified at the moment")),
    }
}

fn missing_token() -> Problem {
    Problem::unauthenticated(
        "Unauthenticated: send `Authorization: Bearer TOKEN` with a user token; the first one stands in operator.yaml of the \
         plane's data directory, `atoll token user` makes more",
    )
}

fn denied(caller: Option<&Caller>, operation: Operation) -> Problem {
    let user = caller.map(|caller| format!("{}/{}", caller.name, caller.groups.join(","))).unwrap_or_default();
    let detail = match operation.subject {
        Subject::Kind(kind) => format!("user {user:?} cannot access the resource of type {:?}", kind.name()),
        Subject::Token(kind) => format!("user {user:?} cannot issue {kind} tokens"),
        Subject::AnyKind | Subject::System(_) | Subject::Open => format!("user {user:?} cannot do this"),
    };
    Problem::denied(format!("{detail}; this version lets only members of {ADMIN_GROUP} in"))
}

#[cfg(test)]
mod tests {
    use atoll_model::Kind;

    use super::*;

    fn check(groups: Option<&[&str]>, subject: Subject, expected: Decision) {
        let caller = groups.map(|groups| Caller { name: "u".into(), groups: groups.iter().map(|g| (*g).to_owned()).collect() });
        for verb in [Verb::Get, Verb::List, Verb::Put, Verb::Delete, Verb::Issue] {
            assert_eq!(decide(caller.as_ref(), Operation { verb, subject }), expected, "{groups:?} {verb:?} {subject:?}");
        }
    }

    #[test]
    fn only_administrators_may_and_reads_are_guarded() {
        for subject in [Subject::Kind(Kind::Mesh), Subject::AnyKind, Subject::System("config"), Subject::Token("user")] {
            check(None, subject, Decision::Unauthenticated);
            check(Some(&[]), subject, Decision::Deny);
            check(Some(&["mesh-system:authenticated", "team-a"]), subject, Decision::Deny);
            check(Some(&["team-a", ADMIN_GROUP]), subject, Decision::Allow);
        }
        check(None, Subject::Open, Decision::Allow);
        check(Some(&[]), Subject::Open, Decision::Allow);
    }
}
