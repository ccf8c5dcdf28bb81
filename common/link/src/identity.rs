//! Who calls, by its certificate.

use atoll_trust::{Pin, ZonePeer, x509};
use tonic::{
    Request, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use uuid::Uuid;

use crate::Peer;

/// The zone that holds the client certificate of a request. rustls has checked its chain.
pub(crate) fn peer_of<T>(request: &Request<T>, cluster: Uuid) -> Result<Peer, Status> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
    let info = info.ok_or_else(|| Status::unauthenticated("the link needs TLS"))?;
    let chain = info.peer_certs().unwrap_or_default();
    let leaf = chain.first().ok_or_else(|| Status::unauthenticated("the link needs a zone's certificate"))?;
    let facts = x509::Facts::of_der(leaf).map_err(|_| Status::unauthenticated("the certificate cannot be read"))?;
    let identity: Option<ZonePeer> = facts.only_uri().and_then(|uri| uri.parse().ok());
    let identity = identity.ok_or_else(|| Status::permission_denied("the certificate is not that of a zone"))?;
    if identity.cluster != cluster {
        return Err(Status::permission_denied(format!("the certificate is of cluster {}, this is {cluster}", identity.cluster)));
    }
    Ok(Peer { identity, serial: facts.serial, key: facts.pin, address: info.get_ref().remote_addr() })
}

/// The SubjectPublicKeyInfo of a PKCS#10 request, DER.
pub(crate) fn spki_of_request(csr: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer, X509CertificationRequest};
    let (_, request) = X509CertificationRequest::from_der(csr).ok()?;
    Some(request.certification_request_info.subject_pki.raw.to_vec())
}

/// The pin of a key in words, for logs.
pub(crate) fn short(key: Pin) -> String {
    key.to_string().chars().take(12).collect()
}
