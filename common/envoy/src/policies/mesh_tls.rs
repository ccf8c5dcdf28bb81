//! MeshTLS: versions and cipher suites.

use atoll_envoy_api::envoy::extensions::transport_sockets::tls::v3::{TlsParameters, tls_parameters::TlsProtocol};
use atoll_model::policies::mesh_tls::{Cipher, Mode, Tls, Version};

/// Whether an inbound takes anything but the mesh's TLS.
pub(crate) fn is_permissive(tls: &Tls) -> bool {
    match tls.mode.unwrap_or(Mode::Strict) {
        Mode::Permissive => true,
        Mode::Strict => false,
    }
}

/// TLS 1.3 unless the policy says otherwise; a lower maximum alone lowers the minimum to it.
pub(crate) fn parameters(tls: &Tls) -> TlsParameters {
    let (min, max) = tls.tls_version.as_ref().map_or_else(Default::default, |range| (range.min, range.max));
    let max = protocol(max);
    let min = protocol(min).unwrap_or(max.unwrap_or(TlsProtocol::TlSv13));
    TlsParameters {
        tls_minimum_protocol_version: min as i32,
        tls_maximum_protocol_version: max.unwrap_or(TlsProtocol::TlSv13) as i32,
        cipher_suites: tls.tls_ciphers.iter().flatten().map(|cipher| suite(*cipher).to_owned()).collect(),
        ..Default::default()
    }
}

fn protocol(version: Version) -> Option<TlsProtocol> {
    match version {
        Version::TLSAuto => None,
        Version::TLS10 => Some(TlsProtocol::TlSv10),
        Version::TLS11 => Some(TlsProtocol::TlSv11),
        Version::TLS12 => Some(TlsProtocol::TlSv12),
        Version::TLS13 => Some(TlsProtocol::TlSv13),
    }
}

fn suite(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::EcdsaAes128 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Cipher::EcdsaAes256 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Cipher::EcdsaChacha20 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Cipher::RsaAes128 => "ECDHE-RSA-AES128-GCM-SHA256",
        Cipher::RsaAes256 => "ECDHE-RSA-AES256-GCM-SHA384",
        Cipher::RsaChacha20 => "ECDHE-RSA-CHACHA20-POLY1305",
    }
}
