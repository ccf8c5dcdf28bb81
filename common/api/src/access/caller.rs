//! Who asks, and who judges it.

use async_trait::async_trait;
use atoll_model::Timestamp;
use atoll_store::AuthMethod;

/// The group whose members may do everything: the way back in when roles were written wrongly.
pub const ADMIN_GROUP: &str = "mesh-system:admin";
/// The group of everybody with a credential that holds.
pub const AUTHENTICATED_GROUP: &str = "mesh-system:authenticated";
/// What the names of the plane's own groups begin with: nobody else's issuer may give them.
pub const SYSTEM_GROUPS: &str = "mesh-system:";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// How they showed it.
    pub credential: Credential,
}

/// What a caller showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it is.
    pub method: AuthMethod,
    /// Its name in lists of what was revoked: a token's `jti`, a certificate's fingerprint; empty if it can be in none.
    pub id: String,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

impl Caller {
    /// A caller with a token of ours that never ends and cannot be revoked.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
            credential: Credential { method: AuthMethod::Token, id: String::new(), expires: None },
        }
    }

    /// The same caller, who showed this.
    #[must_use]
    pub fn with(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Whether they may do everything.
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == ADMIN_GROUP)
    }
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// It is none of ours, or no more valid. The text says which, and nothing of the token.
    #[error("{0}")]
    Refused(String),
    /// It cannot be judged now. The text says what is missing.
    #[error("{0}")]
    Unavailable(String),
}

/// Judges bearer tokens of users, and whether what was accepted still holds.
#[async_trait]
pub trait Authenticate: Send + Sync {
    /// Who holds `token`.
    ///
    /// # Errors
    /// When the token proves nothing.
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError>;

    /// Whether somebody with a credential that others verified, such as a certificate, may come in now.
    ///
    /// # Errors
    /// When it was revoked, or nobody can know.
    fn admit(&self, credential: &Credential) -> Result<(), AuthenticationError> {
        if self.is_withdrawn(credential) {
            return Err(AuthenticationError::Refused("the credential was revoked".to_owned()));
        }
        Ok(())
    }

    /// Whether a credential that was accepted was withdrawn since; asked again and again while an answer streams.
    fn is_withdrawn(&self, credential: &Credential) -> bool;
}
