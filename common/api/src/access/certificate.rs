//! Client certificates of people and programs, in place of a token: off until the plane is told whose.
//!
//! TLS verifies the chain in the handshake, against CAs that the operator names; none of the plane's own are among them. Who the
//! certificate names is read once for each connection, and whether it still holds is asked with every request: connections are
//! long, and HTTP/2 keeps them.

use std::{path::PathBuf, sync::Arc};

use atoll_model::Timestamp;
use atoll_runtime::tls::{self, ClientAuth};
use atoll_store::AuthMethod;
use atoll_trust::{
    UserCertificate,
    x509::{self, Facts},
};
use clap::Args;
use serde::Serialize;

use super::{AUTHENTICATED_GROUP, Authenticate, AuthenticationError, Caller, Credential, SYSTEM_GROUPS};

/// What is put before the names of users whom a certificate names, so that none of them passes for one with a token.
const USER_PREFIX: &str = "cert:";

/// Whose client certificates REST over TLS takes.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClientCertificates {
    /// CA certificates (PEM). A client certificate of theirs opens REST over TLS in place of a token: CN is the user (as cert:CN),
    /// O the groups [default: none, and no certificate is asked for].
    #[arg(long, env = "ATOLL_REST_CLIENT_CA_FILE", value_name = "FILE")]
    pub rest_client_ca_file: Option<PathBuf>,
}

/// Why the CAs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--rest-client-ca-file {}: {why}", file.display())]
pub struct ClientCaFault {
    file: PathBuf,
    why: String,
}

impl ClientCertificates {
    /// What the listener asks of its clients.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else than CA certificates.
    pub fn auth(&self) -> Result<ClientAuth, ClientCaFault> {
        let Some(file) = &self.rest_client_ca_file else { return Ok(ClientAuth::None) };
        let fault = |why: String| ClientCaFault { file: file.clone(), why };
        let pem = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let roots = tls::roots_from_pem(&pem).map_err(|error| fault(error.to_string()))?;
        // A root is believed whatever it says of itself: the holder of a mere client certificate could name users.
        let chain = x509::chain(&pem).map_err(|error| fault(error.to_string()))?;
        if chain.iter().any(|certificate| !Facts::of_der(certificate).is_ok_and(|facts| facts.is_ca)) {
            return Err(fault("every certificate in it must be of a CA".to_owned()));
        }
        Ok(ClientAuth::Optional(roots))
    }
}

/// Whom the certificate of a connection names, or why nobody.
#[derive(Clone, Debug)]
pub(crate) struct Shown(Arc<Result<Caller, String>>);

impl Shown {
    /// Reads a certificate in DER that TLS has verified.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let read = UserCertificate::of_der(certificate);
        Self(Arc::new(read.map(named).map_err(|fault| format!("the client certificate names nobody: {fault}"))))
    }

    /// Who asks over this connection, now.
    pub(super) fn caller(&self, judge: &dyn Authenticate, now: Timestamp) -> Result<Caller, AuthenticationError> {
        let refused = AuthenticationError::Refused;
        let caller = self.0.as_ref().as_ref().map_err(|why| refused(why.clone()))?;
        if let Some(end) = caller.credential.expires.filter(|end| *end < now) {
            return Err(refused(format!("the client certificate expired at {end}; connect again with a new one")));
        }
        judge.admit(&caller.credential)?;
        Ok(caller.clone())
    }
}

fn named(certificate: UserCertificate) -> Caller {
    let UserCertificate { name, groups, not_after, fingerprint } = certificate;
    // No issuer makes anybody a member of the plane's own groups by naming them.
    let groups = groups.into_iter().filter(|group| !group.starts_with(SYSTEM_GROUPS));
    let groups = groups.chain([AUTHENTICATED_GROUP.to_owned()]);
    let credential = Credential { method: AuthMethod::Certificate, id: fingerprint, expires: Some(not_after) };
    Caller::new(format!("{USER_PREFIX}{name}"), groups).with(credential)
}
