//! Listeners; one file a kind.

pub(crate) mod access_log;
mod filters;
pub(crate) mod inbound;
pub(crate) mod ingress;
pub(crate) mod outbound;
pub(crate) mod passthrough;
