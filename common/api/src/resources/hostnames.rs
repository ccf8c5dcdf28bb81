//! The hostnames that HostnameGenerators give a service, as each zone sees them.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{
    Kind, Name, Owner, Resource, ResourceKey, ZoneUid, alias,
    hostname::{self, HostnameFields},
    kinds::{Access, HostnameGenerator, Zone},
    labels::{self, Viewpoint},
    names,
};
use atoll_store::TableSnapshot;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::mesh_of;
use crate::{Plane, Problem, naming, negotiate, present, query::Ask};

/// The kinds that have hostnames, in Kuma's order.
pub(crate) const KINDS: [Kind; 3] = [Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];
const TITLE: &str = "could not retrieve service";

/// The hostnames of one service.
pub(crate) fn hostnames(plane: Plane, kind: Kind, ask: Ask) -> Result<Response, Problem> {
    let table = plane.store.snapshot();
    let mesh = mesh_of(kind, ask.path.mesh());
    let service = naming::find(&plane, &table, kind, &mesh, &ask.path.name(), &ask.permit, TITLE)?;
    ask.permit.require(&plane, &table, Access::Get, &service.key, TITLE)?;
    let mut views = views(&plane, &table);
    views.retain(|view| view.zone.as_ref().is_none_or(|zone| ask.permit.sees(&plane, &table, zone)));
    let body = shown(&Subject::of(&plane, &table, service), &views, table.list(Kind::HostnameGenerator, None).map(AsRef::as_ref));
    Ok(negotiate::with_revision(negotiate::json(StatusCode::OK, &body), table.revision()))
}

/// Other kinds have none.
pub(crate) async fn no_hostnames(_: Plane, _: Ask) -> Result<Response, Problem> {
    let kinds = KINDS.map(|kind| kind.descriptor().path).join(",");
    let none: [atoll_model::Violation; 0] = [];
    Err(Problem::invalid(format!("only {kinds:?} are available for inspection"), none))
}

/// A zone that looks.
struct View {
    viewpoint: Viewpoint,
    name: Name,
    /// Its resource; none for the plane itself, and for the zone that is none yet.
    zone: Option<ResourceKey>,
    /// Whether there is such a zone.
    real: bool,
}

impl View {
    fn new(name: Name, uid: ZoneUid) -> Self {
        Self { viewpoint: Viewpoint::Zone { name: name.clone(), uid, federated: true }, name, zone: None, real: true }
    }
}

/// A zone looks for itself, global for all that are enabled, and for one that may come: what a generator says is known before.
fn views(plane: &Plane, table: &TableSnapshot) -> Vec<View> {
    if let Viewpoint::Zone { name, uid, .. } = &plane.viewpoint {
        return vec![View::new(name.clone(), *uid)];
    }
    let view = |resource: &Resource| {
        let zone: Zone = resource.parse().ok()?;
        let view = View::new(resource.key.name.clone(), zone.uid.filter(|_| zone.is_enabled())?);
        Some(View { zone: Some(resource.key.clone()), ..view })
    };
    let mut views: Vec<View> = table.list(Kind::Zone, None).filter_map(|resource| view(resource)).collect();
    views.push(View { real: false, ..View::new(Name::none(), ZoneUid(uuid::Uuid::nil())) });
    views
}

/// The service that is asked about.
struct Subject<'a> {
    resource: &'a Resource,
    /// Its zone; none for what global gives.
    zone: Option<Name>,
    /// Whether names of its kind lead anywhere in this version.
    enforced: bool,
}

impl<'a> Subject<'a> {
    fn of(plane: &Plane, table: &TableSnapshot, resource: &'a Resource) -> Self {
        let enforced = resource.key.kind.descriptor().enforced;
        Self { zone: present::zone(plane, table, &resource.key), resource, enforced }
    }

    /// The hostname that a generator gives it, as a zone sees both.
    fn hostname(&self, generator: &HostnameGenerator, view: &View) -> Option<String> {
        let key = &self.resource.key;
        let selector = match key.kind {
            Kind::MeshService => &generator.selector.mesh_service,
            Kind::MeshExternalService => &generator.selector.mesh_external_service,
            _ => &generator.selector.mesh_multi_zone_service,
        };
        let labels = labels::present(&view.viewpoint, key, &self.resource.labels, self.zone.as_deref());
        if !labels::matches(&selector.as_ref()?.match_labels, &labels) {
            return None;
        }
        let zone = self.zone.as_deref().unwrap_or(&view.name);
        let is_own = key.owner == view.viewpoint.owner();
        let alias = alias::alias(&key.mesh, &key.name, self.zone.as_deref().unwrap_or_default());
        let name = if is_own { key.name.as_str() } else { &alias };
        let fields = HostnameFields { name, display_name: &key.name, mesh: &key.mesh, zone, labels: &labels };
        hostname::text(&generator.template, &fields).ok()
    }
}

/// `zones` is Kuma's: the zone of the service, for want of one its name. `seenIn` are the zones in which the name is given.
fn shown<'a>(service: &Subject<'_>, views: &[View], generators: impl Iterator<Item = &'a Resource>) -> Value {
    let mut by_hostname: BTreeMap<String, BTreeSet<&Name>> = BTreeMap::new();
    for resource in generators {
        let Ok(generator) = resource.parse::<HostnameGenerator>() else { continue };
        let holds = |view: &&View| resource.key.owner == Owner::Global || resource.key.owner == view.viewpoint.owner();
        for view in views.iter().filter(holds) {
            let Some(hostname) = service.hostname(&generator, view) else { continue };
            let is_given = view.real && service.enforced && names::is_hostname(&hostname);
            by_hostname.entry(hostname).or_default().extend(is_given.then_some(&view.name));
        }
    }
    let zone = service.zone.as_ref().unwrap_or(&service.resource.key.name);
    let item = |(hostname, seen): (&String, &BTreeSet<&Name>)| {
        json!({
            "hostname": hostname, "zones": [{"name": zone}], "seenIn": seen,
        })
    };
    let items: Vec<Value> = by_hostname.iter().map(item).collect();
    // Kuma's list of nothing is null.
    json!({"total": items.len(), "items": if items.is_empty() { Value::Null } else { items.into() }})
}
