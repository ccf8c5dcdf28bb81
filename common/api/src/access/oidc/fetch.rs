//! Reading an identity provider's keys: TLS only, within limits, no redirects.

use std::{sync::Arc, time::Duration};

use atoll_runtime::tls;
use atoll_trust::jwt::{JwkSet, JwkSetFault};
use http::StatusCode;
use reqwest::{Client, Url, redirect};
use serde::Deserialize;

use super::{OidcFault, OidcSettings};

/// How long one request may take.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of one answer.
const LONGEST: usize = 1 << 20;

/// Reads the keys of one provider.
pub(super) struct Fetcher {
    http: Client,
    issuer: String,
}

/// Why the keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The provider cannot be reached.
    #[error("{place} cannot be read: {why}")]
    Unreachable {
        /// What was asked for.
        place: String,
        /// Why not.
        why: String,
    },
    /// It answers with an error.
    #[error("{0} answers {1}")]
    Status(String, StatusCode),
    /// Its answer is too long.
    #[error("{0} answers with more than {LONGEST} bytes")]
    TooLong(String),
    /// Its document is none.
    #[error("{0} is no discovery document")]
    Discovery(String),
    /// It speaks for somebody else.
    #[error("the discovery document of {wanted} is of {found:?}; the issuer must be written as the provider writes it")]
    Issuer {
        /// Whom the settings name.
        wanted: String,
        /// Whom the document names.
        found: String,
    },
    /// Its keys would come over plain HTTP.
    #[error("the keys at {0:?} are not behind https://")]
    Plain(String),
    /// Its keys are none.
    #[error("the keys at {0} cannot be used: {1}")]
    Keys(String, JwkSetFault),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub(super) fn new(settings: &OidcSettings) -> Result<Self, OidcFault> {
        settings.check()?;
        tls::install_provider();
        let mut builder =
            Client::builder().timeout(TIME).connect_timeout(TIME).redirect(redirect::Policy::none()).https_only(true);
        if let Some(ca) = &settings.ca {
            let roots = tls::roots_from_pem(ca).map_err(|error| OidcFault::Ca(error.to_string()))?;
            // Between our own programs TLS 1.3 only; a provider may be older.
            let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| OidcFault::Client(error.to_string()))?;
            builder = builder.tls_backend_preconfigured(config.with_root_certificates(roots).with_no_client_auth());
        }
        let http = builder.build().map_err(|error| OidcFault::Client(error.to_string()))?;
        Ok(Self { http, issuer: settings.issuer.clone() })
    }

    pub(super) async fn keys(&self) -> Result<JwkSet, FetchError> {
        let place = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = serde_json::from_slice(&self.read(&place).await?).map_err(|_| FetchError::Discovery(place))?;
        if discovery.issuer != self.issuer {
            return Err(FetchError::Issuer { wanted: self.issuer.clone(), found: discovery.issuer });
        }
        let place = discovery.jwks_uri;
        if !place.parse::<Url>().is_ok_and(|url| url.scheme() == "https") {
            return Err(FetchError::Plain(place));
        }
        JwkSet::parse(&self.read(&place).await?).map_err(|fault| FetchError::Keys(place, fault))
    }

    async fn read(&self, place: &str) -> Result<Vec<u8>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable { place: place.to_owned(), why: deepest(&error) };
        let mut response = self.http.get(place).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(place.to_owned(), response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > LONGEST {
                return Err(FetchError::TooLong(place.to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// reqwest hides the reason behind "error sending request".
fn deepest(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
