//! From a parsed value to a document that may be stored: every fault with its field path, and what the author should know.

use atoll_model::{
    Kind, Labels, Name, ResourceKey, Scope, Style, Violation,
    document::Document,
    labels::{self, Viewpoint},
    names, resource, sni,
};
use atoll_store::TableSnapshot;
use bytes::Bytes;
use serde_json::Value;

use crate::{Plane, present};

/// What the request's path says of the document.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) mesh: Name,
    pub(crate) name: Name,
}

/// A document that may be stored.
pub(crate) struct Reviewed {
    pub(crate) key: ResourceKey,
    pub(crate) labels: Labels,
    pub(crate) spec: Bytes,
}

/// What a review found.
pub(crate) struct Review {
    /// The document, or every fault of it.
    pub(crate) outcome: Result<Reviewed, Vec<Violation>>,
    /// What its author should know either way.
    pub(crate) warnings: Vec<String>,
}

impl Review {
    fn refused(faults: Vec<Violation>) -> Self {
        Self { outcome: Err(faults), warnings: Vec::new() }
    }
}

/// Whether what is known but not enforced, or not known, is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    Lenient,
    Strict,
}

/// Reviews the body of a write to `target`.
pub(crate) fn of_target(plane: &Plane, table: &TableSnapshot, target: &Target, value: Value, strictness: Strictness) -> Review {
    let (value, naming) = Naming::of(target, value);
    let mut document = match Document::from_value(value, Some(target.kind)) {
        Ok(document) => document,
        Err(faults) => return Review::refused(faults),
    };
    document.name.clone_from(&target.name);
    document.mesh.clone_from(&target.mesh);
    complete(plane, table, document, naming, strictness)
}

/// How a body names what its path names.
#[derive(Default)]
struct Naming {
    /// It says otherwise.
    different: Vec<Violation>,
    /// It says nothing: a fault too, as Kuma has it, once the spec has none.
    missing: Vec<&'static str>,
}

impl Naming {
    /// Compares, and leaves the body with the type that the path means.
    fn of(target: &Target, mut value: Value) -> (Value, Self) {
        let mut naming = Self::default();
        let row = target.kind.descriptor();
        let Value::Object(fields) = &mut value else { return (value, naming) };
        let in_mesh = row.scope == Scope::Mesh;
        let wanted = [("name", &*target.name), ("type", target.kind.name()), ("mesh", &*target.mesh)];
        for (field, wanted) in wanted.into_iter().filter(|(field, _)| *field != "mesh" || in_mesh) {
            let new_style_type = field == "type" && row.style == Style::Spec;
            match fields.get(field) {
                None | Some(Value::Null) => naming.missing.push(field),
                Some(Value::String(given)) if given.is_empty() => naming.missing.push(field),
                Some(Value::String(given)) if given != wanted && !new_style_type => naming.different.push(other_than_url(field)),
                // What is no text, and the type of a new-style document, is the document's own fault.
                Some(_) => {}
            }
            if field == "type" && !new_style_type {
                fields.insert(field.to_owned(), wanted.into());
            }
        }
        (value, naming)
    }

    /// The faults of missing names, first and last among the others.
    fn faults_of_missing(&self, style: Style) -> (Vec<Violation>, Vec<Violation>) {
        let by_shape = |field: &str| style == Style::Spec && field != "mesh";
        let first = self.missing.iter().map(|field| match by_shape(field) {
            true => Violation::new("", format!("{field} in body is required")),
            false => other_than_url(field),
        });
        let last = self.missing.iter().filter(|field| !by_shape(field) && **field != "type");
        (first.collect(), last.map(|field| Violation::new(*field, "cannot be empty")).collect())
    }
}

fn other_than_url(field: &str) -> Violation {
    Violation::new(field, format!("{field} from the URL has to be the same as in body"))
}

/// Reviews a document that names itself.
pub(crate) fn of_document(plane: &Plane, table: &TableSnapshot, value: Value, strictness: Strictness) -> Review {
    let document = match Document::from_value(value, None) {
        Ok(document) => document,
        Err(faults) => return Review::refused(faults),
    };
    let mut faults = Vec::new();
    if document.kind.descriptor().scope == Scope::Mesh {
        faults.extend(names::mesh_fault(&document.mesh).map(|fault| Violation::new("mesh", fault)));
    }
    if !plane.viewpoint.may_write(document.kind) {
        faults.push(Violation::new("type", crate::plane::read_only_reason(&plane.viewpoint, document.kind)));
    }
    complete(plane, table, document, Naming { different: faults, missing: Vec::new() }, strictness)
}

