//! The OpenAPI 3.1 document, made from the table of routes.

use std::collections::BTreeMap;

use atoll_model::{Kind, labels::Viewpoint};
use utoipa::openapi::{
    ContentBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr,
    Required, ResponseBuilder, Schema,
    header::HeaderBuilder,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    security::SecurityRequirement,
};

mod examples;
mod schemas;

use schemas::{components, flag, free_object, integer, named, object, page, reference, text_schema};

use crate::{
    access::Subject,
    routes::{Route, Shape, table},
};

/// The document of a plane: without what is read-only there.
pub fn document(viewpoint: &Viewpoint) -> OpenApi {
    let mut items: BTreeMap<String, Vec<(HttpMethod, Operation)>> = BTreeMap::new();
    for route in table().iter().filter(|route| is_offered(viewpoint, route)) {
        items.entry(route.path.clone()).or_default().push((method(route), operation(route)));
    }
    let mut paths = PathsBuilder::new();
    for (path, operations) in items {
        let mut item = PathItem::default();
        for (method, operation) in operations {
            item.merge_operations(PathItem::new(method, operation));
        }
        paths = paths.path(path, item);
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let (title, about) = match viewpoint {
        Viewpoint::Global => ("Atoll: global control plane", "Resources of the federation. Paths and documents are Kuma 3's."),
        Viewpoint::Zone { .. } => ("Atoll: zone control plane", "Resources of one zone. Paths and documents are Kuma 3's."),
    };
    let info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about))
        .license(Some(license))
        .build();
    let components =
        common().into_iter().fold(components(), |components, (name, about)| components.response(name, problem(about)));
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build())).build()
}

/// The document as it is checked in: JSON with sorted keys.
///
/// # Errors
/// Never, for a document of [`document`].
pub fn text(viewpoint: &Viewpoint) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(&value(viewpoint)?)? + "\n")
}

/// The document as JSON, with the shapes of all specs.
///
/// # Errors
/// Never, for a document of [`document`].
pub fn value(viewpoint: &Viewpoint) -> Result<serde_json::Value, serde_json::Error> {
    let mut value = serde_json::to_value(document(viewpoint))?;
    for kind in Kind::ALL {
        if let Some(shape) = kind.descriptor().schema {
            value["components"]["schemas"][kind.name()]["properties"]["spec"] = shape.json().clone();
        }
    }
    Ok(value)
}

fn is_offered(viewpoint: &Viewpoint, route: &Route) -> bool {
    match route.shape {
        Shape::Put(kind) | Shape::Delete(kind) => viewpoint.may_write(kind),
        Shape::System
        | Shape::Text(_)
        | Shape::Item(_)
        | Shape::History(_)
        | Shape::Hostnames(_)
        | Shape::List(_)
        | Shape::Overview(_)
        | Shape::Overviews(_)
        | Shape::ByKri
        | Shape::Apply
        | Shape::Token
        | Shape::Revocations
        | Shape::Revoke
        | Shape::Audit
        | Shape::ZoneAnswer => true,
        Shape::Refused => false,
        Shape::Layout => matches!(viewpoint, Viewpoint::Zone { .. }),
        Shape::Word { of_zone, .. } => of_zone == matches!(viewpoint, Viewpoint::Zone { .. }),
    }
}

