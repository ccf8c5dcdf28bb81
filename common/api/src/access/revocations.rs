//! `/tokens/revocations`: tokens that end before their time.

use atoll_model::{Timestamp, Violation, kinds::Access};
use atoll_store::TokenRevocation;
use axum::{body::Body, response::Response};
use chrono::TimeDelta;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, Verb};
use crate::{Plane, Problem, body, negotiate, present, problem::title, query::Ask, tokens::IssueError};

/// Revocations that are in force at once, at most: every instance and every zone keeps them.
pub(crate) const REVOCATIONS_MAX: usize = 2000;
/// How long a token is held to be revoked of which only the name is known.
const UNKNOWN_LIFE: TimeDelta = TimeDelta::days(10 * 366);
/// Longest name.
const NAME_MAX: usize = 256;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Wanted {
    token: String,
    jti: String,
    until: Option<Timestamp>,
    reason: String,
}

/// Ends a token before its time.
pub(crate) async fn revoke(plane: Plane, ask: Ask, body: Body) -> Result<Response, Problem> {
    ask.permit.require_object(Access::Revoke, &Object::default())?;
    let given: Wanted = body::parse_json(&body::whole(body).await?)?;
    let now = plane.clock.now();
    let (id, until) = which(&plane, &given, now)?;
    let known = plane.store.registry().borrow().revoked.clone();
    if known.len() >= REVOCATIONS_MAX && !known.contains_key(&id) {
        let detail = format!("{REVOCATIONS_MAX} tokens are revoked already, none of which has ended by itself yet");
        return Err(Problem::new(StatusCode::CONFLICT, "Too many revocations", detail));
    }
    if until > now {
        let by = ask.actor().subject;
        let reason = Some(given.reason.clone()).filter(|reason| !reason.is_empty());
        ask.record(&plane, Verb::Revoke.name(), format!("Token/{id}"), reason).await?;
        let revocation = TokenRevocation { id: id.clone(), until, at: now, by: by.clone() };
        plane.store.revoke_token(&revocation).await.map_err(|error| Problem::from_store(title::INVALID_REQUEST, &error))?;
        tracing::warn!(user = by, token.id = id, reason = given.reason, request.id = ask.id.0, "a token was revoked");
    }
    Ok(negotiate::json(StatusCode::OK, &shown(&id, until)))
}

/// Which tokens are revoked and have not ended by themselves.
pub(crate) fn revocations(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    ask.permit.require_object(Access::Revoke, &Object::default())?;
    let (revoked, now) = (plane.store.registry().borrow().revoked.clone(), plane.clock.now());
    let items: Vec<Value> = revoked.iter().filter(|(_, until)| **until > now).map(|(id, until)| shown(id, *until)).collect();
    Ok(negotiate::json(StatusCode::OK, &json!({"total": items.len(), "items": items, "next": null})))
}

fn shown(id: &str, until: Timestamp) -> Value {
    json!({"jti": id, "until": present::time(until)})
}

/// The token's name, and when it ends by itself.
fn which(plane: &Plane, given: &Wanted, now: Timestamp) -> Result<(String, Timestamp), Problem> {
    let invalid = |field: &str, message: &str| Problem::invalid(title::INVALID_REQUEST, [Violation::new(field, message)]);
    match (given.token.trim(), given.jti.trim()) {
        ("", "") => Err(invalid("token", "must not be empty, unless jti names the token")),
        ("", id) if id.len() > NAME_MAX || id.chars().any(char::is_control) => Err(invalid("jti", "is not the name of a token")),
        ("", id) => Ok((id.to_owned(), given.until.unwrap_or_else(|| now + UNKNOWN_LIFE))),
        (token, "") => match plane.tokens.identify(token) {
            Ok(name) => Ok((name.id, name.until)),
            Err(IssueError::Invalid(faults)) => Err(Problem::invalid(title::INVALID_REQUEST, faults)),
            Err(IssueError::NotHere(why)) => Err(invalid("token", &why)),
            Err(IssueError::Unavailable(why)) => Err(Problem::unavailable(why)),
        },
        (_, _) => Err(invalid("jti", "must be empty when token is given")),
    }
}
