//! HostnameGenerators: which hostname belongs to which service.
//!
//! A generator that matches a service claims a hostname for it. Of several services that claim one name, the first in the order
//! of (generator, service) has it: generators of zones before global's, older before younger, then by name; services by age,
//! then by name. A name leads to one service of a mesh, whichever its kind.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{
    Kind, Labels, Name, Resource, ResourceKey, Timestamp,
    condition::{Condition, ConditionStatus},
    hostname::{self, HostnameFields},
    kinds::{HostnameGenerator, hostname_generator::LabelSelector},
    labels,
};

use crate::{context::Context, snapshot::GeneratorStatus};

/// A generator's place in the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GeneratorOrder {
    /// 0 for a zone's.
    rank: u8,
    created: Timestamp,
    name: String,
    key: ResourceKey,
}

/// A generator of hostnames.
#[derive(Debug)]
pub(crate) struct Generator {
    /// Of which services.
    kind: Kind,
    selector: Labels,
    template: String,
}

/// The generators in their order.
#[derive(Debug, Default)]
pub(crate) struct Generators {
    order: BTreeMap<ResourceKey, GeneratorOrder>,
    generators: BTreeMap<GeneratorOrder, Generator>,
}

impl Generators {
    /// Takes a generator, or its end; returns the places in the order whose claims must be made again.
    pub(crate) fn set(&mut self, key: &ResourceKey, generator: Option<(GeneratorOrder, Generator)>) -> BTreeSet<GeneratorOrder> {
        let mut touched = BTreeSet::new();
        if let Some(old) = self.order.remove(key) {
            self.generators.remove(&old);
            touched.insert(old);
        }
        if let Some((order, generator)) = generator {
            self.order.insert(key.clone(), order.clone());
            self.generators.insert(order.clone(), generator);
            touched.insert(order);
        }
        touched
    }
}

impl Generators {
    /// The shape of the names that each generator makes.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = String> {
        self.generators.values().filter_map(|generator| shape(&generator.template))
    }
}

/// The labels of a template's names: those that hold an action as `*`. None unless the last is fixed. An action whose value has
/// dots makes names of other shapes, which are not known to be the mesh's then.
fn shape(template: &str) -> Option<String> {
    let (mut labels, mut rest) = (vec![String::new()], template.trim());
    while let Some(next) = rest.chars().next() {
        let label = labels.last_mut()?;
        if let Some(action) = rest.strip_prefix("{{") {
            label.push('*');
            rest = &action[action.find("}}")? + 2..];
            continue;
        }
        match next {
            '.' => labels.push(String::new()),
            _ => label.push(next.to_ascii_lowercase()),
        }
        rest = &rest[next.len_utf8()..];
    }
    let fixed = labels.last().is_some_and(|label| !label.is_empty() && !label.contains('*'));
    let labels = labels.iter().map(|label| if label.contains('*') { "*" } else { label });
    fixed.then(|| labels.collect::<Vec<_>>().join("."))
}

/// Reads a generator; `Ok(None)` for one that is about services without effect here.
pub(crate) fn read(context: &Context, resource: &Resource) -> Result<Option<(GeneratorOrder, Generator)>, serde_json::Error> {
    let spec: HostnameGenerator = resource.parse()?;
    let selector = spec.selector;
    let of_kind = |selector: Option<LabelSelector>, kind| selector.map(|selector| (kind, selector.match_labels));
    let of_zones = || of_kind(selector.mesh_multi_zone_service, Kind::MeshMultiZoneService);
    let Some((kind, selector)) = of_kind(selector.mesh_service, Kind::MeshService).or_else(of_zones) else { return Ok(None) };
    let order = GeneratorOrder {
        rank: u8::from(context.viewpoint.origin(resource.key.owner) != "zone"),
        created: resource.created,
        name: context.shown_name(&resource.key, ""),
        key: resource.key.clone(),
    };
    Ok(Some((order, Generator { kind, selector, template: spec.template })))
}

/// A service as generators see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) key: ResourceKey,
    pub(crate) created: Timestamp,
    pub(crate) alias: String,
    pub(crate) labels: Labels,
    pub(crate) zone: Name,
}

/// A service's place in the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ServiceOrder {
    created: Timestamp,
    alias: String,
    key: ResourceKey,
}

/// The claims of one mesh.
#[derive(Debug, Default)]
pub(crate) struct Hostnames {
    services: BTreeMap<ResourceKey, Claims>,
    /// Who claims a hostname; the first has it.
    claimants: BTreeMap<String, BTreeSet<(GeneratorOrder, ServiceOrder)>>,
}

#[derive(Debug)]
struct Claims {
    named: Named,
    by_generator: BTreeMap<GeneratorOrder, Result<String, String>>,
}

impl Claims {
    fn order(&self) -> ServiceOrder {
        ServiceOrder { created: self.named.created, alias: self.named.alias.clone(), key: self.named.key.clone() }
    }
}

impl Hostnames {
    /// Takes a service as it is now; returns the services whose names may differ, if any.
    pub(crate) fn set(&mut self, context: &Context, named: Named) -> BTreeSet<ResourceKey> {
        if self.services.get(&named.key).is_some_and(|claims| claims.named == named) {
            return BTreeSet::new();
        }
        let mut touched = self.remove(&named.key);
        let key = named.key.clone();
        self.services.insert(key.clone(), Claims { named, by_generator: BTreeMap::new() });
        for (order, generator) in &context.generators.generators {
            self.claim(context, &key, order, generator, &mut touched);
        }
        touched.insert(key);
        touched
    }