fn method(route: &Route) -> HttpMethod {
    match route.method.as_str() {
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

const HOSTNAMES: &str = "The names, sorted: `zones` is the zone of the service (for want of one, its name), `seenIn` are the \
                         zones that give the name. Whether another service has the name already says the status of both.";

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(&route.id)).summary(Some(&route.summary)).tag(tag(route));
    for name in ["mesh", "name"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}"))) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, text_schema(), ""));
    }
    operation = match route.shape {
        Shape::System => operation.response("200", json_answer("Done.", free_object())),
        Shape::Text(kind) => {
            let content = ContentBuilder::new().schema(Some(text_schema())).build();
            operation.response("200", ResponseBuilder::new().description("Done.").content(kind, content).build())
        }
        Shape::Item(kind) => item(operation, kind),
        Shape::Overview(_) => read(operation).response("200", json_answer("The resource and how it fares.", free_object())),
        Shape::Layout => read(operation).response("200", json_answer("What the proxy is given.", free_object())),
        Shape::ByKri => conditional(read(operation)).response("200", tagged(json_answer("The resource.", free_object()))),
        Shape::List(kind) | Shape::Overviews(kind) => list(read(operation), kind, route.shape),
        Shape::History(_) => history(operation),
        Shape::Hostnames(_) => read(operation)
            .response("200", json_answer(HOSTNAMES, free_object()))
            .response("409", problem("The name is that of several resources, one of each plane.")),
        Shape::Refused => operation,
        Shape::Put(kind) => put(operation, kind),
        Shape::Delete(_) => delete(operation),
        Shape::Apply => apply(operation),
        Shape::Token => token(operation),
        Shape::Revocations => operation.response("200", json_answer("The revoked tokens.", free_object())),
        Shape::Revoke => revoke(operation),
        Shape::Audit => audit(operation),
        Shape::ZoneAnswer => operation
            .response("200", json_answer("What the zone says.", free_object()))
            .response("405", problem("It is asked on another plane."))
            .response("502", problem("The zone could not answer."))
            .response("504", problem("The zone did not answer in time.")),
        Shape::Word { has_kind, .. } => word(operation, has_kind),
    };
    if route.path.contains('{') {
        operation = operation.response("404", Ref::from_response_name("NotFound"));
    }
    if route.operation.subject != Subject::Open {
        operation = operation
            .security(SecurityRequirement::new::<_, _, String>("token", []))
            .response("401", Ref::from_response_name("Unauthenticated"))
            .response("403", Ref::from_response_name("Denied"))
            .response("429", Ref::from_response_name("TooMany"));
    }
    operation.response("400", Ref::from_response_name("Invalid")).response("503", Ref::from_response_name("Unavailable")).build()
}

/// Answers that many operations give.
fn common() -> [(&'static str, &'static str); 11] {
    [
        ("Invalid", "The request is not valid; every fault is named with its field, of YAML with line and column."),
        ("Unauthenticated", "No token, or none that holds."),
        ("Denied", "The token's holder may not do this; what they may not know of is answered with 404."),
        ("NotFound", "There is no such resource, or none that the token's holder may know of."),
        ("NotHere", "It is not written on this plane; the detail says where."),
        ("Differs", "It is not as the precondition says; the detail has the version that it is at."),
        ("KeyReused", "The Idempotency-Key was used for another request."),
        ("TooMany", "Too many requests, or too many failed tokens: wait as `Retry-After` says."),
        ("TooSlow", "The body did not arrive within 30 s."),
        ("NotRead", "The body is neither JSON nor YAML."),
        (
            "Unavailable",
            "A part of the plane cannot be reached, or has not come to `min-revision`: try again after `Retry-After`.",
        ),
    ]
}

fn tag(route: &Route) -> String {
    match route.operation.subject {
        Subject::Kind(kind) => kind.name().to_owned(),
        Subject::AnyKind => "Resources".to_owned(),
        Subject::Open | Subject::Known(_) | Subject::System(_) => "Plane".to_owned(),
        Subject::Token(_) => "Tokens".to_owned(),
    }
}

fn read(operation: OperationBuilder) -> OperationBuilder {
    let about = "Waits up to 1 s until this instance knows the revision, which may be another instance's; 503 otherwise.";
    operation.parameter(parameter("min-revision", ParameterIn::Query, integer(), about))
}

/// A read that is spared to who has the same already.
fn conditional(operation: OperationBuilder) -> OperationBuilder {
    let about = "ETags of what the client has.";
    let not_modified = ResponseBuilder::new().description("The client has it already.").build();
    operation.parameter(parameter("If-None-Match", ParameterIn::Header, text_schema(), about)).response("304", not_modified)
}

fn item(operation: OperationBuilder, kind: Kind) -> OperationBuilder {
    let about = "Shows the resource as it was at this revision, if the history has it; without status and ETag.";
    let several = problem("The name is that of several resources, one of each plane: the detail has the names to choose from.");
    conditional(read(operation))
        .parameter(parameter("revision", ParameterIn::Query, integer(), about))
        .response("200", tagged(json_answer_like("The resource.", named(kind), examples::shown(kind))))
        .response("409", several)
}

