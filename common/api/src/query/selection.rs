//! Which items of a list: Kuma's filters.

use std::sync::Arc;

use atoll_model::{ContentHash, Kind, Labels, Name, Resource, Scope, kinds::Dataplane};
use atoll_store::TableSnapshot;

use super::{Ask, Parameters};
use crate::{
    Plane, Problem, present,
    problem::{Invalid, title},
};

/// The items of a list that a client wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) kind: Kind,
    /// The mesh that the path names; none across meshes and for kinds beside the meshes.
    pub(crate) mesh: Option<Name>,
    name: Option<String>,
    labels: Labels,
    /// Of dataplanes: gateways only, or all others.
    gateway: Option<bool>,
    /// Of dataplanes: labels that contain a text.
    tags: Vec<(String, String)>,
}

impl Selection {
    /// What a request for a list of `kind` asks for.
    pub(crate) fn of(kind: Kind, ask: &Ask) -> Result<Self, Problem> {
        let mesh = Some(ask.path.mesh()).filter(|mesh| !mesh.is_empty() && kind.descriptor().scope == Scope::Mesh);
        Self::read(kind, mesh, &ask.query)
    }

    pub(super) fn read(kind: Kind, mesh: Option<Name>, query: &Parameters) -> Result<Self, Problem> {
        let path = kind.descriptor().path;
        // Kuma names the route in faults.
        let route = if mesh.is_some() { format!("/meshes/{{mesh}}/{path}") } else { format!("/{path}") };
        let mut faults = Vec::new();
        let labels = labels(query, &mut faults);
        let gateway = if kind == Kind::Dataplane { gateway(query, &mut faults) } else { None };
        if !faults.is_empty() {
            let invalid = |(key, reason): (&str, String)| Invalid { field: format!("{route}.{key}"), reason, position: None };
            return Err(Problem::invalid(title::LIST, faults.into_iter().map(invalid)));
        }
        let tags = if kind == Kind::Dataplane { tags(query) } else { Vec::new() };
        let name = query.text("name").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { kind, mesh, name, labels, gateway, tags })
    }

    /// The resources among which is chosen, in the order of lists.
    pub(crate) fn candidates<'a>(&'a self, table: &'a TableSnapshot) -> impl Iterator<Item = &'a Arc<Resource>> {
        table.list(self.kind, self.mesh.as_ref())
    }

    /// Whether a resource of the kind and mesh is one of those that the client wants to see.
    pub(crate) fn holds(&self, plane: &Plane, table: &TableSnapshot, resource: &Resource) -> bool {
        let shows = |(label, value): (&String, &String)| present::shows_label(plane, table, resource, label, value);
        self.labels.iter().all(shows)
            && self.tags.iter().all(|tag| contains(plane, table, resource, tag))
            && self.name.as_ref().is_none_or(|part| is_named(plane, table, resource, part))
            && self.gateway.is_none_or(|wanted| is_gateway(resource) == wanted)
    }

    /// Names what is asked for, so that a page of one list is not continued in another.
    pub(crate) fn digest(&self) -> u64 {
        let Self { kind, mesh, name, labels, gateway, tags } = self;
        let text = format!("{kind}\n{mesh:?}\n{name:?}\n{gateway:?}\n{tags:?}");
        (ContentHash::of(labels, text.as_bytes()).0 >> 64) as u64
    }
}

fn labels<'a>(query: &'a Parameters, faults: &mut Vec<(&'a str, String)>) -> Labels {
    let mut labels = Labels::new();
    for (key, value) in &query.0 {
        let Some(filter) = key.strip_prefix("filter[") else { continue };
        match (filter.strip_suffix(']'), filter.strip_prefix("labels.")) {
            (Some(inner), _) if inner.contains("][") => faults.push((key, "advanced filters are not supported".to_owned())),
            (Some(_), Some(label)) => {
                labels.insert(label.trim_end_matches(']').to_owned(), value.clone());
            }
            _ => faults.push((key, "filters are only supported on labels".to_owned())),
        }
    }
    labels
}

/// `gateway=true`, `false` or `delegated`: delegated gateways are the only ones left.
fn gateway(query: &Parameters, faults: &mut Vec<(&str, String)>) -> Option<bool> {
    let given = query.text("gateway")?.to_ascii_lowercase();
    match given.as_str() {
        "" => None,
        "true" | "delegated" => Some(true),
        "false" => Some(false),
        other => {
            faults.push(("gateway", format!("should use `true`, `false` or `delegated` instead of {other}")));
            None
        }
    }
}

/// `tag=key:part`; what has no colon is left out, as Kuma does.
fn tags(query: &Parameters) -> Vec<(String, String)> {
    let pairs = query.texts("tag").filter_map(|tag| tag.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Whether the name in answers, or the one that its author gave, contains a text.
fn is_named(plane: &Plane, table: &TableSnapshot, resource: &Resource, part: &str) -> bool {
    resource.key.name.contains(part)
        || (present::has_alias(plane, &resource.key) && present::alias_of(plane, table, &resource.key).contains(part))
}

/// Whether a label contains a text; `*` stands for any.
fn contains(plane: &Plane, table: &TableSnapshot, resource: &Resource, (label, part): &(String, String)) -> bool {
    let held = |labels: &Labels| labels.get(label).is_some_and(|held| part == "*" || held.contains(part.as_str()));
    // Labels that planes compute are made only where the stored ones do not decide.
    held(&resource.labels) || held(&present::shown_labels(plane, table, resource))
}

fn is_gateway(resource: &Resource) -> bool {
    // Most dataplanes are told apart without parsing them.
    let word: &[u8] = b"\"gateway\"";
    resource.spec.windows(word.len()).any(|window| window == word)
        && resource.parse::<Dataplane>().is_ok_and(|dataplane| dataplane.networking.is_some_and(|it| it.gateway.is_some()))
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn read(kind: Kind, query: &str) -> Result<Selection, Problem> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        Selection::read(kind, None, &Parameters::of(&uri).unwrap())
    }

    #[test]
    fn filters_are_labels_only() {
        let selection = read(Kind::MeshTimeout, "filter[labels.a.b/c]=1&filter%5Blabels.d%5D=2&name=x").unwrap();
        assert_eq!(selection.labels, [("a.b/c", "1"), ("d", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        for (query, reason) in
            [("filter[spec.x]=1", "only supported on labels"), ("filter[labels.a][eq]=1", "advanced filters are not supported")]
        {
            assert!(read(Kind::MeshTimeout, query).unwrap_err().invalid[0].reason.contains(reason), "{query}");
        }
    }

    #[test]
    fn dataplanes_have_more_filters() {
        let selection = read(Kind::Dataplane, "gateway=Delegated&tag=a:b:c&tag=nothing&tag=d:").unwrap();
        assert_eq!(selection.gateway, Some(true));
        assert_eq!(selection.tags, [("a", "b:c"), ("d", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let refused = read(Kind::Dataplane, "gateway=builtin").unwrap_err();
        assert_eq!(refused.invalid[0].field, "/dataplanes.gateway");
        assert_eq!(read(Kind::MeshTimeout, "gateway=builtin&tag=a:b").unwrap().tags, []);
    }

    #[test]
    fn different_selections_have_different_digests() {
        let queries = ["", "name=a", "name=b", "filter[labels.a]=1", "filter[labels.a]=2", "gateway=true", "tag=a:b"];
        let mut digests: Vec<_> = queries.iter().map(|query| read(Kind::Dataplane, query).unwrap().digest()).collect();
        digests.push(read(Kind::MeshTimeout, "").unwrap().digest());
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), queries.len() + 1);
    }
}
