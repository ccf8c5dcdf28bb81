//! The OpenAPI 3.1 document, made from the table of routes.

use std::collections::BTreeMap;

use atoll_model::{Kind, Scope, Style, labels::Viewpoint};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem,
    PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
    path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{AdditionalProperties, ArrayBuilder, KnownFormat, SchemaFormat, SchemaType, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};

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
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components())).build()
}

/// The document as it is checked in: JSON with sorted keys.
///
/// # Errors
/// Never, for a document of [`document`].
pub fn text(viewpoint: &Viewpoint) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(document(viewpoint))?;
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn is_offered(viewpoint: &Viewpoint, route: &Route) -> bool {
    match route.shape {
        Shape::Put(kind) | Shape::Delete(kind) => viewpoint.may_write(kind),
        Shape::System
        | Shape::Item(_)
        | Shape::List(_)
        | Shape::Overview(_)
        | Shape::Overviews(_)
        | Shape::ByKri
        | Shape::Apply
        | Shape::Token
        | Shape::ZoneAnswer => true,
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

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(&route.id)).summary(Some(&route.summary)).tag(tag(route));
    for name in ["mesh", "name"].into_iter().filter(|name| route.path.contains(&format!("{{{name}}}"))) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, text_schema(), ""));
    }
    operation = match route.shape {
        Shape::System => operation.response("200", json_answer("Done.", free_object())),
        Shape::Item(kind) | Shape::Overview(kind) => read(operation).response("200", json_answer("The resource.", named(kind))),
        Shape::ByKri => read(operation).response("200", json_answer("The resource.", free_object())),
        Shape::List(kind) | Shape::Overviews(kind) => list(read(operation), kind, route.shape),
        Shape::Put(kind) => put(operation, kind),
        Shape::Delete(_) => precondition(operation)
            .response("200", json_answer("It is gone.", free_object()))
            .response("405", problem("It is not written on this plane.")),
        Shape::Apply => apply(operation),
        Shape::Token => token(operation),
        Shape::ZoneAnswer => operation
            .response("200", json_answer("What the zone says.", free_object()))
            .response("405", problem("It is asked on another plane."))
            .response("502", problem("The zone could not answer."))
            .response("504", problem("The zone did not answer in time.")),
        Shape::Word { has_kind, .. } => word(operation, has_kind),
    };
    if route.path.contains('{') {
        operation = operation.response("404", problem("There is no such resource."));
    }
    if route.operation.subject != Subject::Open {
        operation = operation
            .security(SecurityRequirement::new::<_, _, String>("token", []))
            .response("401", problem("No token, or none that holds."))
            .response("403", problem("The token's holder may not do this."));
    }
    operation
        .response("400", problem("The request is not valid; every fault is named with its field."))
        .response("503", problem("A part of the plane cannot be reached; try again after `Retry-After`."))
        .build()
}

fn tag(route: &Route) -> String {
    match route.operation.subject {
        Subject::Kind(kind) => kind.name().to_owned(),
        Subject::AnyKind => "Resources".to_owned(),
        Subject::Open | Subject::System(_) => "Plane".to_owned(),
        Subject::Token(_) => "Tokens".to_owned(),
    }
}

fn read(operation: OperationBuilder) -> OperationBuilder {
    let about = "Waits up to 1 s until this instance knows the revision; 503 otherwise.";
    operation.parameter(parameter("min-revision", ParameterIn::Query, integer(), about))
}

fn list(operation: OperationBuilder, kind: Kind, shape: Shape) -> OperationBuilder {
    let mut operation = operation
        .parameter(parameter("size", ParameterIn::Query, integer(), "Items of a page, 1 to 1000; 100, unless asked."))
        .parameter(parameter("offset", ParameterIn::Query, text_schema(), "What `next` of the page before says."))
        .parameter(parameter("name", ParameterIn::Query, text_schema(), "Only names that contain this."))
        .parameter(parameter("filter[labels.KEY]", ParameterIn::Query, text_schema(), "Only with this label; repeatable."))
        .response("200", json_answer("A page.", page(kind)));
    if matches!(shape, Shape::List(_)) {
        operation = operation
            .parameter(parameter("watch", ParameterIn::Query, flag(), "Follows the changes as server-sent events."))
            .parameter(parameter("since", ParameterIn::Query, integer(), "Of a watch: the revision after which it begins."))
            .response("410", problem("The changes since that revision are no more known one by one."));
    }
    operation
}

fn put(operation: OperationBuilder, kind: Kind) -> OperationBuilder {
    precondition(operation)
        .parameter(parameter("strict", ParameterIn::Query, flag(), "Refuses unknown fields and what is not enforced."))
        .parameter(parameter("dry_run", ParameterIn::Query, flag(), "Changes nothing."))
        .request_body(Some(body(named(kind))))
        .response("200", json_answer("It was replaced, or was like that.", reference("Written")))
        .response("201", json_answer("It was created.", reference("Written")))
        .response("405", problem("It is not written on this plane."))
        .response("412", problem("It is not as the precondition says."))
        .response("413", problem("The body is larger than 1 MiB."))
        .response("415", problem("The body is neither JSON nor YAML."))
}