fn complete(plane: &Plane, table: &TableSnapshot, mut document: Document, naming: Naming, strictness: Strictness) -> Review {
    let row = document.kind.descriptor();
    drop_computed(&mut document);
    let checked = (row.check)(&document.spec);
    let (first, last) = if checked.violations.is_empty() { naming.faults_of_missing(row.style) } else { Default::default() };
    let mut faults: Vec<Violation> = naming.different.into_iter().chain(first).collect();
    faults.extend(name_fault(&plane.viewpoint, &document));
    faults.extend(checked.violations);
    faults.extend(labels::check(&plane.viewpoint, document.kind, &document.mesh, &document.labels));
    faults.extend(label_limits(plane, &document));
    faults.extend(last);
    faults.extend(plane.admission.review_put(table, &document));
    let mut warnings = document.warnings();
    warnings.extend(checked.unknown.iter().map(|field| format!("unknown field {field}: it is stored and has no effect")));
    warnings.extend(checked.not_enforced.iter().map(|field| format!("{field} is stored, not enforced by this version")));
    if !row.enforced {
        warnings.push(format!("{} is stored, not enforced by this version", document.kind));
    }
    if strictness == Strictness::Strict {
        faults.extend(checked.unknown.into_iter().map(|field| Violation::new(field, "unknown field")));
        let silent = checked.not_enforced.into_iter().chain((!row.enforced).then(|| "type".to_owned()));
        faults.extend(silent.map(|field| Violation::new(field, "not enforced by this version")));
    }
    let spec = resource::canonical_json(&document.spec);
    let labels = labels::stored(document.labels);
    if spec.len() + resource::labels_json(&labels).len() > plane.limits().limit_resource {
        faults.push(Violation::new("", format!("a resource has at most {} bytes", plane.limits().limit_resource)));
    }
    let key = ResourceKey::new(document.kind, document.mesh, document.name, plane.viewpoint.owner());
    warnings.extend(server_name_warnings(plane, table, &key, &document.spec));
    let outcome = if faults.is_empty() { Ok(Reviewed { key, labels, spec }) } else { Err(faults) };
    Review { outcome, warnings }
}

/// What is wrong with the name. One of a zone must leave room for the zone's before it.
fn name_fault(viewpoint: &Viewpoint, document: &Document) -> Option<Violation> {
    let fault = names::name_fault(&document.name, document.kind.descriptor().label_name);
    let fault = fault.or_else(|| match viewpoint {
        Viewpoint::Zone { name: zone, federated: true, .. } if zone.len() + 1 + document.name.len() >= 253 => {
            Some("the length of the name must be shorter".to_owned())
        }
        Viewpoint::Global | Viewpoint::Zone { .. } => None,
    });
    fault.map(|fault| Violation::new("name", fault))
}

/// Fields that planes compute come back with every document that was read before it was written: they are not the author's.
fn drop_computed(document: &mut Document) {
    if let Value::Object(fields) = &mut document.spec {
        for field in document.kind.descriptor().computed {
            fields.remove(*field);
        }
    }
}

/// Kuma's words for the label that names a workload.
const WORKLOAD_RULE: &str = "must be a valid DNS-1035 label (at most 63 characters, matching regex [a-z]([-a-z0-9]*[a-z0-9])?)";

fn label_limits(plane: &Plane, document: &Document) -> Vec<Violation> {
    let mut faults = Vec::new();
    let most = plane.limits().limit_labels;
    if document.labels.len() > most {
        faults.push(Violation::new("labels", format!("a resource has at most {most} labels")));
    }
    if document.kind == Kind::Dataplane
        && let Some(workload) = document.labels.get(labels::WORKLOAD)
    {
        let wrong = names::label_faults(workload);
        if !wrong.is_empty() {
            let message = format!("{WORKLOAD_RULE}: {}", wrong.join("; "));
            faults.push(Violation::new(format!("labels[{:?}]", labels::WORKLOAD), message));
        }
    }
    faults
}

/// A port whose parts make no server name cannot be reached by mesh TLS from elsewhere.
fn server_name_warnings(plane: &Plane, table: &TableSnapshot, key: &ResourceKey, spec: &Value) -> Vec<String> {
    if !present::has_server_names(key.kind) {
        return Vec::new();
    }
    let kri = present::kri(plane, table, key);
    present::sections(spec)
        .flat_map(|(_, section)| {
            let faults = sni::faults(&kri.with_section(&section)).into_iter();
            faults.map(move |fault| format!("Invalid {} SNI (port {section:?}): {fault}. This is deprecated.", key.kind))
        })
        .collect()
}
