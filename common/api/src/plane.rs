//! What the API needs of the plane that it speaks for.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use atoll_model::{Clock, Kind, ResourceKey, Violation, document::Document, labels::Viewpoint};
use atoll_store::{Store, TableSnapshot};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Authenticate, IssueTokens, Links,
    access::{DeniedCounts, Known, RoleCache, Roles, Throttle},
    limits::Limits,
    present,
};

/// A plane, as the API sees it; clones share it.
#[derive(Clone)]
pub struct Plane(Arc<Whole>);

/// The parts, and what the API keeps of its callers.
struct Whole {
    parts: PlaneParts,
    roles: RoleCache,
    throttle: Throttle,
    known: Known,
    denied: Arc<DeniedCounts>,
    rendered: present::Cache,
    limits: Limits,
    openapi: OnceLock<Bytes>,
}

impl Plane {
    /// Joins the parts.
    pub fn new(parts: PlaneParts) -> Self {
        Self::within(parts, Limits::default())
    }

    /// Joins the parts, under limits of one's own.
    pub fn within(parts: PlaneParts, limits: Limits) -> Self {
        let (roles, throttle, known, denied, rendered, openapi) = Default::default();
        Self(Arc::new(Whole { parts, roles, throttle, known, denied, rendered, limits, openapi }))
    }

    /// Its OpenAPI document, once it was asked for.
    pub(crate) fn openapi(&self) -> &OnceLock<Bytes> {
        &self.0.openapi
    }

    /// What it takes from its clients.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Resources as text.
    pub(crate) fn rendered(&self) -> &present::Cache {
        &self.0.rendered
    }

    /// Who may do what, by the roles in a table.
    pub fn roles(&self, table: &TableSnapshot) -> Arc<Roles> {
        self.0.roles.of(table, self.viewpoint.owner())
    }

    /// How often requests were turned away.
    pub fn denied_counts(&self) -> Arc<DeniedCounts> {
        Arc::clone(&self.0.denied)
    }

    pub(crate) fn known(&self) -> &Known {
        &self.0.known
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }
}

impl Deref for Plane {
    type Target = PlaneParts;
    fn deref(&self) -> &PlaneParts {
        &self.0.parts
    }
}

/// The parts of a plane that the API uses.
pub struct PlaneParts {
    /// Which plane answers.
    pub viewpoint: Viewpoint,
    /// Its resources.
    pub store: Store,
    /// Its time.
    pub clock: Arc<dyn Clock>,
    /// Who judges user tokens.
    pub authenticate: Arc<dyn Authenticate>,
    /// Who makes tokens.
    pub tokens: Arc<dyn IssueTokens>,
    /// Who knows how resources fare.
    pub status: Arc<dyn StatusSource>,
    /// Rules of this plane beyond what a document says by itself.
    pub admission: Arc<dyn Admission>,
    /// Its links with other planes.
    pub links: Arc<dyn Links>,
    /// What `GET /` says.
    pub info: Info,
    /// What `GET /config` shows: the effective configuration, secrets redacted.
    pub config: Value,
    /// Whether the plane can do its job; the text says what it lacks.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// What `GET /` says: Kuma's fields, for its clients' sake, and our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The host's name.
    pub hostname: String,
    /// `Kuma`.
    pub product: String,
    /// The version of Kuma whose API this is.
    pub version: String,
    /// This instance.
    pub instance_id: String,
    /// This cluster of instances.
    pub cluster_id: String,
    /// Path of a graphical interface, or empty.
    pub gui: String,
    /// Who really answers.
    pub atoll: AtollInfo,
}

/// Atoll's own name and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AtollInfo {
    /// `Atoll`.
    pub product: String,
    /// Version of this program.
    pub version: String,
    /// `global` or `zone`.
    pub mode: String,
    /// The zone's name, of a zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// The version of Kuma whose API this is.
pub const KUMA_VERSION: &str = "3.0.0";

impl Info {
    /// Fills in what does not differ between planes.
    pub fn new(hostname: String, instance_id: String, cluster_id: String, viewpoint: &Viewpoint) -> Self {
        let (mode, zone) = match viewpoint {
            Viewpoint::Global => ("global", None),
            Viewpoint::Zone { name, .. } => ("zone", Some(name.to_string())),
        };
        let atoll = AtollInfo { product: "Atoll".into(), version: env!("CARGO_PKG_VERSION").into(), mode: mode.into(), zone };
        Self {
            hostname,
            product: "Kuma".into(),
            version: KUMA_VERSION.into(),
            instance_id,
            cluster_id,
            gui: String::new(),
            atoll,
        }
    }
}

/// Knows how resources fare: output of the plane, joined to answers, never stored.
pub trait StatusSource: Send + Sync {
    /// `status` of a resource.
    fn status(&self, key: &ResourceKey) -> Option<Value>;
    /// `zoneInsight` of a Zone, `dataplaneInsight` of a Dataplane.
    fn insight(&self, key: &ResourceKey) -> Option<Value>;
    /// What the proxy of a Dataplane is given; on the plane of its zone only.
    fn layout(&self, _: &ResourceKey) -> Option<ProxyLayout> {
        None
    }
}

/// What a proxy is given.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyLayout {
    /// As REST shows it.
    pub shown: Value,
    /// The service of each of `shown.outbounds`, in their order: not everybody may know of them.
    pub services: Vec<ResourceKey>,
}

/// Knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStatus;

impl StatusSource for NoStatus {
    fn status(&self, _: &ResourceKey) -> Option<Value> {
        None
    }
    fn insight(&self, _: &ResourceKey) -> Option<Value> {
        None
    }
}

/// Rules of a plane beyond what a document says by itself. Pure: called with the table as it is.
pub trait Admission: Send + Sync {
    /// What is wrong with writing `document`, beside its own faults.
    fn review_put(&self, table: &TableSnapshot, document: &Document) -> Vec<Violation>;
    /// What is wrong with deleting `key`: the dependants, named.
    fn review_delete(&self, table: &TableSnapshot, key: &ResourceKey) -> Vec<Violation>;
}

/// No rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn review_put(&self, _: &TableSnapshot, _: &Document) -> Vec<Violation> {
        Vec::new()
    }
    fn review_delete(&self, _: &TableSnapshot, _: &ResourceKey) -> Vec<Violation> {
        Vec::new()
    }
}

/// Why nobody may write `kind` here.
pub(crate) fn read_only_reason(viewpoint: &Viewpoint, kind: Kind) -> String {
    let row = kind.descriptor();
    match viewpoint {
        _ if !row.global_writes && !row.zone_writes => format!("{kind} is made by the planes: it can be read, not written"),
        Viewpoint::Global => format!("{kind} belongs to zones: write it on the control plane of its zone, global shows it only"),
        Viewpoint::Zone { .. } => {
            format!("{kind} belongs to global: write it on the global control plane, it is sent to this zone")
        }
    }
}
