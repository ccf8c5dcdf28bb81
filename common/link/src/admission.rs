//! What global decides about zones that knock: the ports that the program implements.

use std::net::SocketAddr;

use atoll_model::{Name, ZoneUid};
use atoll_trust::{Pin, ZonePeer};
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

/// A zone's process, as its client certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Cluster, zone and instance of the URI SAN.
    pub identity: ZonePeer,
    /// Serial number of the certificate, lower-case hexadecimal.
    pub serial: String,
    /// Which key it holds.
    pub key: Pin,
    /// Where it calls from.
    pub address: Option<SocketAddr>,
}

/// Why a zone is sent away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no right to connect, and trying again will not help.
    #[error("not admitted: {0}")]
    NotAdmitted(String),
    /// Another holder of this name or identity is known.
    #[error("held by another: {0}")]
    Taken(String),
    /// It cannot be decided now; try again.
    #[error("cannot be decided now: {0}")]
    Unavailable(String),
}

/// Who may open a session.
#[tonic::async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Decides about a peer with a valid certificate of this cluster. Gives the zone's name.
    async fn admit(&self, peer: &Peer) -> Result<Name, Refusal>;

    /// Ticks when an earlier answer may have changed (a revocation, a deleted zone): open sessions ask again.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// Who gives certificates to zones.
#[tonic::async_trait]
pub trait Issuer: Send + Sync + 'static {
    /// Exchanges a one-time token for a zone's first certificate.
    async fn redeem(&self, request: RedeemRequest) -> Result<Credentials, Refusal>;

    /// Gives an admitted peer a new certificate.
    async fn renew(&self, peer: &Peer, request: RenewRequest) -> Result<Credentials, Refusal>;
}

/// A zone's request to join. The secret is in it: it has no `Debug`.
#[derive(Clone)]
pub struct RedeemRequest {
    /// Finds the token.
    pub token_id: String,
    /// The token's secret.
    pub token_secret: Bytes,
    /// The name that the zone wants.
    pub zone_name: Name,
    /// The identity that it made at its first start.
    pub zone_uid: ZoneUid,
    /// Which of its processes asks.
    pub instance: String,
    /// PKCS#10 request, DER.
    pub csr: Bytes,
    /// Its public key, DER.
    pub spki: Bytes,
    /// Where it calls from.
    pub address: Option<SocketAddr>,
}

/// A zone's request for a new certificate.
#[derive(Clone, Debug)]
pub struct RenewRequest {
    /// PKCS#10 request, DER.
    pub csr: Bytes,
    /// Its public key, DER.
    pub spki: Bytes,
}

/// What a zone shows and trusts on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The zone's certificate and those above it, leaf first, DER.
    pub chain: Vec<Bytes>,
    /// The CAs of the control plane, DER.
    pub cas: Vec<Bytes>,
    /// The cluster.
    pub cluster_id: Uuid,
    /// The name under which global knows the zone.
    pub zone_name: Name,
}
