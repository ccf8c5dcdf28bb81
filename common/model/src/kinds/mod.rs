//! One file per kind that is no policy: schema and validation.

pub mod dataplane;
pub mod hostname_generator;
pub mod mesh;
pub mod mesh_identity;
pub mod mesh_service;
pub mod mesh_trust;
pub mod mesh_zone_address;
pub mod vip_allocation;
pub mod zone;

pub use dataplane::Dataplane;
pub use hostname_generator::HostnameGenerator;
pub use mesh::Mesh;
pub use mesh_identity::MeshIdentity;
pub use mesh_service::MeshService;
pub use mesh_trust::MeshTrust;
pub use mesh_zone_address::MeshZoneAddress;
pub use vip_allocation::VipAllocation;
pub use zone::Zone;

use crate::names;

/// Whether `text` is an IP address or a host name, and no wildcard address.
fn is_address(text: &str) -> bool {
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        Err(_) => names::is_hostname(text),
    }
}
