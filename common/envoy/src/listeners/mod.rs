//! Listeners; one file a kind.

mod filters;
pub(crate) mod inbound;
pub(crate) mod ingress;
pub(crate) mod outbound;
pub(crate) mod passthrough;
