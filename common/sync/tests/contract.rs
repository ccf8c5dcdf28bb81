//! Refuses breaking changes of the wire contracts in `proto/`: what the list of fields beside each one names must stay as it is.
//!
//! `UPDATE=1` adds what is new to the lists. Nothing is ever taken out of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

#[test]
fn what_was_promised_stays() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let contracts = contracts(&root);
    assert!(contracts.len() >= 2, "the link's and the runner's: {contracts:?}");
    for contract in contracts {
        check(&root, &contract);
    }
}

#[test]
fn a_field_that_changed_is_not_the_one_that_was_promised() {
    let fields = |text: &str| {
        let dir = std::env::temp_dir().join(format!("atoll-contract-{}-{}", std::process::id(), text.len()));
        fs::create_dir_all(&dir).expect("a folder");
        fs::write(dir.join("a.proto"), format!("syntax = \"proto3\"; package a; {text}")).expect("written");
        let fields = fields(&compile(&dir, &dir.join("a.proto")));
        fs::remove_dir_all(&dir).expect("removed");
        fields
    };
    let promised = fields("message M { string x = 1; }");
    for changed in
        ["message M { bytes x = 1; }", "message M { string x = 2; }", "message M { repeated string x = 1; }", "message M {}"]
    {
        assert!(!promised.is_subset(&fields(changed)), "{changed}");
    }
    assert!(promised.is_subset(&fields("message M { string x = 1; string y = 2; } message N {}")));
}

/// Every `.proto` file.
fn contracts(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found = entries.flat_map(|path| if path.is_dir() { contracts(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "proto")).collect()
}

fn check(root: &Path, contract: &Path) {
    let (list, now) = (contract.with_extension("fields"), fields(&compile(root, contract)));
    let promised: BTreeSet<String> = fs::read_to_string(&list).unwrap_or_default().lines().map(str::to_owned).collect();
    let broken: Vec<_> = promised.difference(&now).collect();
    let list_name = list.display();
    assert!(broken.is_empty(), "{list_name}: these were promised and are gone or changed; add a new field instead: {broken:#?}");
    let new: Vec<_> = now.difference(&promised).collect();
    if new.is_empty() {
        return;
    }
    assert!(std::env::var_os("UPDATE").is_some(), "not in {list_name} yet (UPDATE=1 adds them): {new:#?}");
    let all: Vec<_> = now.into_iter().map(|line| line + "\n").collect();
    fs::write(&list, all.concat()).expect("written");
}

fn compile(root: &Path, contract: &Path) -> FileDescriptorProto {
    let set = protox::compile([contract], [root]).expect("it compiles");
    let name = contract.strip_prefix(root).expect("a file of the root").to_str().expect("UTF-8");
    set.file.into_iter().find(|file| file.name() == name).expect("the file itself")
}

/// One line for each field, enum value and method.
fn fields(file: &FileDescriptorProto) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
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
