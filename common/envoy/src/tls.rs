//! The two ends of the mesh's TLS.

use atoll_envoy_api::envoy::{
    config::core::v3::{TransportSocket, transport_socket::ConfigType},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
        common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
        subject_alt_name_matcher::SanType,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use atoll_model::{policies::mesh_tls::Tls, sni::ALPN, spiffe::SpiffeId};
use prost::{Message, Name};

use crate::{encoded::pack, name, policies::mesh_tls, source};

/// The server's end. Which CA may speak for which trust domain is the bundles' to say; who may call is RBAC's.
pub(crate) fn downstream(secret: &str, tls: &Tls) -> TransportSocket {
    socket(&DownstreamTlsContext {
        common_tls_context: Some(common(
            secret,
            tls,
            ValidationContextType::ValidationContextSdsSecretConfig(source::secret(name::TRUST_BUNDLE)),
        )),
        require_client_certificate: Some(true),
        ..Default::default()
    })
}

/// The client's end. `identities` may answer, nobody else; none means anybody whom the bundles trust.
pub(crate) fn upstream(secret: &str, tls: &Tls, sni: &str, identities: &[SpiffeId]) -> TransportSocket {
    let mut exact: Vec<String> = identities.iter().map(SpiffeId::to_string).collect();
    exact.sort();
    let own = CertificateValidationContext {
        match_typed_subject_alt_names: exact.into_iter().map(exact_uri).collect(),
        ..Default::default()
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(own),
        validation_context_sds_secret_config: Some(source::secret(name::TRUST_BUNDLE)),
        ..Default::default()
    };
    socket(&UpstreamTlsContext {
        common_tls_context: Some(common(secret, tls, ValidationContextType::CombinedValidationContext(combined))),
        sni: sni.to_owned(),
        ..Default::default()
    })
}

fn common(secret: &str, tls: &Tls, validation: ValidationContextType) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(mesh_tls::parameters(tls)),
        tls_certificate_sds_secret_configs: vec![source::secret(secret)],
        alpn_protocols: vec![ALPN.to_owned()],
        validation_context_type: Some(validation),
        ..Default::default()
    }
}

fn exact_uri(uri: String) -> SubjectAltNameMatcher {
    let matcher = StringMatcher { match_pattern: Some(MatchPattern::Exact(uri)), ..Default::default() };
    SubjectAltNameMatcher { san_type: SanType::Uri as i32, matcher: Some(matcher), ..Default::default() }
}

fn socket<M: Message + Name>(context: &M) -> TransportSocket {
    TransportSocket { name: "envoy.transport_sockets.tls".to_owned(), config_type: Some(ConfigType::TypedConfig(pack(context))) }
}
