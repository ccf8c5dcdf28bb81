//! The OpenAPI document and the page that shows it, without anything from another host.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use bytes::Bytes;
use http::{Method, StatusCode, header};

use crate::{
    Plane, Problem,
    access::{Operation, Subject, Verb},
    negotiate, openapi,
    query::Ask,
    routes::{Route, Shape, row},
};

const PAGE: &str = include_str!("docs/index.html");
const STYLE: &str = include_str!("docs/docs.css");
const SCRIPT: &str = include_str!("docs/docs.js");

const HTML: &str = "text/html; charset=utf-8";

/// The rows of the document and its page. Everybody with a credential may read them.
pub(crate) fn rows() -> Vec<Route> {
    let operation = Operation { verb: Verb::Get, subject: Subject::Known("docs") };
    let handler = on(MethodFilter::GET, |State(plane): State<Plane>, _: Ask| async move { document(&plane) });
    let about = "Gives this document.";
    let mut rows = vec![row(Method::GET, "/openapi.json", "openapi", about, operation, Shape::System, handler)];
    for (path, id, about, kind, text) in [
        ("/docs", "docs", "Gives the page that shows this document; it asks for a token.", HTML, shell as fn(&Plane) -> _),
        ("/docs/docs.js", "docsScript", "Gives the page's script.", "text/javascript; charset=utf-8", |_| Ok(SCRIPT.to_owned())),
        ("/docs/docs.css", "docsStyle", "Gives the page's style.", "text/css; charset=utf-8", |_| Ok(STYLE.to_owned())),
        ("/docs/offline", "docsOffline", "Gives the page with this document in it, as one file to keep.", HTML, offline),
    ] {
        let handler = on(MethodFilter::GET, move |State(plane): State<Plane>, _: Ask| async move {
            text(&plane).map(|text: String| (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response())
        });
        rows.push(row(Method::GET, path, id, about, operation, Shape::Text(kind), handler));
    }
    rows
}

fn document(plane: &Plane) -> Result<Response, Problem> {
    Ok(negotiate::json_text(StatusCode::OK, bytes(plane)?))
}

/// The document, made once.
fn bytes(plane: &Plane) -> Result<Bytes, Problem> {
    if let Some(made) = plane.openapi().get() {
        return Ok(made.clone());
    }
    let value = openapi::value(&plane.viewpoint).map_err(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", "the document cannot be written")
    })?;
    Ok(plane.openapi().get_or_init(|| negotiate::pretty(&value)).clone())
}

/// The page; style and script are files of their own, since no script may stand in a page of a plane.
fn shell(_: &Plane) -> Result<String, Problem> {
    let style = "<link rel=\"stylesheet\" href=\"/docs/docs.css\">";
    Ok(PAGE
        .replace("<!--style-->", style)
        .replace("<!--openapi-->", "")
        .replace("<!--script-->", "<script src=\"/docs/docs.js\"></script>"))
}

/// The page as a file: everything stands in it.
fn offline(plane: &Plane) -> Result<String, Problem> {
    // `</` would end the element in which the document stands.
    let document = bytes(plane)?;
    let document = String::from_utf8_lossy(&document).replace("</", "<\\/");
    Ok(PAGE
        .replace("<!--style-->", &format!("<style>\n{STYLE}</style>"))
        .replace("<!--script-->", &format!("<script>\n{SCRIPT}</script>"))
        .replace("<!--openapi-->", &format!("<script id=\"openapi\" type=\"application/json\">{document}</script>")))
}