fn list(operation: OperationBuilder, kind: Kind, shape: Shape) -> OperationBuilder {
    let mut operation = operation
        .parameter(parameter("size", ParameterIn::Query, integer(), "Items of a page, 1 to 1000; 100, unless asked."))
        .parameter(parameter("offset", ParameterIn::Query, text_schema(), OFFSET))
        .parameter(parameter("name", ParameterIn::Query, text_schema(), "Only names that contain this."))
        .parameter(parameter("filter[labels.KEY]", ParameterIn::Query, text_schema(), "Only with this label; repeatable."));
    if kind == Kind::Dataplane {
        let about = "Only delegated gateways (true, delegated), or none of them (false).";
        operation = operation.parameter(parameter("gateway", ParameterIn::Query, text_schema(), about)).parameter(parameter(
            "tag",
            ParameterIn::Query,
            text_schema(),
            "KEY:TEXT, only with a label that contains it.",
        ));
    }
    let mut answer = json_answer("A page, ordered by mesh and name.", page(kind));
    if matches!(shape, Shape::List(_)) {
        let event = object(&[("id", text_schema()), ("event", text_schema()), ("data", text_schema())], &["event", "data"]);
        let events = ContentBuilder::new().schema(Some(event)).example(Some(EVENTS.into())).build();
        answer.content.insert("text/event-stream".to_owned(), events.into());
        operation = operation
            .parameter(parameter("watch", ParameterIn::Query, flag(), WATCH))
            .parameter(parameter("since", ParameterIn::Query, text_schema(), "Of a watch: the place after which it begins."))
            .parameter(parameter(
                "Last-Event-ID",
                ParameterIn::Header,
                text_schema(),
                "The same; what a client that returns sends.",
            ));
    }
    operation.response("200", answer)
}

const OFFSET: &str = "What `next` of the page before says; it goes on after that page's last item, whatever was written since.";
const WATCH: &str = "Follows the changes as server-sent events: put, delete, revision; a last gone (list again), overrun or stopping \
                     (resume).";
const EVENTS: &str = "id: 7-0197e0a2\nevent: put\ndata: {\"type\":\"MeshTimeout\",\"mesh\":\"default\",\"name\":\"all\"}\n\n\
                      id: 7-0197e0a2\nevent: revision\ndata: 7\n\n";

fn history(operation: OperationBuilder) -> OperationBuilder {
    let about = "Entries of a page, 1 to 999; 100, unless asked.";
    read(operation)
        .parameter(parameter("size", ParameterIn::Query, integer(), about))
        .parameter(parameter("before", ParameterIn::Query, integer(), "Only changes before this revision."))
        .response("200", json_answer("A page, newest first.", reference("History")))
}

fn put(operation: OperationBuilder, kind: Kind) -> OperationBuilder {
    write(taking_body(operation, "1 MiB"))
        .parameter(parameter("strict", ParameterIn::Query, flag(), "Refuses unknown fields and what is not enforced."))
        .request_body(Some(body(named(kind), examples::written(kind))))
        .response("200", tagged(json_answer("It was replaced, or was like that; or what a dry run found.", reference("Written"))))
        .response("201", tagged(json_answer("It was created.", reference("Written"))))
        .response("405", Ref::from_response_name("NotHere"))
}

fn delete(operation: OperationBuilder) -> OperationBuilder {
    write(operation)
        .response("200", json_answer("It is gone; or what a dry run found.", reference("Deleted")))
        .response("405", Ref::from_response_name("NotHere"))
}

fn apply(operation: OperationBuilder) -> OperationBuilder {
    let example = examples::written(Kind::MeshTimeout).map(|document| serde_json::json!([document]));
    write(taking_body(operation, "8 MiB"))
        .parameter(parameter("atomic", ParameterIn::Query, flag(), "All or nothing; true, unless false."))
        .parameter(parameter("strict", ParameterIn::Query, flag(), "Refuses unknown fields and what is not enforced."))
        .request_body(Some(body(free_object(), example)))
        .response("200", json_answer("A result per document, in their order.", reference("Applied")))
        .response("404", problem("A mesh went while its documents were judged."))
}

/// What all writes take.
fn write(operation: OperationBuilder) -> OperationBuilder {
    let once = "Makes a repeat do nothing and answer as the first time, for 24 hours: 1 to 255 visible ASCII characters.";
    operation
        .parameter(parameter("If-Match", ParameterIn::Header, text_schema(), "The ETag that the resource must have, or *."))
        .parameter(parameter("If-None-Match", ParameterIn::Header, text_schema(), "* wants that there is none."))
        .parameter(parameter("Idempotency-Key", ParameterIn::Header, text_schema(), once))
        .parameter(parameter("dry_run", ParameterIn::Query, flag(), "Says what would change, refuses the same, changes nothing."))
        .response("412", Ref::from_response_name("Differs"))
        .response("422", Ref::from_response_name("KeyReused"))
}

