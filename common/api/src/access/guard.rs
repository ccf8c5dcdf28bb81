//! Before every handler: who asks, whether they could do this at all, and the audit of those who may not.

use std::sync::atomic::{AtomicU64, Ordering};

use atoll_model::labels::Viewpoint;
use atoll_store::{AuthMethod, Denied};
use axum::{
    RequestExt,
    extract::{Path, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};

use super::{
    AUTHENTICATED_GROUP, AuthenticationError, Caller, Object, Operation, Permit, RequestId, Shown, Subject, Verb, known,
    operation::{Needs, Target},
};
use crate::{Plane, Problem, negotiate, problem, query::ItemPath, serve::Peer};

/// Stands before every handler: judges the credential, decides as far as it can, and hands the handler its [`Permit`].
pub(crate) async fn guard(plane: Plane, operation: Operation, mut request: Request, next: Next) -> Response {
    let asked = Asked::of(operation, &request);
    let mut response = match admit(&plane, operation, &mut request).await {
        Ok(permit) => {
            let extensions = request.extensions_mut();
            extensions.insert(permit.clone());
            extensions.insert(asked.id.clone());
            if let Some(caller) = permit.caller() {
                extensions.insert(caller.clone());
            }
            let response = next.run(request).await;
            asked.note(&plane, Some(&permit), response.status());
            response
        }
        Err(refusal) => {
            let response = refusal.problem.into_response();
            asked.note(&plane, Some(&Permit::new(refusal.caller, None)), response.status());
            response
        }
    };
    response = problem::with_instance(response, &asked.id.0);
    asked.id.mark(response.headers_mut());
    if response.headers().contains_key(negotiate::ATOLL_REVISION) {
        return response;
    }
    negotiate::with_revision(response, plane.store.snapshot().revision())
}

/// Stands before what no route matches, so that strangers learn nothing of the paths either.
pub(crate) async fn guard_unknown(State(plane): State<Plane>, request: Request, next: Next) -> Response {
    guard(plane, Operation { verb: Verb::Get, subject: Subject::Known("paths") }, request, next).await
}

/// The same for a method that a path does not have.
pub(crate) async fn admit_unknown(plane: &Plane, request: &mut Request) -> Result<(), Problem> {
    let operation = Operation { verb: Verb::Get, subject: Subject::Known("methods") };
    admit(plane, operation, request).await.map(|_| ()).map_err(|refusal| refusal.problem)
}

/// Why a request does not reach its handler, and whose it is as far as that is known.
struct Refusal {
    problem: Problem,
    caller: Option<Caller>,
}

async fn admit(plane: &Plane, operation: Operation, request: &mut Request) -> Result<Permit, Refusal> {
    let needs = operation.needs();
    let peer = request.extensions().get::<Peer>().copied();
    let shown = request.extensions().get::<Shown>().cloned();
    let caller = match caller(plane, peer, shown, request.headers()).await {
        Ok(caller) => caller,
        // Kuma's clients send what they have to `GET /`, too: a stale token must not hide who answers.
        Err(_) if needs == Needs::Nothing => None,
        Err(problem) => return Err(Refusal { problem, caller: None }),
    };
    let rights = caller.as_ref().map(|caller| plane.roles(&plane.store.snapshot()).rights(caller));
    let permit = Permit::new(caller, rights);
    let problem = match needs {
        Needs::Nothing => None,
        _ if permit.caller().is_none() => Some(missing_token()),
        Needs::Credential => None,
        Needs::OneOf(_) if permit.is_all() => None,
        Needs::OneOf(accesses) => refuse(plane, &permit, operation, accesses, request).await,
    };
    match problem {
        None => Ok(permit),
        Some(problem) => Err(Refusal { problem, caller: permit.caller().cloned() }),
    }
}

/// Decides by all that is known before the handler looks: of the plane and of zones everything, of resources and tokens whether
/// there could be one.
async fn refuse(
    plane: &Plane,
    permit: &Permit,
    operation: Operation,
    accesses: &[atoll_model::kinds::Access],
    request: &mut Request,
) -> Option<Problem> {
    let rights = permit.rights()?;
    let path = match operation.target() {
        Target::Plane => request.extract_parts::<Path<ItemPath>>().await.map(|Path(path)| path).unwrap_or_default(),
        Target::Kind(_) | Target::AnyKind | Target::Token => ItemPath::default(),
    };
    let named = path.name();
    let own = match &plane.viewpoint {
        Viewpoint::Zone { name, .. } => name.clone(),
        Viewpoint::Global => "".into(),
    };
    let zone = if named.is_empty() { &own } else { &named };
    let (object, may) = match operation.target() {
        Target::Kind(kind) => {
            let object = Object { kind: Some(kind), ..Object::default() };
            (object, accesses.iter().any(|access| rights.may_ever(*access, Some(kind))))
        }
        Target::AnyKind | Target::Token => (Object::default(), accesses.iter().any(|access| rights.may_ever(*access, None))),
        Target::Plane => {
            let object = Object { kind: None, mesh: "", zone, name: &named };
            (object, accesses.iter().any(|access| rights.may(*access, &object)))
        }
    };
    let wanted = accesses.first().copied();
    (!may).then(|| match wanted {
        Some(access) => permit.denied(access, &object),
        None => Problem::denied(format!("only members of {} may do this", super::ADMIN_GROUP)),
    })
}

/// Who asks. A token is all that counts where there is one: who sends a token that does not hold is nobody, whatever certificate
/// the connection has.
async fn caller(plane: &Plane, peer: Option<Peer>, shown: Option<Shown>, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    let judged = match (bearer(headers)?, shown) {
        (Some(token), _) => by_token(plane, token).await,
        (None, Some(shown)) => shown.caller(&*plane.authenticate, plane.clock.now()),
        (None, None) => return Ok(None),
    };
    judged.map(Some).map_err(|error| not_let_in(plane, peer, error))
}

async fn by_token(plane: &Plane, token: &str) -> Result<Caller, AuthenticationError> {
    let (hash, now) = (known::hash(token), plane.clock.now());
    let known = plane.known().get(&hash, now);
    if let Some(caller) = known.filter(|caller| !plane.authenticate.is_withdrawn(&caller.credential)) {
        return Ok(caller);
    }
    let mut caller = plane.authenticate.authenticate(token).await?;
    caller.groups.push(AUTHENTICATED_GROUP.to_owned());
    plane.known().insert(hash, &caller, now);
    Ok(caller)
}

fn not_let_in(plane: &Plane, peer: Option<Peer>, error: AuthenticationError) -> Problem {
    match error {
        AuthenticationError::Refused(why) => {
            tracing::debug!(reason = %why, "a credential was refused");
            let pause = peer.and_then(|peer| plane.throttle().failed(peer.address.ip(), plane.clock.now()));
            match pause {
                Some(seconds) => too_many(&why, seconds),
                None => Problem::unauthenticated(format!("Unauthenticated: {why}")),
            }
        }
        AuthenticationError::Unavailable(why) => Problem::unavailable(why),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    token.map(Some).ok_or_else(|| Problem::unauthenticated("Unauthenticated: the Authorization header must be `Bearer TOKEN`"))
}

fn too_many(why: &str, seconds: u32) -> Problem {
    let detail = format!("{why}; too many failed tries from this address: wait {seconds} s, a token that holds is taken at once");
    Problem {
        retry_after: Some(seconds),
        ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "Too many failed authentications", detail)
    }
}

fn missing_token() -> Problem {
    Problem::unauthenticated(
        "Unauthenticated: send `Authorization: Bearer TOKEN` with a user token; the first one stands in operator.yaml of the \
         plane's data directory, `atoll token user` makes more",
    )
}

/// What the audit keeps of a request that is turned away.
struct Asked {
    id: RequestId,
    operation: Operation,
    object: String,
    peer: Option<Peer>,
}

impl Asked {
    fn of(operation: Operation, request: &Request) -> Self {
        Self {
            id: RequestId::of(request.headers()),
            operation,
            object: request.uri().path().chars().take(256).collect(),
            peer: request.extensions().get::<Peer>().copied(),
        }
    }

    /// Counts and records what was refused; of an administrator, what only that group may.
    fn note(&self, plane: &Plane, permit: Option<&Permit>, status: StatusCode) {
        let caller = permit.and_then(Permit::caller);
        let counts = plane.denied_counts();
        let (count, reason): (&AtomicU64, _) = match status {
            StatusCode::UNAUTHORIZED => (&counts.unauthenticated, "no credential that holds"),
            StatusCode::FORBIDDEN => (&counts.denied, "no role allows it"),
            StatusCode::TOO_MANY_REQUESTS if caller.is_none() => (&counts.throttled, "too many failed authentications"),
            StatusCode::NOT_FOUND if permit.is_some_and(Permit::hid) => (&counts.hidden, "hidden from the caller"),
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let subject = caller.map_or_else(|| "unknown".to_owned(), |caller| format!("user:{}", caller.name));
        tracing::info!(
            request.id = self.id.0, user = %subject, object = self.object, verb = self.operation.verb.name(), reason,
            "a request was refused"
        );
        plane.store.record_denied(Denied {
            at: plane.clock.now(),
            request_id: self.id.0.clone(),
            subject,
            method: caller.map_or(AuthMethod::None, |caller| caller.credential.method),
            address: self.peer.map(|peer| peer.address.ip()),
            verb: self.operation.verb.name().to_owned(),
            object: self.object.clone(),
            reason: reason.to_owned(),
        });
    }
}
