//! The table of kinds: all that generic code (REST, store, link) needs to know of a kind.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::{Deserialize, Serialize};

use crate::{document::Checker, kinds, policies, schema::Schema};

/// Declares [`Kind`] with the names that documents use.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal),* $(,)?) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind { $($(#[$doc])* #[serde(rename = $name)] $kind),* }

        impl Kind {
            /// Every kind, in order.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The name in documents (`type:`), such as `MeshTLS`.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }

        impl FromStr for Kind {
            type Err = UnknownKind;
            fn from_str(text: &str) -> Result<Self, UnknownKind> {
                match text { $($name => Ok(Kind::$kind),)* other => Err(UnknownKind(other.to_owned())) }
            }
        }
    };
}

kinds! {
    /// A mesh: the realm of services and policies that see each other.
    Mesh = "Mesh",
    /// A zone: one cloud, with its own control plane.
    Zone = "Zone",
    /// One proxy instance.
    Dataplane = "Dataplane",
    /// A service of one zone.
    MeshService = "MeshService",
    /// An address at which other zones reach a zone's ingress.
    MeshZoneAddress = "MeshZoneAddress",
    /// A template that gives services their hostnames.
    HostnameGenerator = "HostnameGenerator",
    /// How proxies get their workload identity.
    MeshIdentity = "MeshIdentity",
    /// CA bundle of one trust domain.
    MeshTrust = "MeshTrust",
    /// Who may call.
    MeshTrafficPermission = "MeshTrafficPermission",
    /// Timeouts.
    MeshTimeout = "MeshTimeout",
    /// Modes and versions of TLS on inbounds.
    MeshTls = "MeshTLS",
    /// Which endpoint gets the next request.
    MeshLoadBalancingStrategy = "MeshLoadBalancingStrategy",
    /// Where traffic may go that is not the mesh's.
    MeshPassthrough = "MeshPassthrough",
    /// The virtual address that a zone gave to a service. Made by zones, read by people.
    VipAllocation = "VipAllocation",
    /// A service outside the mesh.
    MeshExternalService = "MeshExternalService",
    /// One name for the services of several zones.
    MeshMultiZoneService = "MeshMultiZoneService",
    /// The dataplanes that run one piece of software.
    Workload = "Workload",
    /// Bytes that only few may read, of one mesh.
    Secret = "Secret",
    /// Bytes that only few may read, beside the meshes.
    GlobalSecret = "GlobalSecret",
    /// What its holders may do.
    AccessRole = "AccessRole",
    /// Who holds which roles.
    AccessRoleBinding = "AccessRoleBinding",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name of no kind that this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}")]
pub struct UnknownKind(pub String);

/// Where a resource lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Beside the meshes.
    Global,
    /// Inside a mesh.
    Mesh,
}

/// How a document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `spec:` beside the metadata.
    Spec,
    /// The spec's fields beside the metadata (Kuma's protobuf kinds).
    Flat,
}

/// Where a policy may be aimed, and the order in which policies edit a proxy (Kuma's plug-in order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyShape {
    /// Lower edits first.
    pub order: u16,
    /// Has `to[]`.
    pub to: bool,
    /// Has `rules[]`.
    pub rules: bool,
}

/// How resources of a kind travel between planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Travel {
    /// From global to every zone.
    pub down: bool,
    /// From the owning zone to global.
    pub up: bool,
    /// From the owning zone by global to the other zones.
    pub across: bool,
}

/// All that generic code needs to know of one kind.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// The kind.
    pub kind: Kind,
    /// Its plural in REST paths.
    pub path: &'static str,
    /// Other plurals that REST paths take.
    pub aliases: &'static [&'static str],
    /// Its short name in KRIs and SNIs.
    pub short: &'static str,
    /// Where it lives.
    pub scope: Scope,
    /// How its documents look.
    pub style: Style,
    /// People may write it on global.
    pub global_writes: bool,
    /// People may write it on a zone that has a global.
    pub zone_writes: bool,
    /// How it travels.
    pub travel: Travel,
    /// Set for policies.
    pub policy: Option<PolicyShape>,
    /// Its name must survive as one DNS label (RFC 1035, at most 63).
    pub label_name: bool,
    /// Whether this version puts it into effect, or stores it only.
    pub enforced: bool,
    /// Its spec is secret: encrypted at rest, never logged, read only by those who may read secrets.
    pub sealed: bool,
    /// Top-level fields of the spec that planes compute: what a client sends there is not its author's.
    pub computed: &'static [&'static str],
    /// The shape of its specs, of kinds that Kuma's API server judges by one; it holds their defaults.
    pub schema: Option<&'static LazyLock<Schema>>,
    /// Parses a spec and lists its faults and the fields that it does not know.
    pub check: Checker,
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.kind)
    }
}

