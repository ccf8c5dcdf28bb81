//! Certificate authorities.
//!
//! Every field of what they sign is chosen here, from who the subject was found to be. Of a request only its key is taken.

mod authority;
mod control_plane;
mod workload;

pub use authority::{CaError, ServerNames};
pub use control_plane::{ControlPlaneCa, GLOBAL_SERVER_NAME, ServerCertificate, ZONE_SERVER_NAME, ZoneCa, ZoneCertificate};
pub use workload::{WorkloadCa, WorkloadLeaf, name_constraints};

#[cfg(test)]
pub(crate) use workload::tlv;

use chrono::TimeDelta;

/// How far the start of every certificate lies in the past: two clocks may each be off by ten minutes.
pub const SKEW: TimeDelta = TimeDelta::minutes(20);
/// Life of a control plane's own CA.
pub const CONTROL_PLANE_CA_LIFE: TimeDelta = TimeDelta::days(3650);
/// Life of a control plane's server certificates.
pub const SERVER_LIFE: TimeDelta = TimeDelta::days(90);
/// Life of a zone's client certificate. It is renewed at a third: a zone that was cut off for 20 days comes back by itself.
pub const ZONE_LIFE: TimeDelta = TimeDelta::days(30);
/// Life of a workload CA.
pub const WORKLOAD_CA_LIFE: TimeDelta = TimeDelta::days(90);
/// Life of a workload's certificate, unless its MeshIdentity says otherwise.
pub const LEAF_LIFE: TimeDelta = TimeDelta::hours(24);
