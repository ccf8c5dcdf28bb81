//! Who this zone is, and who its proxies are.
//!
//! ```text
//!   ZoneDir     files of the zone: its identity, its own CA, the key of its tokens, what it shows on the link
//!   ZoneTokens  makes and judges tokens
//!   Identities  one CA per MeshIdentity ─▶ MeshTrust of this zone
//!                    └─ secret_for(proxy) ─▶ certificate, kept until half of its life is over
//! ```
//!
//! Must not contain Envoy's configuration, streams, or rules for whose trust is taken.

mod acknowledgements;
mod allowance;
mod cas;
mod identities;
mod leaves;
mod link_keys;
mod progress;
mod review;
mod rotation;
mod servers;
mod tokens;
mod wanted;
mod zone_dir;

pub use acknowledgements::Acknowledgements;
pub use cas::CaState;
pub use identities::{Identities, IdentityError, IssuedSecret};
pub use link_keys::{Joined, RENEW_LINK_AFTER};
pub use review::{ZoneReview, acceptance};
pub use servers::{Servers, ServersError};
pub use tokens::ZoneTokens;
pub use zone_dir::{DirError, ZoneDir};
