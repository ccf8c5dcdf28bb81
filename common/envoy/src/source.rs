//! Where Envoy asks for what a resource refers to: always the same discovery stream.

use atoll_envoy_api::envoy::{
    config::core::v3::{
        AggregatedConfigSource, ApiVersion, ConfigSource, ExtensionConfigSource, config_source::ConfigSourceSpecifier,
    },
    extensions::transport_sockets::tls::v3::SdsSecretConfig,
};
use prost::Name;

/// The discovery stream.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// A secret.
pub(crate) fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads()) }
}

/// A filter of type `M`.
pub(crate) fn extension<M: Name>() -> ExtensionConfigSource {
    ExtensionConfigSource { config_source: Some(ads()), type_urls: vec![M::type_url()], ..Default::default() }
}