const DOWN: Travel = Travel { down: true, up: false, across: false };
const BOTH: Travel = Travel { down: true, up: true, across: false };
const UP: Travel = Travel { down: false, up: true, across: false };
const ACROSS: Travel = Travel { down: false, up: true, across: true };
const STAYS: Travel = Travel { down: false, up: false, across: false };

/// A row for a kind that is no policy.
const fn kind(
    kind: Kind,
    path: &'static str,
    short: &'static str,
    scope: Scope,
    style: Style,
    writes: (bool, bool),
    travel: Travel,
    check: Checker,
) -> Descriptor {
    let (global_writes, zone_writes) = writes;
    let label_name =
        matches!(kind, Kind::Mesh | Kind::Zone | Kind::MeshService | Kind::MeshExternalService | Kind::MeshMultiZoneService);
    let computed: &[&str] = match kind {
        Kind::MeshService => &["identities", "state", "tlsReady"],
        Kind::Zone => &["uid", "tokenKeys", "revokedTokens"],
        Kind::MeshIdentity => &["trustDomains"],
        Kind::MeshTrust => &["acknowledged", "rotation"],
        _ => &[],
    };
    Descriptor {
        kind,
        path,
        aliases: &[],
        short,
        scope,
        style,
        global_writes,
        zone_writes,
        travel,
        policy: None,
        label_name,
        enforced: true,
        sealed: false,
        computed,
        schema: None,
        check,
    }
}

impl Descriptor {
    /// The row of a kind whose effect is yet to come.
    const fn stored_only(self) -> Self {
        Self { enforced: false, ..self }
    }

    /// The row of a kind whose specs have a known shape.
    const fn shaped(self, schema: &'static LazyLock<Schema>) -> Self {
        Self { schema: Some(schema), ..self }
    }

    /// The row of a kind with secret specs, which REST knows under `aliases` too.
    const fn secret(self, aliases: &'static [&'static str]) -> Self {
        Self { sealed: true, aliases, ..self }
    }
}

/// A row for a policy: written on global and in zones, in Kuma's `spec` style.
const fn policy(kind_: Kind, path: &'static str, short: &'static str, shape: PolicyShape, check: Checker) -> Descriptor {
    let row = kind(kind_, path, short, Scope::Mesh, Style::Spec, (true, true), BOTH, check);
    Descriptor { policy: Some(shape), ..row }
}

use Kind as K;
use Scope::{Global as G, Mesh as M};
use Style::{Flat as F, Spec as S};

