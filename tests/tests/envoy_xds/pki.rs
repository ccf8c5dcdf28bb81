//! Workload CAs of zones, and what a zone that lies could make of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_mesh::trust::TrustBundles;
use atoll_trust::ca::WorkloadCa;
use chrono::{TimeDelta, Utc};
use rand::{SeedableRng, rngs::StdRng};
use rcgen::SanType;
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// Certificate chain and key as PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn ca(domain: &str) -> WorkloadCa {
    WorkloadCa::generate(&domain.parse().expect("a domain"), Utc::now(), &mut StdRng::seed_from_u64(1)).expect("a CA")
}

/// Another CA of that domain, as a zone that lies makes it: by the recipe, with a key of its own.
pub(crate) fn other_ca(domain: &str) -> WorkloadCa {
    WorkloadCa::generate(&domain.parse().expect("a domain"), Utc::now(), &mut StdRng::seed_from_u64(3)).expect("a CA")
}

pub(crate) fn leaf(ca: &WorkloadCa, path: &str) -> Leaf {
    leaf_for(ca, path, TimeDelta::hours(1))
}

pub(crate) fn leaf_for(ca: &WorkloadCa, path: &str, life: TimeDelta) -> Leaf {
    let id = format!("spiffe://{}{path}", ca.trust_domain()).parse().expect("an id");
    let leaf = ca.issue(&id, life, Utc::now(), &mut rand::rng()).expect("a leaf");
    Leaf { chain: leaf.chain_pem, key: leaf.key_pem.expose().to_owned() }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

/// Bundles of CAs by trust domain.
pub(crate) fn bundles(cas: &[(&str, &str)]) -> TrustBundles {
    let mut all: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (domain, pem) in cas {
        all.entry(domain.parse().expect("a domain")).or_default().insert((*pem).to_owned());
    }
    TrustBundles::new(all)
}

fn parts(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    (chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM"))
}

/// A client that shows `leaf` and believes every server: what the server does is under test.
pub(crate) fn client(leaf: &Leaf) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = parts(leaf);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelievesAll))
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"kuma".to_vec()];
    Arc::new(config)
}

/// A server that shows `leaf` and asks for nothing.
pub(crate) fn server(leaf: &Leaf) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = parts(leaf);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    config.alpn_protocols = vec![b"kuma".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct BelievesAll;

impl ServerCertVerifier for BelievesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
