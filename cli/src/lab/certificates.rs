//! The lab's own CA and the gateways' HTTPS certificates; nothing of this is the mesh's.

use std::path::{Path, PathBuf};

use anyhow::Result;
use atoll_runtime::files::{private_dir, write_atomic, write_secret};
use chrono::{Datelike, Days, NaiveDate, Utc};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Days that the CA lasts.
const CA_DAYS: u64 = 3650;
/// Days that a gateway's certificate lasts; a new one is made at each start.
const GATEWAY_DAYS: u64 = 397;

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, 0600.
    pub key: PathBuf,
}

/// Makes the lab's CA in `folder`, unless it is there.
pub fn ensure_ca(folder: &Path) -> Result<Pair> {
    let pair = Pair { certificate: folder.join("ca.pem"), key: folder.join("ca.key") };
    if pair.certificate.exists() && pair.key.exists() {
        return Ok(pair);
    }
    private_dir(folder)?;
    let key = KeyPair::generate()?;
    let certificate = ca_params()?.self_signed(&key)?;
    write_secret(&pair.key, key.serialize_pem().as_bytes())?;
    write_atomic(&pair.certificate, certificate.pem().as_bytes(), 0o644)?;
    Ok(pair)
}

fn ca_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::default())?;
    params.distinguished_name.push(DnType::OrganizationName, "acme.corp");
    params.distinguished_name.push(DnType::CommonName, "acme.corp lab CA");
    last(&mut params, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// From yesterday, for clocks that are a little behind.
fn last(params: &mut CertificateParams, days: u64) {
    let today = Utc::now().date_naive();
    let date = |day: NaiveDate| {
        rcgen::date_time_ymd(day.year(), u8::try_from(day.month()).unwrap_or(1), u8::try_from(day.day()).unwrap_or(1))
    };
    params.not_before = date(today - Days::new(1));
    params.not_after = date(today + Days::new(days));
}

/// The names of a zone's gateways: the outside's and, inside the mesh, the zone's. A wildcard covers one label.
pub fn gateway_names(zone: &str) -> Vec<String> {
    vec!["*.acme.corp".to_owned(), format!("*.{zone}.mesh.acme.corp")]
}

/// Makes a server certificate for `names` in `folder`, in place of the one there.
pub fn issue(ca: &Pair, names: &[String], folder: &Path) -> Result<Pair> {
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(&ca.key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(&ca.certificate)?, ca_key)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("acme.corp", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    last(&mut params, GATEWAY_DAYS);
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    private_dir(folder)?;
    let pair = Pair { certificate: folder.join("gateway.pem"), key: folder.join("gateway.key") };
    write_secret(&pair.key, key.serialize_pem().as_bytes())?;
    write_atomic(&pair.certificate, certificate.pem().as_bytes(), 0o644)?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_certificate_serves_the_outside_names_and_the_mesh_name() {
        let folder = tempfile::tempdir().unwrap();
        let ca = ensure_ca(&folder.path().join("ca")).unwrap();
        let again = ensure_ca(&folder.path().join("ca")).unwrap();
        assert_eq!(std::fs::read(&ca.key).unwrap(), std::fs::read(&again.key).unwrap(), "a CA is made once");
        let pair = issue(&ca, &gateway_names("gcp"), &folder.path().join("gcp")).unwrap();
        let roots = atoll_runtime::tls::roots_from_pem(&std::fs::read_to_string(&ca.certificate).unwrap()).unwrap();
        let chain = atoll_runtime::tls::chain_from_pem(&std::fs::read_to_string(&pair.certificate).unwrap()).unwrap();
        atoll_runtime::tls::install_provider();
        let verifier = rustls::client::WebPkiServerVerifier::builder(roots.into()).build().unwrap();
        let check = |name: &str| {
            use rustls::client::danger::ServerCertVerifier;
            let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(&chain[0], &[], &name, &[], rustls_pki_types::UnixTime::now()).is_ok()
        };
        assert!(check("catalog.acme.corp") && check("orders.acme.corp") && check("api-gateway.gcp.mesh.acme.corp"));
        assert!(!check("api-gateway.azure.mesh.acme.corp") && !check("a.b.acme.corp"));
    }
}
