//! What global tells its zones about tokens.

use serde::{Deserialize, Serialize};

use super::PublicKey;

/// Key of the soft value in which a [`TokenNotice`] travels, as JSON.
pub const TOKEN_NOTICE: &str = "plane/tokens";

/// Public keys of global, and tokens that hold no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenNotice {
    /// The keys.
    #[serde(default)]
    pub keys: Vec<PublicKey>,
    /// Ids of the tokens.
    #[serde(default)]
    pub revoked: Vec<String>,
}
