//! User and dataplane tokens: JWTs signed with ES256, with Kuma's claim names.
//!
//! The algorithm is fixed. A token names a key of our own table by `kid`, and the table says whose key that is: the token's issuer
//! has to be that one. Nothing else of a token's header is used, and a header that says more is refused.

mod claims;
mod external;
mod keys;
mod verify;

pub use claims::{Claims, DATAPLANE_LIFE, DATAPLANE_LIFE_MAX, DataplaneClaims, Issuer, Registered, UserClaims};
pub use external::{Expected, ExternalClaims, JwkSet, JwkSetFault, claimed_issuer};
pub use keys::{IssueError, Issued, PublicKey, SigningKey};
pub use verify::{Identified, KeyTable, LEEWAY, RevokedTokens, TokenFault, Verified};
