//! Refuses breaking changes of `proto/atoll/link/v1`: what `link.fields` lists must stay as it is.
//!
//! `UPDATE=1` adds what is new to the list. Nothing is ever taken out of it.

use std::{collections::BTreeSet, path::PathBuf};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

#[test]
fn what_was_promised_stays() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/atoll/link/v1/link.fields");
    let now = fields();
    let promised: BTreeSet<String> = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    let broken: Vec<_> = promised.difference(&now).collect();
    assert!(broken.is_empty(), "these were promised and are gone or changed; add a new field instead: {broken:#?}");
    let new: Vec<_> = now.difference(&promised).collect();
    if new.is_empty() {
        return;
    }
    assert!(std::env::var_os("UPDATE").is_some(), "not in link.fields yet (UPDATE=1 adds them): {new:#?}");
    let all: Vec<_> = now.into_iter().map(|line| line + "\n").collect();
    std::fs::write(path, all.concat()).expect("written");
}

/// One line for each field, enum value and method.
fn fields() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(atoll_sync::proto::DESCRIPTOR).expect("a descriptor");
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == "atoll.link.v1") {
        for message in &file.message_type {
            add_message(message, "", &mut lines);
        }
        for values in &file.enum_type {
            add_enum(values, "", &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                lines.insert(format!(
                    "rpc {}.{}({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
    }
    lines
}

fn add_message(message: &DescriptorProto, outer: &str, lines: &mut BTreeSet<String>) {
    let name = format!("{outer}{}", message.name());
    for field in &message.field {
        let oneof = field.oneof_index.map_or("", |_| "oneof ");
        lines.insert(format!("{name}.{} = {} {oneof}{}{}", field.name(), field.number(), repeated(field), type_of(field)));
    }
    for nested in &message.nested_type {
        add_message(nested, &format!("{name}."), lines);
    }
    for values in &message.enum_type {
        add_enum(values, &format!("{name}."), lines);
    }
}

fn add_enum(values: &EnumDescriptorProto, outer: &str, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!("{outer}{}.{} = {}", values.name(), value.name(), value.number()));
    }
}

fn repeated(field: &FieldDescriptorProto) -> &'static str {
    if field.label() == Label::Repeated { "repeated " } else { "" }
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        other => other.as_str_name().to_lowercase().replace("type_", ""),
    }
}
