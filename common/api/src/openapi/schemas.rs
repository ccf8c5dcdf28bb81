//! The schemas of the OpenAPI document.

use atoll_model::{Kind, Scope, Style};
use utoipa::openapi::{
    ComponentsBuilder, ObjectBuilder, Ref, RefOr, Schema,
    schema::{AdditionalProperties, ArrayBuilder, KnownFormat, SchemaFormat, SchemaType, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// What a client certificate is worth.
const CERTIFICATE: &str =
    "In place of a token, where the plane was started with --rest-client-ca-file: CN is the user, O the groups.";

pub(super) fn components() -> ComponentsBuilder {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let certificate = SecurityScheme::MutualTls { description: Some(CERTIFICATE.to_owned()), deprecated: None, extensions: None };
    let mut components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(scheme))
        .security_scheme("certificate", certificate)
        .schema("Problem", problem_schema())
        .schema(
            "Fault",
            object(
                &[("field", text_schema()), ("reason", text_schema()), ("line", integer()), ("column", integer())],
                &["field", "reason"],
            ),
        )
        .schema("Difference", difference())
        .schema("Written", written())
        .schema("Deleted", deleted())
        .schema("History", object(&[("items", array(entry())), ("next", nullable_text())], &["items", "next"]))
        .schema(
            "Applied",
            object(
                &[("revision", integer()), ("dryRun", flag()), ("results", array(result()))],
                &["revision", "dryRun", "results"],
            ),
        );
    for kind in Kind::ALL {
        components = components.schema(kind.name(), kind_schema(*kind));
    }
    components
}

fn problem_schema() -> RefOr<Schema> {
    object(
        &[
            ("type", text_schema()),
            ("status", integer()),
            ("title", text_schema()),
            ("detail", text_schema()),
            ("instance", text_schema()),
            ("invalid_parameters", array(reference("Fault"))),
            ("details", text_schema()),
            ("causes", array(object(&[("field", text_schema()), ("message", text_schema())], &["field", "message"]))),
            ("results", array(free_object())),
        ],
        &["type", "status", "title", "detail"],
    )
}

/// A field that differs.
fn difference() -> RefOr<Schema> {
    object(&[("field", text_schema()), ("before", anything()), ("after", anything())], &["field"])
}

fn written() -> RefOr<Schema> {
    let changes = array(reference("Difference"));
    object(&[("warnings", array(text_schema())), ("dryRun", flag()), ("result", word()), ("changes", changes)], &["warnings"])
}

fn deleted() -> RefOr<Schema> {
    object(&[("dryRun", flag()), ("result", word()), ("total", integer()), ("results", array(free_object()))], &[])
}

/// What became of one document.
fn result() -> RefOr<Schema> {
    object(
        &[
            ("index", integer()),
            ("type", text_schema()),
            ("mesh", text_schema()),
            ("name", text_schema()),
            ("result", word()),
            ("warnings", array(text_schema())),
            ("invalid_parameters", array(reference("Fault"))),
            ("etag", text_schema()),
            ("changes", array(reference("Difference"))),
        ],
        &["index", "type", "name", "result", "warnings"],
    )
}

/// One change of a history.
fn entry() -> RefOr<Schema> {
    object(
        &[
            ("revision", integer()),
            ("time", time()),
            ("subject", text_schema()),
            ("address", nullable_text()),
            ("action", one_of(&["create", "update", "delete"])),
            ("changes", array(reference("Difference"))),
        ],
        &["revision", "time", "subject", "action", "changes"],
    )
}

/// What became of a resource.
fn word() -> RefOr<Schema> {
    one_of(&["created", "updated", "unchanged", "deleted", "absent", "refused", "skipped"])
}

fn one_of(words: &[&str]) -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.to_vec())).build()))
}

fn anything() -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build()))
}

fn time() -> RefOr<Schema> {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()))
}

fn kind_schema(kind: Kind) -> RefOr<Schema> {
    let row = kind.descriptor();
    let labels = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::RefOr(text_schema()))).build();
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

pub(super) fn page(kind: Kind) -> RefOr<Schema> {
    object(&[("total", integer()), ("items", array(named(kind))), ("next", nullable_text())], &["total", "items", "next"])
}

pub(super) fn named(kind: Kind) -> RefOr<Schema> {
    reference(kind.name())
}

pub(super) fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

pub(super) fn object(fields: &[(&str, RefOr<Schema>)], required: &[&str]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().schema_type(Type::Object);
    for (name, schema) in fields {
        object = object.property(*name, schema.clone());
    }
    for name in required {
        object = object.required(*name);
    }
    RefOr::T(Schema::Object(object.build()))
}

pub(super) fn free_object() -> RefOr<Schema> {
    object(&[], &[])
}

fn array(items: RefOr<Schema>) -> RefOr<Schema> {
    RefOr::T(Schema::Array(ArrayBuilder::new().items(items).build()))
}

pub(super) fn text_schema() -> RefOr<Schema> {
    scalar(Type::String)
}

fn nullable_text() -> RefOr<Schema> {
    let kinds = SchemaType::from_iter([Type::String, Type::Null]);
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(kinds).build()))
}

pub(super) fn integer() -> RefOr<Schema> {
    scalar(Type::Integer)
}

pub(super) fn flag() -> RefOr<Schema> {
    scalar(Type::Boolean)
}

fn scalar(kind: Type) -> RefOr<Schema> {
    RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(kind).build()))
}