    /// Forgets a service; returns the services whose names may differ.
    pub(crate) fn remove(&mut self, key: &ResourceKey) -> BTreeSet<ResourceKey> {
        let mut touched = BTreeSet::new();
        let Some(claims) = self.services.get(key) else { return touched };
        let orders: Vec<_> = claims.by_generator.keys().cloned().collect();
        for order in orders {
            self.withdraw(key, &order, &mut touched);
        }
        self.services.remove(key);
        touched.remove(key);
        touched
    }

    /// Makes the claims of these generators again; returns the services whose names may differ.
    pub(crate) fn regenerate(&mut self, context: &Context, orders: &BTreeSet<GeneratorOrder>) -> BTreeSet<ResourceKey> {
        let mut touched = BTreeSet::new();
        let keys: Vec<_> = self.services.keys().cloned().collect();
        for order in orders {
            for key in &keys {
                self.withdraw(key, order, &mut touched);
                if let Some(generator) = context.generators.generators.get(order) {
                    self.claim(context, key, order, generator, &mut touched);
                }
            }
        }
        touched
    }

    /// The hostnames of a service, sorted, and what each generator made of it, by the generator's name.
    pub(crate) fn of(&self, key: &ResourceKey) -> (Vec<String>, Vec<GeneratorStatus>) {
        let Some(claims) = self.services.get(key) else { return Default::default() };
        let mut hostnames = BTreeSet::new();
        let mut generators = Vec::new();
        for (order, claim) in &claims.by_generator {
            let (hostname, condition) = match claim {
                Ok(hostname) => self.judge(key, hostname),
                Err(error) => (None, generated(ConditionStatus::False, "TemplateError", error.clone())),
            };
            hostnames.extend(hostname.clone());
            generators.push(GeneratorStatus { generator: order.key.clone(), name: order.name.clone(), hostname, condition });
        }
        generators.sort_by(|a, b| (&a.name, &a.generator).cmp(&(&b.name, &b.generator)));
        (hostnames.into_iter().collect(), generators)
    }

    fn judge(&self, key: &ResourceKey, hostname: &str) -> (Option<String>, Condition) {
        let first = self.claimants.get(hostname).and_then(BTreeSet::first);
        match first {
            Some((_, winner)) if winner.key != *key => {
                let message = format!("{hostname} belongs to {} already", winner.alias);
                (None, generated(ConditionStatus::False, "Collision", message))
            }
            Some(_) | None => (Some(hostname.to_owned()), generated(ConditionStatus::True, "Generated", String::new())),
        }
    }

    fn claim(
        &mut self,
        context: &Context,
        key: &ResourceKey,
        order: &GeneratorOrder,
        generator: &Generator,
        touched: &mut BTreeSet<ResourceKey>,
    ) {
        let Some(claims) = self.services.get_mut(key) else { return };
        if generator.kind != key.kind || !labels::matches(&generator.selector, &claims.named.labels) {
            return;
        }
        touched.insert(key.clone());
        let claim = render(context, &generator.template, &claims.named);
        if let Ok(hostname) = &claim {
            let claimants = self.claimants.entry(hostname.clone()).or_default();
            touched.extend(claimants.iter().map(|(_, service)| service.key.clone()));
            claimants.insert((order.clone(), claims.order()));
        }
        claims.by_generator.insert(order.clone(), claim);
    }

    fn withdraw(&mut self, key: &ResourceKey, order: &GeneratorOrder, touched: &mut BTreeSet<ResourceKey>) {
        let Some(claims) = self.services.get_mut(key) else { return };
        let Some(claim) = claims.by_generator.remove(order) else { return };
        touched.insert(key.clone());
        let Ok(hostname) = claim else { return };
        let Some(claimants) = self.claimants.get_mut(&hostname) else { return };
        claimants.remove(&(order.clone(), claims.order()));
        touched.extend(claimants.iter().map(|(_, service)| service.key.clone()));
        if claimants.is_empty() {
            self.claimants.remove(&hostname);
        }
    }
}

fn render(context: &Context, template: &str, service: &Named) -> Result<String, String> {
    let fields = HostnameFields {
        name: &service.alias,
        display_name: &service.key.name,
        mesh: &service.key.mesh,
        zone: if service.zone.is_empty() { &context.zone } else { &service.zone },
        labels: &service.labels,
    };
    hostname::hostname(template, &fields).map_err(|error| error.to_string())
}

fn generated(status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind: "Generated".to_owned(), status, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_names_follows_from_the_template() {
        for (template, expected) in [
            ("{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp", Some("*.*.mesh.acme.corp")),
            ("{{.Name}}.svc.{{label \"a.b/c\"}}.Local", Some("*.svc.*.local")),
            ("v1-{{ .Name }}.mesh", Some("*.mesh")),
            ("fixed.mesh", Some("fixed.mesh")),
            ("{{ .DisplayName }}", None),
            ("{{ .DisplayName }}.{{ .Zone }}", None),
            ("{{ .DisplayName ", None),
        ] {
            assert_eq!(shape(template).as_deref(), expected, "{template}");
        }
    }
}
