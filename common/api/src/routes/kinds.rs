//! The rows of one kind.

use atoll_model::{Kind, Scope};
use axum::{
    body::Body,
    extract::State,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;

use super::{Route, Shape, row};
use crate::{
    Plane,
    access::{Operation, Subject, Verb},
    query::Ask,
    resources,
};

/// Makes a handler of `fn(Plane, Kind, Ask)`: reads are from memory.
macro_rules! read {
    ($function:expr, $kind:expr) => {{
        let kind = $kind;
        on(MethodFilter::GET, move |State(plane): State<Plane>, ask: Ask| async move { $function(plane, kind, ask) })
    }};
}

/// Makes a handler of `async fn(Plane, Kind, Ask)`.
macro_rules! ask {
    ($method:ident, $function:expr, $kind:expr) => {{
        let kind = $kind;
        on(MethodFilter::$method, move |State(plane): State<Plane>, ask: Ask| async move { $function(plane, kind, ask).await })
    }};
}

/// The rows of a kind, under each of its plurals.
pub(super) fn rows(kind: Kind) -> Vec<Route> {
    let row = kind.descriptor();
    let plurals = [row.path].into_iter().chain(row.aliases.iter().copied());
    plurals.flat_map(|plural| Paths::of(kind, plural).rows()).collect()
}

/// The paths of a kind under one plural.
struct Paths {
    kind: Kind,
    /// Of lists, each with a suffix for the operation's name and words for people.
    lists: Vec<(String, &'static str, &'static str)>,
    item: String,
    /// Tells the operations of another plural apart from those of the first.
    alias: String,
}

impl Paths {
    fn of(kind: Kind, plural: &str) -> Self {
        let (lists, item) = match (kind, kind.descriptor().scope) {
            // The item of a mesh shares its place with the meshes of all other paths.
            (Kind::Mesh, _) => (vec![(format!("/{plural}"), "", "")], format!("/{plural}/{{mesh}}")),
            (_, Scope::Global) => (vec![(format!("/{plural}"), "", "")], format!("/{plural}/{{name}}")),
            (_, Scope::Mesh) => {
                let inside = format!("/meshes/{{mesh}}/{plural}");
                let item = format!("{inside}/{{name}}");
                (vec![(inside, "", " of a mesh"), (format!("/{plural}"), "AcrossMeshes", " of all meshes")], item)
            }
        };
        let alias = if plural == kind.descriptor().path { String::new() } else { format!("As{}", capital(plural)) };
        Self { kind, lists, item, alias }
    }

    fn rows(&self) -> Vec<Route> {
        let mut rows: Vec<Route> = self.lists.iter().flat_map(|list| self.rows_of_list(list)).collect();
        rows.extend(self.rows_of_item());
        rows
    }

    fn rows_of_list(&self, (path, suffix, place): &(String, &'static str, &'static str)) -> Vec<Route> {
        let (kind, name) = (self.kind, self.kind.name());
        let summary = format!("Lists {name} resources{place}.");
        let handler = read!(resources::list, kind);
        let mut rows = vec![self.row(Method::GET, path, format!("list{name}{suffix}"), summary, Shape::List(kind), handler)];
        if has_overview(kind) {
            let (id, summary) = (format!("list{name}Overviews{suffix}"), format!("Lists {name} resources{place} with insights."));
            let (path, handler) = (format!("{path}/_overview"), read!(resources::overviews, kind));
            rows.push(self.row(Method::GET, &path, id, summary, Shape::Overviews(kind), handler));
        }
        rows
    }

    fn rows_of_item(&self) -> Vec<Route> {
        let (kind, name, item) = (self.kind, self.kind.name(), self.item.as_str());
        let get = |path: &str, id, summary, shape, handler| self.row(Method::GET, path, id, summary, shape, handler);
        let put = on(MethodFilter::PUT, move |State(plane): State<Plane>, ask: Ask, body: Body| async move {
            resources::put(plane, kind, ask, body).await
        });
        let mut rows = vec![
            get(item, format!("get{name}"), format!("Gives one {name}."), Shape::Item(kind), ask!(GET, resources::get, kind)),
            self.row(Method::PUT, item, format!("put{name}"), format!("Creates or replaces one {name}."), Shape::Put(kind), put),
            self.row(
                Method::DELETE,
                item,
                format!("delete{name}"),
                format!("Removes one {name}."),
                Shape::Delete(kind),
                ask!(DELETE, resources::delete, kind),
            ),
            get(
                &format!("{item}/_history"),
                format!("history{name}"),
                format!("Lists what people and tokens did to one {name}."),
                Shape::History(kind),
                ask!(GET, resources::history, kind),
            ),
        ];
        if resources::WITH_HOSTNAMES.contains(&kind) {
            rows.push(get(
                &format!("{item}/_hostnames"),
                format!("hostnames{name}"),
                format!("Lists the hostnames that HostnameGenerators give one {name}."),
                Shape::Hostnames(kind),
                read!(resources::hostnames, kind),
            ));
        }
        if has_overview(kind) {
            rows.push(get(
                &format!("{item}/_overview"),
                format!("get{name}Overview"),
                format!("Gives one {name} with its insight."),
                Shape::Overview(kind),
                read!(resources::overview, kind),
            ));
        }
        if kind == Kind::Dataplane {
            rows.push(get(
                &format!("{item}/_layout"),
                format!("get{name}Layout"),
                "Says what the proxy of a Dataplane is given, and whether each direction is open.".to_owned(),
                Shape::Layout,
                read!(resources::layout, kind),
            ));
        }
        rows
    }

    fn row(&self, method: Method, path: &str, id: String, summary: String, shape: Shape, handler: MethodRouter<Plane>) -> Route {
        let verb = match shape {
            Shape::List(_) | Shape::Overviews(_) => Verb::List,
            Shape::Put(_) => Verb::Put,
            Shape::Delete(_) => Verb::Delete,
            _ => Verb::Get,
        };
        let operation = Operation { verb, subject: Subject::Kind(self.kind) };
        row(method, path, &format!("{id}{}", self.alias), &summary, operation, shape, handler)
    }
}

fn has_overview(kind: Kind) -> bool {
    matches!(kind, Kind::Zone | Kind::Dataplane)
}

/// A word with its first letter as a capital.
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
