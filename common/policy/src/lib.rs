//! Which policies hold for a proxy, in which order, and what they say together.
//!
//! ```text
//!   Resource ──parse──▶ Policy ─┐
//!   Resource ──parse──▶ Policy ─┼─sort──▶ PolicySet ──for_proxy(labels)──▶ SelectedPolicies
//!   Resource ──fault──▶ report  ┘                                            │ timeouts_to(service)
//!                                                                            │ strategy_to(service)
//!                                                                            │ passthrough()
//!                                                                            │ inbound_timeouts(section)
//!                                                                            │ tls(section)
//!                                                                            └ permissions(section)
//! ```
//!
//! Everything is immutable and shared: proxies that the same policies select share one [`SelectedPolicies`], and destinations
//! for which the same items hold share one merged configuration, also across generations of the set.
//!
//! Must not contain I/O, clocks, randomness, resources other than policies, or anything of Envoy.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod incoming;
mod intern;
pub mod merge;
mod outgoing;
mod permission;
mod policy;
mod precedence;
mod selected;
mod set;

pub use incoming::IncomingRule;
pub use outgoing::{Changed, ServiceFacts};
pub use permission::{Permission, PermissionSet};
pub use policy::{Origin, Policy, PolicyFault, PolicySpec, Role};
pub use selected::SelectedPolicies;
pub use set::PolicySet;
