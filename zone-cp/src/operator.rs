//! The first operator's credential of this zone, and the CA that its proxies need: files of the first start.

use std::{io, net::SocketAddr};

use atoll_api::ADMIN_GROUP;
use atoll_runtime::files;
use atoll_trust::{ca::ZoneCa, jwt::UserClaims};
use chrono::TimeDelta;
use serde::Serialize;

use crate::identity::{ZoneDir, ZoneTokens};

/// How long the first token holds.
const LIFE: TimeDelta = TimeDelta::days(365);

/// What `atoll context add --from` reads.
#[derive(Serialize)]
struct Credential<'a> {
    url: &'a str,
    ca: &'a str,
    token: &'a str,
}

/// Writes `dp-ca.pem` at each start, and `operator.yaml` (0600) once.
///
/// # Errors
/// When the data directory cannot be written or the token cannot be signed.
pub(crate) fn write(dir: &ZoneDir, ca: &ZoneCa, tokens: &ZoneTokens, rest: SocketAddr) -> io::Result<()> {
    files::write_atomic(&dir.path("dp-ca.pem"), ca.cert_pem().as_bytes(), 0o644)?;
    let path = dir.path("operator.yaml");
    if path.exists() {
        return Ok(());
    }
    let claims = UserClaims { name: "mesh-system:admin".to_owned(), groups: vec![ADMIN_GROUP.to_owned()] };
    let issued = tokens.issue_user(&claims, LIFE).map_err(io::Error::other)?;
    let url = if rest.ip().is_unspecified() { format!("https://localhost:{}", rest.port()) } else { format!("https://{rest}") };
    let credential = Credential { url: &url, ca: ca.cert_pem(), token: issued.text.expose() };
    let text = serde_saphyr::to_string(&credential).map_err(io::Error::other)?;
    files::write_secret(&path, text.as_bytes())?;
    tracing::info!(path = %path.display(), "wrote the credential of this zone's first operator");
    Ok(())
}