fn taking_body(operation: OperationBuilder, limit: &str) -> OperationBuilder {
    operation
        .response("408", Ref::from_response_name("TooSlow"))
        .response("413", problem(&format!("The body is larger than {limit}.")))
        .response("415", Ref::from_response_name("NotRead"))
}

fn token(operation: OperationBuilder) -> OperationBuilder {
    let content = ContentBuilder::new().schema(Some(text_schema())).build();
    operation
        .request_body(Some(
            RequestBodyBuilder::new()
                .content("application/json", ContentBuilder::new().schema(Some(free_object())).build())
                .required(Some(Required::True))
                .build(),
        ))
        .response("200", ResponseBuilder::new().description("The token.").content("text/plain", content).build())
        .response("405", problem("This plane does not make such tokens."))
}

fn revoke(operation: OperationBuilder) -> OperationBuilder {
    let body =
        object(&[("token", text_schema()), ("jti", text_schema()), ("until", text_schema()), ("reason", text_schema())], &[]);
    let content = ContentBuilder::new().schema(Some(body)).build();
    operation
        .request_body(Some(RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True)).build()))
        .response("200", json_answer("The token does not hold any more.", free_object()))
        .response("409", problem("Too many tokens are revoked already."))
}

fn audit(operation: OperationBuilder) -> OperationBuilder {
    [
        ("size", integer(), "Rows of a page, 1 to 1000; 100, unless asked."),
        ("before", integer(), "What `next` of the page before says."),
        ("subject", text_schema(), "Only of this subject, such as user:ann."),
        ("verb", text_schema(), "Only with this verb, such as update."),
        ("object", text_schema(), "Only of this object, such as MeshTimeout/default/slow."),
        ("decision", text_schema(), "Only allowed, or only denied."),
        ("request", text_schema(), "Only of the request with this X-Request-Id."),
        ("since", text_schema(), "Only since this time (RFC 3339)."),
    ]
    .into_iter()
    .fold(operation, |operation, (name, schema, about)| operation.parameter(parameter(name, ParameterIn::Query, schema, about)))
    .response("200", json_answer("A page.", free_object()))
}

fn word(operation: OperationBuilder, has_kind: bool) -> OperationBuilder {
    let kind = ParameterBuilder::new().name("kind").parameter_in(ParameterIn::Query).required(Required::True);
    let kind = kind.description(Some("The kind of resource, such as MeshService.")).schema(Some(text_schema())).build();
    let operation = if has_kind { operation.parameter(kind) } else { operation };
    operation
        .response("200", json_answer("What comes of it.", free_object()))
        .response("405", problem("It is said on another plane."))
        .response("409", problem("There is nothing to say it on."))
}

fn body(schema: RefOr<Schema>, example: Option<serde_json::Value>) -> utoipa::openapi::request_body::RequestBody {
    let content = ContentBuilder::new().schema(Some(schema)).example(example).build();
    RequestBodyBuilder::new()
        .content("application/json", content.clone())
        .content("application/yaml", content)
        .required(Some(Required::True))
        .build()
}

fn parameter(name: &str, place: ParameterIn, schema: RefOr<Schema>, about: &str) -> utoipa::openapi::path::Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let about = Some(about).filter(|text| !text.is_empty());
    ParameterBuilder::new().name(name).parameter_in(place).required(required).description(about).schema(Some(schema)).build()
}

fn json_answer(about: &str, schema: RefOr<Schema>) -> utoipa::openapi::Response {
    json_answer_like(about, schema, None)
}

fn json_answer_like(about: &str, schema: RefOr<Schema>, example: Option<serde_json::Value>) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(schema)).example(example).build();
    ResponseBuilder::new().description(about).content("application/json", content).header("Atoll-Revision", revision()).build()
}

/// With the version of what is shown, or was written.
fn tagged(mut answer: utoipa::openapi::Response) -> utoipa::openapi::Response {
    let about = "The version, for If-Match and If-None-Match.";
    let tag = HeaderBuilder::new().schema(Some(text_schema())).description(Some(about)).build();
    answer.headers.insert("ETag".to_owned(), tag.into());
    answer
}

fn revision() -> utoipa::openapi::header::Header {
    HeaderBuilder::new().schema(Some(integer())).description(Some("The newest revision that the answer knows of.")).build()
}

fn problem(about: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(reference("Problem"))).build();
    ResponseBuilder::new().description(about).content("application/problem+json", content).build()
}
