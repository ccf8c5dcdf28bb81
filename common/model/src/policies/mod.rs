//! One file per policy: schema and validation.

pub mod inbound_match;
pub mod mesh_load_balancing_strategy;
pub mod mesh_passthrough;
pub mod mesh_timeout;
pub mod mesh_tls;
pub mod mesh_traffic_permission;

pub use inbound_match::{InboundMatch, SniMatch, SpiffeMatch};
pub use mesh_load_balancing_strategy::MeshLoadBalancingStrategy;
pub use mesh_passthrough::MeshPassthrough;
pub use mesh_timeout::MeshTimeout;
pub use mesh_tls::MeshTls;
pub use mesh_traffic_permission::MeshTrafficPermission;
