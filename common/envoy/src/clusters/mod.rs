//! Clusters; one file a kind.

pub(crate) mod inbound;
pub(crate) mod passthrough;
pub(crate) mod service;
