//! What an operator says of an identity provider.

use std::collections::BTreeMap;

use reqwest::Url;

/// The settings of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// The provider's URL, exactly as tokens name it.
    pub issuer: String,
    /// The audience that tokens must name: this control plane, as the provider knows it.
    pub audience: String,
    /// The claim with the user's name.
    pub user_claim: String,
    /// What is put before it, so that no user of the provider has the name of another one.
    pub user_prefix: String,
    /// The claim with the groups.
    pub groups_claim: String,
    /// What is put before each group.
    pub groups_prefix: String,
    /// Groups with another name here; only these may be the plane's own.
    pub group_map: BTreeMap<String, String>,
    /// CAs that may sign the provider's certificate, as PEM; the system's unless given.
    pub ca: Option<String>,
}

/// What is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcFault {
    /// Keys that came over plain HTTP could be anybody's.
    #[error("the issuer {0:?} must be an https:// URL without query and fragment")]
    Issuer(String),
    /// Tokens for other programs would be taken.
    #[error("the audience must not be empty")]
    Audience,
    /// The CA file is none.
    #[error("the CA certificates cannot be used: {0}")]
    Ca(String),
    /// The client cannot be made.
    #[error("HTTPS cannot be set up: {0}")]
    Client(String),
}

impl OidcSettings {
    /// Settings with the defaults.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            user_claim: "sub".to_owned(),
            user_prefix: "oidc:".to_owned(),
            groups_claim: "groups".to_owned(),
            groups_prefix: String::new(),
            group_map: BTreeMap::new(),
            ca: None,
        }
    }

    /// Checks what can be checked without the provider.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), OidcFault> {
        let url: Option<Url> = self.issuer.parse().ok();
        let is_https = |url: &Url| {
            url.scheme() == "https"
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        };
        if !url.as_ref().is_some_and(is_https) {
            return Err(OidcFault::Issuer(self.issuer.clone()));
        }
        if self.audience.is_empty() {
            return Err(OidcFault::Audience);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_only() {
        for (issuer, is_good) in [
            ("https://idp.example/realms/atoll", true),
            ("http://idp.example", false),
            ("idp.example", false),
            ("https://idp.example?x=1", false),
            ("", false),
        ] {
            assert_eq!(OidcSettings::new(issuer, "atoll").check().is_ok(), is_good, "{issuer}");
        }
        assert_eq!(OidcSettings::new("https://idp.example", "").check(), Err(OidcFault::Audience));
    }
}
