//! Who asks, and whether they may: one decision for every operation. Default is no.
//!
//! ```text
//!   token ─▶ Authenticate ──────▶ Caller ──┐
//!   certificate of the connection ──▲      │
//!   AccessRole, AccessRoleBinding ─▶ Roles ─▶ Rights ─▶ decide(rights, access, object) [pure]
//!                                                          ▲              ▲
//!                       guard: before every handler, by kind of object    Permit: in handlers, object by object
//! ```
//!
//! The guard turns away who could not do the operation to anything. What a handler then touches, shows, counts or names, it asks
//! its [`Permit`] about. Roles are compiled once for each change of them.

mod audit;
mod caller;
mod certificate;
mod decide;
mod grants;
mod guard;
mod known;
pub mod oidc;
mod operation;
mod permit;
mod recent;
mod request;
mod revocations;
mod rights;
mod roles;
mod rows;
mod throttle;
mod withdrawal;

pub use caller::{ADMIN_GROUP, AUTHENTICATED_GROUP, Authenticate, AuthenticationError, Caller, Credential, SYSTEM_GROUPS};
pub(crate) use certificate::Shown;
pub use certificate::{ClientCaFault, ClientCertificates};
pub use decide::{Decision, Object, decide};
pub(crate) use grants::{GrantFault, Grants, bindings_of};
pub(crate) use guard::{admit_unknown, guard, guard_unknown};
pub(crate) use known::Known;
pub use operation::{Operation, Subject, Verb};
pub use permit::Permit;
pub use recent::DeniedCounts;
pub(crate) use request::RequestId;
pub use rights::Rights;
pub(crate) use roles::RoleCache;
pub use roles::Roles;
pub(crate) use rows::rows;
pub(crate) use throttle::Throttle;
pub(crate) use withdrawal::until_withdrawn;
