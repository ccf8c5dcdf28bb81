//! Secrets: a proxy's certificate, and whom it trusts.

use atoll_envoy_api::envoy::{
    config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
        spiffe_cert_validator_config::TrustDomain,
    },
};
use atoll_mesh::trust::TrustBundles;

use crate::{
    encoded::{Encoded, ResourceType, pack},
    name,
};

/// The certificate of a proxy. `version` says which certificate it is, so that a proxy that comes back with one that still
/// holds is sent nothing.
pub fn identity(name: &str, cert_chain_pem: &str, key_pem: &str, version: &str) -> Encoded {
    let certificate = TlsCertificate {
        certificate_chain: Some(inline(cert_chain_pem)),
        private_key: Some(inline(key_pem)),
        ..Default::default()
    };
    secret(name, secret::Type::TlsCertificate(certificate)).with_version(version)
}

/// Whom a proxy trusts: one bundle for each trust domain, so that no CA can speak for another's domain. Bundles without any
/// domain trust nobody.
pub fn trust_bundle(bundles: &TrustBundles) -> Encoded {
    let domain = |(domain, pems): (&atoll_model::spiffe::TrustDomain, &std::collections::BTreeSet<String>)| {
        let joined = pems.iter().map(|pem| format!("{}\n", pem.trim_end())).collect::<String>();
        trust_domain(domain.as_str(), &joined)
    };
    let mut trust_domains: Vec<TrustDomain> = bundles.bundles().iter().filter(|(_, pems)| !pems.is_empty()).map(domain).collect();
    if trust_domains.is_empty() {
        // Envoy ignores the removal of a secret and refuses an empty list, so "nobody" is a domain that nobody is in.
        trust_domains.push(trust_domain("nobody.invalid", NOBODY));
    }
    let validator = TypedExtensionConfig {
        name: "envoy.tls.cert_validator.spiffe".to_owned(),
        typed_config: Some(pack(&SpiffeCertValidatorConfig { trust_domains, trust_bundles: None })),
    };
    let context = CertificateValidationContext { custom_validator_config: Some(validator), ..Default::default() };
    secret(name::TRUST_BUNDLE, secret::Type::ValidationContext(context))
}

fn trust_domain(name: &str, pem: &str) -> TrustDomain {
    TrustDomain { name: name.to_owned(), trust_bundle: Some(inline(pem)), ..Default::default() }
}

fn secret(name: &str, content: secret::Type) -> Encoded {
    Encoded::new(ResourceType::Secret, name, &Secret { name: name.to_owned(), r#type: Some(content) })
}

fn inline(text: &str) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..Default::default() }
}

/// A CA whose key was never kept.
const NOBODY: &str = include_str!("nobody.pem");
