//! What each kind of policy means to Envoy; one file a kind.

pub(crate) mod mesh_load_balancing_strategy;
pub(crate) mod mesh_passthrough;
pub(crate) mod mesh_timeout;
pub(crate) mod mesh_tls;
pub(crate) mod mesh_traffic_permission;