fn precondition(operation: OperationBuilder) -> OperationBuilder {
    operation.parameter(parameter("If-Match", ParameterIn::Header, text_schema(), "The ETag that the resource must have."))
}

fn apply(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(parameter("dry_run", ParameterIn::Query, flag(), "Says what would change, changes nothing."))
        .parameter(parameter("atomic", ParameterIn::Query, flag(), "All or nothing; true, unless false."))
        .parameter(parameter("strict", ParameterIn::Query, flag(), "Refuses unknown fields and what is not enforced."))
        .request_body(Some(body(free_object())))
        .response("200", json_answer("A result per document.", reference("Applied")))
        .response("413", problem("The body is larger than 8 MiB."))
        .response("415", problem("The body is neither JSON nor YAML."))
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

fn word(operation: OperationBuilder, has_kind: bool) -> OperationBuilder {
    let kind = ParameterBuilder::new().name("kind").parameter_in(ParameterIn::Query).required(Required::True);
    let kind = kind.description(Some("The kind of resource, such as MeshService.")).schema(Some(text_schema())).build();
    let operation = if has_kind { operation.parameter(kind) } else { operation };
    operation
        .response("200", json_answer("What comes of it.", free_object()))
        .response("405", problem("It is said on another plane."))
        .response("409", problem("There is nothing to say it on."))
}

fn body(schema: RefOr<Schema>) -> utoipa::openapi::request_body::RequestBody {
    let content = ContentBuilder::new().schema(Some(schema)).build();
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
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(about).content("application/json", content).build()
}

fn problem(about: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(reference("Problem"))).build();
    ResponseBuilder::new().description(about).content("application/problem+json", content).build()
}

fn components() -> utoipa::openapi::Components {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let mut components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(scheme))
        .schema("Problem", problem_schema())
        .schema(
            "Fault",
            object(
                &[("field", text_schema()), ("reason", text_schema()), ("line", integer()), ("column", integer())],
                &["field", "reason"],
            ),
        )
        .schema("Written", object(&[("warnings", array(text_schema()))], &["warnings"]))
        .schema(
            "Applied",
            object(
                &[("revision", integer()), ("dryRun", flag()), ("results", array(free_object()))],
                &["revision", "dryRun", "results"],
            ),
        );
    for kind in Kind::ALL {
        components = components.schema(kind.name(), kind_schema(*kind));
    }
    components.build()
}

fn problem_schema() -> RefOr<Schema> {
    object(
        &[
            ("type", text_schema()),
            ("status", integer()),
            ("title", text_schema()),
            ("detail", text_schema()),
            ("invalid_parameters", array(reference("Fault"))),
            ("details", text_schema()),
            ("causes", array(object(&[("field", text_schema()), ("message", text_schema())], &["field", "message"]))),
            ("results", array(free_object())),
        ],
        &["type", "status", "title", "detail"],
    )
}

fn kind_schema(kind: Kind) -> RefOr<Schema> {
    let row = kind.descriptor();
    let labels = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::RefOr(text_schema()))).build();
    let time = || {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()))
    };
    let mut fields = vec![
        ("type", text_schema()),
        ("name", text_schema()),
        ("labels", RefOr::T(Schema::Object(labels))),
        ("creationTime", time()),
        ("modificationTime", time()),
        ("kri", text_schema()),
        ("status", free_object()),
    ];
    let mut required = vec!["type", "name"];
    if row.scope == Scope::Mesh {
        fields.push(("mesh", text_schema()));
        required.push("mesh");
    }
    if row.style == Style::Spec {
        fields.push(("spec", free_object()));
    }
    object(&fields, &required)
}

fn page(kind: Kind) -> RefOr<Schema> {
    object(&[("total", integer()), ("items", array(named(kind))), ("next", nullable_text())], &["total", "items", "next"])
}

fn named(kind: Kind) -> RefOr<Schema> {
    reference(kind.name())
}

fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

fn object(fields: &[(&str, RefOr<Schema>)], required: &[&str]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    for (name, schema) in fields {
        object = object.property(*name, schema.clone());
    }
    for name in required {
        object = object.required(*name);
    }
    RefOr::T(Schema::Object(object.build()))
}

fn free_object() -> RefOr<Schema> {
    object(&[], &[])
}

fn array(items: RefOr<Schema>) -> RefOr<Schema> {
    RefOr::T(Schema::Array(ArrayBuilder::new().items(items).build()))
}

fn text_schema() -> RefOr<Schema> {
    scalar(Type::String)
}

fn nullable_text() -> RefOr<Schema> {
    let kinds = SchemaType::from_iter([Type::String, Type::Null]);
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(kinds).build()))
}

fn integer() -> RefOr<Schema> {
    scalar(Type::Integer)
}

fn flag() -> RefOr<Schema> {
    scalar(Type::Boolean)
}

fn scalar(kind: Type) -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(kind).build()))
}
