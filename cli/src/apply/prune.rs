//! What is deleted beside what is applied: resources that carry the given labels, belong to this plane and are not in the input.
//!
//! ```text
//!   the input's kinds × its meshes ─▶ lists by label ─▶ own, by hand, not in the input ─▶ shown ─▶ confirmed ─▶ deleted
//! ```
//!
//! A Mesh and a Zone take much more with them than themselves: they are never pruned.

use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
    process::ExitCode,
};

use atoll_model::{Kind, Scope as Where, labels};
use http::{Method, StatusCode};
use serde_json::Value;

use super::sources::{Document, title};
use crate::{client::Client, kinds, selector::Selector};

/// Where pruning may look, and what it keeps.
#[derive(Debug)]
pub(super) struct Scope {
    selector: Selector,
    kinds: BTreeSet<Kind>,
    meshes: BTreeSet<String>,
    kept: BTreeSet<(Kind, String, String)>,
}

/// A resource that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Surplus {
    kind: Kind,
    mesh: String,
    name: String,
}

impl Surplus {
    fn title(&self) -> String {
        title(self.kind.name(), &self.mesh, &self.name)
    }
}

impl Scope {
    /// What the input names.
    pub(super) fn of(documents: &[Document], selector: Selector) -> Self {
        let mut scope = Self { selector, kinds: BTreeSet::new(), meshes: BTreeSet::new(), kept: BTreeSet::new() };
        for document in documents {
            let Ok(kind) = document.field("type").parse::<Kind>() else { continue };
            scope.kinds.insert(kind);
            let mesh = match kind.descriptor().scope {
                Where::Mesh => document.field("mesh").to_owned(),
                Where::Global => String::new(),
            };
            if !mesh.is_empty() {
                scope.meshes.insert(mesh.clone());
            }
            scope.kept.insert((kind, mesh, document.field("name").to_owned()));
        }
        scope
    }

    /// What is applied without the labels would never be found again by them.
    pub(super) fn warn_of_unlabelled(&self, documents: &[Document], err: &mut dyn Write) -> std::io::Result<()> {
        for one in documents.iter().filter(|one| !self.selector.matches(&one.value["labels"])) {
            let place = one.place();
            writeln!(err, "  {place}: warning: {} lacks the labels {}: no prune will delete it", one.title(), self.selector)?;
        }
        Ok(())
    }

    /// Shows what is to go, asks unless told not to, and deletes it.
    pub(super) async fn prune(
        &self,
        client: &Client,
        dry_run: bool,
        yes: bool,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let surplus = self.find(client).await?;
        if surplus.is_empty() {
            writeln!(err, "nothing to prune")?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(err, "to be deleted, because they have {} and are not in the input:", self.selector)?;
        surplus.iter().try_for_each(|one| writeln!(err, "  {}", one.title()))?;
        if dry_run {
            surplus.iter().try_for_each(|one| writeln!(out, "{} deleted (dry run)", one.title()))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !yes && !confirmed(surplus.len(), err)? {
            writeln!(err, "nothing is deleted")?;
            return Ok(ExitCode::FAILURE);
        }
        let mut all_gone = true;
        for one in &surplus {
            let path = kinds::item_path(one.kind, &one.mesh, &one.name);
            let answer = client.call(Method::DELETE, &path, &[], None).await?;
            match answer.status {
                StatusCode::NOT_FOUND => writeln!(out, "{} absent", one.title())?,
                _ => match answer.refuse() {
                    Ok(_) => writeln!(out, "{} deleted", one.title())?,
                    Err(refusal) => {
                        all_gone = false;
                        writeln!(out, "{} failed", one.title())?;
                        writeln!(err, "  {refusal:#}")?;
                    }
                },
            }
        }
        Ok(if all_gone { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn find(&self, client: &Client) -> anyhow::Result<Vec<Surplus>> {
        let origin = own_origin(&client.get_json(&[], &[]).await?);
        let query = self.selector.query();
        let query: Vec<(&str, String)> = query.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let mut meshes = Vec::new();
        for mesh in &self.meshes {
            // A dry run may name a mesh that is still to be made.
            let is_there = client.find(&["meshes", mesh], &[]).await?.is_some();
            meshes.extend(is_there.then_some(Some(mesh.as_str())));
        }
        let mut surplus = Vec::new();
        for kind in self.kinds.iter().filter(|kind| is_prunable(**kind)) {
            let places = if kind.descriptor().scope == Where::Mesh { meshes.as_slice() } else { &[None] };
            for mesh in places {
                let items = client.list(&kinds::list_path(*kind, *mesh), &query).await?;
                surplus
                    .extend(items.iter().filter(|item| self.may_go(item, origin)).filter_map(|item| self.surplus(*kind, item)));
            }
        }
        Ok(surplus)
    }

    /// Whether people wrote it on this plane, and it has the labels: the plane selected by them, a deletion looks twice.
    fn may_go(&self, item: &Value, origin: &str) -> bool {
        let has = &item["labels"];
        self.selector.matches(has) && has[labels::ORIGIN] == origin && has[labels::MANAGED_BY].is_null()
    }

    fn surplus(&self, kind: Kind, item: &Value) -> Option<Surplus> {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        let one = (kind, text("mesh"), text("name"));
        let is_known = self.kept.contains(&one);
        let (kind, mesh, name) = one;
        (!is_known && !name.is_empty()).then_some(Surplus { kind, mesh, name })
    }
}

fn is_prunable(kind: Kind) -> bool {
    !matches!(kind, Kind::Mesh | Kind::Zone)
}

/// `kuma.io/origin` of what this plane wrote itself.
fn own_origin(index: &Value) -> &'static str {
    if index["atoll"]["mode"] == "zone" { "zone" } else { "global" }
}

fn confirmed(count: usize, err: &mut dyn Write) -> std::io::Result<bool> {
    write!(err, "delete {count}? Type yes to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, "type: MeshTimeout\nmesh: shop\nname: kept\n---\ntype: Mesh\nname: shop\n").unwrap();
        Scope::of(&super::super::sources::read(&[path]).unwrap(), "team=a".parse().unwrap())
    }

    #[test]
    fn only_what_is_labelled_own_and_made_by_hand_may_go() {
        let scope = scope();
        for (labels, expected) in [
            (json!({"team": "a", "kuma.io/origin": "global"}), true),
            (json!({"team": "a", "kuma.io/origin": "zone"}), false),
            (json!({"team": "b", "kuma.io/origin": "global"}), false),
            (json!({"kuma.io/origin": "global"}), false),
            (json!({"team": "a"}), false),
            (json!({"team": "a", "kuma.io/origin": "global", "kuma.io/managed-by": "generator"}), false),
        ] {
            assert_eq!(scope.may_go(&json!({ "labels": labels }), "global"), expected, "{labels}");
        }
    }

    #[test]
    fn the_input_is_kept_and_meshes_and_zones_are_never_pruned() {
        let scope = scope();
        let item = |name: &str| json!({"mesh": "shop", "name": name});
        assert_eq!(scope.surplus(Kind::MeshTimeout, &item("kept")), None);
        assert_eq!(scope.surplus(Kind::MeshTimeout, &item("old")).unwrap().title(), "MeshTimeout shop/old");
        assert_eq!(scope.meshes, ["shop".to_owned()].into());
        assert!(!is_prunable(Kind::Mesh) && !is_prunable(Kind::Zone) && is_prunable(Kind::MeshTimeout));
    }
}
