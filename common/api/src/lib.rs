//! The REST API of every plane: Kuma's paths and documents over the table of kinds.
//!
//! ```text
//!   request ─▶ routes (one table) ─▶ guard: who, may they? ─▶ handler ─▶ store
//!                    │                                          │
//!                    └──▶ openapi                                ├─ body: bytes ─▶ values, within limits
//!                                                               ├─ review: value ─▶ document, all faults, warnings
//!                                                               └─ present: resource ─▶ answer
//! ```
//!
//! Must not contain SQL, sessions of the link or of proxies, or a rule that only one kind has (those live in `model` and with
//! the plane, behind [`plane::Admission`]).
#![warn(missing_docs)]

pub mod access;
mod apply;
pub mod body;
mod counts;
mod difference;
mod docs;
mod kuma_gaps;
pub mod limits;
mod links;
mod naming;
mod negotiate;
mod once;
pub mod openapi;
mod pace;
pub mod plane;
mod present;
pub mod problem;
mod query;
mod resources;
mod review;
pub mod routes;
pub mod serve;
mod system;
mod tokens;

pub use access::{ADMIN_GROUP, Authenticate, AuthenticationError, Caller, ClientCertificates, Credential};
pub use limits::Limits;
pub use links::{LinkError, Links, NoLinks, Question, Word};
pub use plane::{Admission, Info, NoStatus, Plane, PlaneParts, StatusSource};
pub use problem::Problem;
pub use routes::router;
pub use tokens::{DataplaneTokenRequest, IssueError, IssueTokens, TokenName, UserTokenRequest, ZoneTokenRequest};
