//! The rows of the table of routes that are about access itself.

use axum::{
    body::Body,
    extract::State,
    routing::{MethodFilter, on},
};
use http::Method;

use super::{Operation, Subject, Verb, audit, revocations};
use crate::{
    Plane,
    query::Ask,
    routes::{self, Route, Shape},
};

pub(crate) fn rows() -> Vec<Route> {
    let revoke = Operation { verb: Verb::Revoke, subject: Subject::Token("revocations") };
    vec![
        routes::row(
            Method::GET,
            "/tokens/revocations",
            "listRevocations",
            "Lists the tokens that were revoked and have not ended by themselves.",
            revoke,
            Shape::Revocations,
            on(MethodFilter::GET, |State(plane): State<Plane>, ask: Ask| async move { revocations::revocations(plane, ask) }),
        ),
        routes::row(
            Method::POST,
            "/tokens/revocations",
            "revokeToken",
            "Ends a token before its time, open streams included.",
            revoke,
            Shape::Revoke,
            on(MethodFilter::POST, |State(plane): State<Plane>, ask: Ask, body: Body| async move {
                revocations::revoke(plane, ask, body).await
            }),
        ),
        routes::row(
            Method::GET,
            "/_audit",
            "audit",
            "Shows who asked for what, and what became of it; newest first.",
            Operation { verb: Verb::Audit, subject: Subject::System("audit") },
            Shape::Audit,
            on(MethodFilter::GET, |State(plane): State<Plane>, ask: Ask| async move { audit::audit(plane, ask).await }),
        ),
    ]
}