/// The table, in the order of [`Kind::ALL`]. Directions and writers: Kuma's descriptors; Zone travels down in Atoll, so that
/// every zone knows the names of the others.
static TABLE: &[Descriptor] = &[
    kind(K::Mesh, "meshes", "m", G, F, (true, false), DOWN, kinds::mesh::check),
    kind(K::Zone, "zones", "z", G, F, (true, true), DOWN, kinds::zone::check),
    kind(K::Dataplane, "dataplanes", "dp", M, F, (false, true), UP, kinds::dataplane::check),
    kind(K::MeshService, "meshservices", "msvc", M, S, (false, true), ACROSS, kinds::mesh_service::check)
        .shaped(&kinds::mesh_service::SCHEMA),
    kind(K::MeshZoneAddress, "meshzoneaddresses", "mza", M, S, (false, true), ACROSS, kinds::mesh_zone_address::check)
        .shaped(&kinds::mesh_zone_address::SCHEMA),
    kind(K::HostnameGenerator, "hostnamegenerators", "hg", G, S, (true, true), BOTH, kinds::hostname_generator::check)
        .shaped(&kinds::hostname_generator::SCHEMA),
    kind(K::MeshIdentity, "meshidentities", "mid", M, S, (true, true), BOTH, kinds::mesh_identity::check)
        .shaped(&kinds::mesh_identity::SCHEMA),
    // Kuma leaves the exchange of trust to hands; Atoll carries it across, under the rule of `trust::acceptance`.
    kind(
        K::MeshTrust,
        "meshtrusts",
        "mtrust",
        M,
        S,
        (true, true),
        Travel { down: true, up: true, across: true },
        kinds::mesh_trust::check,
    )
    .shaped(&kinds::mesh_trust::SCHEMA),
    policy(
        K::MeshTrafficPermission,
        "meshtrafficpermissions",
        "mtp",
        PolicyShape { order: 1100, to: false, rules: true },
        policies::mesh_traffic_permission::check,
    )
    .shaped(&policies::mesh_traffic_permission::SCHEMA),
    policy(
        K::MeshTimeout,
        "meshtimeouts",
        "mt",
        PolicyShape { order: 1000, to: true, rules: true },
        policies::mesh_timeout::check,
    )
    .shaped(&policies::mesh_timeout::SCHEMA),
    policy(K::MeshTls, "meshtlses", "mtls", PolicyShape { order: 300, to: false, rules: true }, policies::mesh_tls::check)
        .shaped(&policies::mesh_tls::SCHEMA),
    policy(
        K::MeshLoadBalancingStrategy,
        "meshloadbalancingstrategies",
        "mlbs",
        PolicyShape { order: 400, to: true, rules: false },
        policies::mesh_load_balancing_strategy::check,
    )
    .shaped(&policies::mesh_load_balancing_strategy::SCHEMA),
    policy(
        K::MeshPassthrough,
        "meshpassthroughs",
        "mp",
        PolicyShape { order: 500, to: false, rules: false },
        policies::mesh_passthrough::check,
    )
    .shaped(&policies::mesh_passthrough::SCHEMA),
    kind(K::VipAllocation, "vipallocations", "vip", M, S, (false, false), UP, kinds::vip_allocation::check),
    kind(K::MeshExternalService, "meshexternalservices", "extsvc", M, S, (true, true), BOTH, kinds::mesh_external_service::check)
        .shaped(&kinds::mesh_external_service::SCHEMA)
        .stored_only(),
    kind(
        K::MeshMultiZoneService,
        "meshmultizoneservices",
        "mzsvc",
        M,
        S,
        (true, false),
        DOWN,
        kinds::mesh_multi_zone_service::check,
    )
    .shaped(&kinds::mesh_multi_zone_service::SCHEMA),
    kind(K::Workload, "workloads", "wl", M, S, (false, true), UP, kinds::workload::check)
        .shaped(&kinds::workload::SCHEMA)
        .stored_only(),
    // Kuma has no short names for secrets. They stay on their plane until they travel sealed.
    kind(K::Secret, "secrets", "sec", M, F, (true, true), STAYS, kinds::secret::check).secret(&[]),
    kind(K::GlobalSecret, "global-secrets", "gsec", G, F, (true, true), STAYS, kinds::secret::check).secret(&["globalsecrets"]),
    // Rights hold on the plane that was given them: nothing that crosses the link can give any.
    kind(K::AccessRole, "access-roles", "arole", G, F, (true, true), STAYS, kinds::access_role::check),
    kind(K::AccessRoleBinding, "access-role-bindings", "arb", G, F, (true, true), STAYS, kinds::access_role_binding::check),
];

impl Kind {
    /// What generic code needs to know of this kind.
    pub fn descriptor(self) -> &'static Descriptor {
        &TABLE[self as usize]
    }

    /// The kind whose plural, or another name of it, stands in a REST path.
    pub fn from_path(path: &str) -> Option<Kind> {
        TABLE.iter().find(|row| row.path == path || row.aliases.contains(&path)).map(|row| row.kind)
    }

    /// The kind with this short name.
    pub fn from_short(short: &str) -> Option<Kind> {
        TABLE.iter().find(|row| row.short == short).map(|row| row.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_enum() {
        assert_eq!(TABLE.len(), Kind::ALL.len());
        for (row, kind) in TABLE.iter().zip(Kind::ALL) {
            assert_eq!(row.kind, *kind);
            assert_eq!(kind.name().parse(), Ok(*kind));
            assert_eq!(Kind::from_path(row.path), Some(*kind));
            assert_eq!(Kind::from_short(row.short), Some(*kind));
        }
    }
}
