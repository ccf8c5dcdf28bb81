//! Between the guard and the handler: takes the body, then gives the handler its time.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;

use crate::{Plane, Problem, body, routes::Shape};

/// Takes the body of a write, by its announced length or by counting, and answers for a handler that is not done in time. What
/// streams (a watch) is answered at once and has no end in time.
pub(crate) async fn pace(plane: Plane, shape: Shape, request: Request, next: Next) -> Response {
    let request = match taken(&plane, shape, request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let time = plane.limits().handler_time();
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::warn!(limit = ?time, "a request was given up");
            let detail = format!("no answer within {time:?}; a write may have happened all the same: read before you repeat it");
            Problem::unavailable(detail).into_response()
        }
    }
}

async fn taken(plane: &Plane, shape: Shape, request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::PUT | Method::POST) {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let limits = plane.limits();
    let most = if shape == Shape::Apply { limits.limit_bulk_body } else { limits.limit_body };
    body::format(&parts.headers, b"")?;
    let bytes = body::read(&parts.headers, body, most, limits.body_time()).await?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}
