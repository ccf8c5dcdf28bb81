//! The settings of an identity provider whose tokens open REST, beside global's own.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use atoll_api::access::oidc::{OidcFault, OidcSettings};
use clap::Args;
use serde::{Serialize, Serializer};

/// The flags.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OidcConfig {
    /// Takes tokens of this OpenID Connect provider, beside global's own; exactly as tokens name it in `iss`.
    #[arg(long, env = "ATOLL_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    pub oidc_issuer: Option<String>,
    /// The audience that its tokens must name in `aud`: this control plane, as the provider knows it.
    #[arg(long, env = "ATOLL_OIDC_AUDIENCE", value_name = "NAME", requires = "oidc_issuer")]
    pub oidc_audience: Option<String>,
    /// The claim that names the user.
    #[arg(long, env = "ATOLL_OIDC_USER_CLAIM", value_name = "CLAIM", default_value = "sub")]
    pub oidc_user_claim: String,
    /// What is put before the names of its users, so that none of them passes for one of global's.
    #[arg(long, env = "ATOLL_OIDC_USER_PREFIX", value_name = "TEXT", default_value = "oidc:")]
    pub oidc_user_prefix: String,
    /// The claim with the user's groups.
    #[arg(long, env = "ATOLL_OIDC_GROUPS_CLAIM", value_name = "CLAIM", default_value = "groups")]
    pub oidc_groups_claim: String,
    /// What is put before the names of its groups.
    #[arg(long, env = "ATOLL_OIDC_GROUPS_PREFIX", value_name = "TEXT", default_value = "")]
    pub oidc_groups_prefix: String,
    /// A group of the provider and what it is here, such as platform=mesh-system:admin; repeatable, or with commas. Only so can
    /// it be one of the groups mesh-system:….
    #[arg(long, env = "ATOLL_OIDC_GROUP_MAP", value_name = "GROUP=GROUP", value_delimiter = ',')]
    pub oidc_group_map: Vec<Renamed>,
    /// CA certificates (PEM) that may sign the provider's certificate [default: those of the system].
    #[arg(long, env = "ATOLL_OIDC_CA_FILE", value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
}

/// A group of the provider, and what it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    from: String,
    to: String,
}

impl FromStr for Renamed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(Self { from: from.to_owned(), to: to.to_owned() }),
            Some(_) | None => Err("write it as GROUP=GROUP: the provider's, and what it is here".to_owned()),
        }
    }
}

impl Serialize for Renamed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}={}", self.from, self.to))
    }
}

/// Why the provider's tokens cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OidcConfigError {
    /// A setting cannot work.
    #[error("--oidc-issuer, --oidc-audience: {0}")]
    Settings(#[from] OidcFault),
    /// The CA file cannot be read.
    #[error("--oidc-ca-file {0}: {1}")]
    Ca(PathBuf, std::io::Error),
}

impl OidcConfig {
    /// The settings, if there is a provider.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn settings(&self) -> Result<Option<OidcSettings>, OidcConfigError> {
        let Self {
            oidc_issuer,
            oidc_audience,
            oidc_user_claim,
            oidc_user_prefix,
            oidc_groups_claim,
            oidc_groups_prefix,
            oidc_group_map,
            oidc_ca_file,
        } = self.clone();
        let Some(issuer) = oidc_issuer else { return Ok(None) };
        let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| OidcConfigError::Ca(path, error));
        let settings = OidcSettings {
            user_claim: oidc_user_claim,
            user_prefix: oidc_user_prefix,
            groups_claim: oidc_groups_claim,
            groups_prefix: oidc_groups_prefix,
            group_map: oidc_group_map.into_iter().map(|Renamed { from, to }| (from, to)).collect::<BTreeMap<_, _>>(),
            ca: oidc_ca_file.map(read).transpose()?,
            ..OidcSettings::new(issuer, oidc_audience.unwrap_or_default())
        };
        settings.check()?;
        Ok(Some(settings))
    }
}
