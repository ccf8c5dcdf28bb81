//! Joining: the zone finds the pinned CA in the server's chain before it says anything, then sends token and request.

use std::io;

use atoll_model::{Name, ZoneUid};
use atoll_runtime::tls;
use atoll_sync::proto;
use atoll_trust::join::JoinToken;
use bytes::Bytes;
use tonic::Code;
use uuid::Uuid;

use super::dial::channel;
use crate::{Credentials, identity::spki_of_request, services::join_client::JoinClient};

/// A zone that wants to join.
pub struct JoinRequest<'a> {
    /// Global's join port, `host:port`.
    pub address: &'a str,
    /// The one-time token, with the pin of global's CA.
    pub token: &'a JoinToken,
    /// The name that the zone wants; the token's.
    pub zone_name: Name,
    /// The identity that the zone made at its first start.
    pub zone_uid: ZoneUid,
    /// Which of its processes asks.
    pub instance: String,
    /// PKCS#10 request, DER. The same one gets the same answer again for a while.
    pub csr: Bytes,
}

/// Why a zone did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers; try again.
    #[error("cannot reach global's join port at {address}: {source}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server has not the CA of the token. Nothing was sent to it.
    #[error("the server at {0} has not the CA that the token names: wrong address, wrong token, or somebody in between")]
    OtherCa(String),
    /// Global refuses, and trying again will not help.
    #[error("{0}")]
    Refused(String),
    /// Global cannot do it now; try again.
    #[error("global cannot answer now: {0}")]
    Unavailable(String),
}

/// Exchanges a token for the zone's first certificate.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(request: JoinRequest<'_>) -> Result<Credentials, JoinError> {
    let address = request.address;
    let spki =
        spki_of_request(&request.csr).ok_or_else(|| JoinError::Refused("the certificate request cannot be read".to_owned()))?;
    let pin = request.token.pin();
    let pinned = tls::client_config_pinned(move |der| pin.find_in([der]).is_some(), &[b"h2"]);
    let (config, _) = pinned.map_err(|error| JoinError::Refused(error.to_string()))?;
    let channel = channel(address, config).await.map_err(|error| connect_error(address, error))?;
    let message = proto::RedeemRequest {
        token_id: request.token.id().to_owned(),
        token_secret: Bytes::copy_from_slice(request.token.expose_secret()),
        zone_name: request.zone_name.to_string(),
        zone_uid: Bytes::copy_from_slice(request.zone_uid.0.as_bytes()),
        instance: request.instance,
        csr_der: request.csr,
        spki_der: spki.into(),
    };
    let answer = JoinClient::new(channel).redeem(message).await.map_err(|status| match status.code() {
        Code::PermissionDenied | Code::AlreadyExists | Code::InvalidArgument => JoinError::Refused(status.message().to_owned()),
        _ => JoinError::Unavailable(status.message().to_owned()),
    })?;
    read_credentials(answer.into_inner()).ok_or_else(|| JoinError::Unavailable("the answer cannot be read".to_owned()))
}

pub(super) fn read_credentials(answer: proto::Credentials) -> Option<Credentials> {
    let cluster_id = Uuid::from_slice(&answer.cluster_id).ok()?;
    if answer.chain_der.is_empty() || answer.ca_der.is_empty() {
        return None;
    }
    Some(Credentials { chain: answer.chain_der, cas: answer.ca_der, cluster_id, zone_name: answer.zone_name.into() })
}

fn connect_error(address: &str, error: io::Error) -> JoinError {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match refused {
        Some(rustls::Error::InvalidCertificate(_)) => JoinError::OtherCa(address.to_owned()),
        Some(_) | None => JoinError::Unreachable { address: address.to_owned(), source: error },
    }
}
