//! One file per kind that is no policy: schema and validation.

pub mod access_role;
pub mod access_role_binding;
pub mod dataplane;
pub mod hostname_generator;
pub mod mesh;
pub mod mesh_external_service;
pub mod mesh_identity;
pub mod mesh_multi_zone_service;
pub mod mesh_service;
pub mod mesh_trust;
pub mod mesh_zone_address;
pub mod secret;
pub mod vip_allocation;
pub mod workload;
pub mod zone;

pub use access_role::{Access, AccessRole};
pub use access_role_binding::AccessRoleBinding;
pub use dataplane::Dataplane;
pub use hostname_generator::HostnameGenerator;
pub use mesh::Mesh;
pub use mesh_external_service::MeshExternalService;
pub use mesh_identity::MeshIdentity;
pub use mesh_multi_zone_service::MeshMultiZoneService;
pub use mesh_service::MeshService;
pub use mesh_trust::MeshTrust;
pub use mesh_zone_address::MeshZoneAddress;
pub use secret::Secret;
pub use vip_allocation::VipAllocation;
pub use workload::Workload;
pub use zone::Zone;

use crate::names;

/// Whether `text` is an IP address that stands for every address.
fn is_unspecified(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether `text` is an IP address or a host name.
fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || is_dns_name(text)
}

/// Whether `text` is a host name as Kuma takes it: labels of letters, digits, `-` and `_` that do not begin with `-`, with or
/// without a last dot, and no IP address.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=names::LABEL_MAX).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 255 && text.parse::<std::net::IpAddr>().is_err() && name.split('.').all(label)
}
