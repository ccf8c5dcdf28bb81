//! The join port.

use std::sync::Arc;

use atoll_model::ZoneUid;
use atoll_sync::proto;
use tonic::{
    Request, Response, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use uuid::Uuid;

use crate::{Credentials, Issuer, RedeemRequest, Refusal, identity::spki_of_request, services::join_server::Join};

pub(super) struct JoinService {
    pub(super) issuer: Arc<dyn Issuer>,
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn redeem(&self, request: Request<proto::RedeemRequest>) -> Result<Response<proto::Credentials>, Status> {
        let address = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>().and_then(|info| info.get_ref().remote_addr());
        let message = request.into_inner();
        let uid = Uuid::from_slice(&message.zone_uid).map_err(|_| Status::invalid_argument("zone_uid has not 16 bytes"))?;
        if spki_of_request(&message.csr_der).is_none_or(|spki| spki != message.spki_der) {
            return Err(Status::invalid_argument("the certificate request cannot be read, or is for another key"));
        }
        let request = RedeemRequest {
            token_id: message.token_id,
            token_secret: message.token_secret,
            zone_name: message.zone_name.into(),
            zone_uid: ZoneUid(uid),
            instance: message.instance,
            csr: message.csr_der,
            spki: message.spki_der,
            address,
        };
        let zone = request.zone_name.clone();
        match self.issuer.redeem(request).await {
            Ok(credentials) => {
                tracing::info!(zone.name = %zone, zone.uid = %uid, "zone joined");
                Ok(Response::new(credentials.into()))
            }
            Err(refusal) => {
                tracing::warn!(zone.name = %zone, zone.uid = %uid, %refusal, "zone not joined");
                Err(refusal.into())
            }
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotAdmitted(reason) => Status::permission_denied(reason),
            Refusal::Taken(reason) => Status::already_exists(reason),
            Refusal::Unavailable(reason) => Status::unavailable(reason),
        }
    }
}

impl From<Credentials> for proto::Credentials {
    fn from(credentials: Credentials) -> Self {
        Self {
            chain_der: credentials.chain,
            ca_der: credentials.cas,
            cluster_id: bytes::Bytes::copy_from_slice(credentials.cluster_id.as_bytes()),
            zone_name: credentials.zone_name.to_string(),
        }
    }
}
