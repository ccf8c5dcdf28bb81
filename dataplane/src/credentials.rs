//! The dataplane token and the zone's CA: what the runner shows, and whom it believes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use atoll_runtime::tls::{self, FoundCa};
use atoll_trust::{Pin, SecretText, pin, x509};
use rustls::ClientConfig;

pub use atoll_trust::ca::ZONE_SERVER_NAME;

/// What is wrong with the token or the CA.
#[derive(Debug, thiserror::Error)]
pub enum CredentialFault {
    /// No file is named.
    #[error("a dataplane token is needed: atoll token dataplane … > FILE, then --dataplane-token-file FILE")]
    NoToken,
    /// It cannot be read.
    #[error("cannot read {what} {path}: {error}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It is empty.
    #[error("the token file {0} is empty")]
    Empty(PathBuf),
    /// What stands behind the token is no pin.
    #[error("the token file {0} is damaged: {1}")]
    Pin(PathBuf, pin::PinError),
    /// Neither a CA nor a pin.
    #[error(
        "whom to believe? Give --ca-cert-file (the zone's CA), or a token with its pin (token#sha256:…, as the zone prints it)"
    )]
    NoTrust,
    /// The CA is none.
    #[error("{0} holds no usable CA certificate")]
    BadCa(PathBuf, #[source] tls::TlsError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] tls::TlsError),
}

/// A token as it stands in its file.
#[derive(Clone, Debug)]
pub struct Token {
    /// What is shown to the zone.
    pub bare: SecretText,
    /// The CA that it names.
    pub pin: Option<Pin>,
}

/// Reads the token file.
///
/// # Errors
/// When there is none, or it holds none.
pub fn read_token(path: Option<&Path>) -> Result<Token, CredentialFault> {
    let path = path.ok_or(CredentialFault::NoToken)?;
    let text = std::fs::read_to_string(path).map_err(|error| CredentialFault::Unreadable {
        what: "the token file",
        path: path.to_owned(),
        error,
    })?;
    let (bare, pin) = pin::split_token(text.trim()).map_err(|error| CredentialFault::Pin(path.to_owned(), error))?;
    if bare.is_empty() {
        return Err(CredentialFault::Empty(path.to_owned()));
    }
    Ok(Token { bare: SecretText::new(bare), pin })
}

/// Whom the runner believes to be its zone.
#[derive(Debug)]
pub struct ZoneTrust {
    /// For the runner's own connections.
    pub config: Arc<ClientConfig>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(String),
    Pinned(FoundCa),
}

impl ZoneTrust {
    /// From the CA's file, or else from the token's pin.
    ///
    /// # Errors
    /// When neither is there, or the file holds no CA.
    pub fn new(ca_file: Option<&Path>, pin: Option<Pin>) -> Result<Self, CredentialFault> {
        let bad = |path: &Path| {
            let path = path.to_owned();
            move |error| CredentialFault::BadCa(path, error)
        };
        match (ca_file, pin) {
            (Some(path), _) => {
                let pem = std::fs::read_to_string(path).map_err(|error| CredentialFault::Unreadable {
                    what: "the CA file",
                    path: path.to_owned(),
                    error,
                })?;
                let roots = tls::roots_from_pem(&pem).map_err(bad(path))?;
                let config = tls::client_config(roots, None, &[b"h2"]).map_err(bad(path))?;
                Ok(Self { config, source: Source::File(pem) })
            }
            (None, Some(pin)) => {
                let pinned = tls::client_config_pinned(move |der| pin.find_in([der]).is_some(), &[b"h2"]);
                let (config, found) = pinned.map_err(CredentialFault::Tls)?;
                Ok(Self { config, source: Source::Pinned(found) })
            }
            (None, None) => Err(CredentialFault::NoTrust),
        }
    }

    /// The CA in PEM, for Envoy. With a pin it is known after the first good handshake.
    pub fn ca_pem(&self) -> Option<String> {
        match &self.source {
            Source::File(pem) => Some(pem.clone()),
            Source::Pinned(found) => found.get().map(|der| x509::to_pem(der)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("token");
            std::fs::write(&path, text).unwrap();
            path
        };
        assert!(read_token(None).unwrap_err().to_string().contains("--dataplane-token-file"));
        assert!(read_token(Some(Path::new("/absent"))).unwrap_err().to_string().contains("/absent"));
        assert!(read_token(Some(&file(" \n"))).unwrap_err().to_string().contains("empty"));
        assert!(read_token(Some(&file("a.b#sha256:12"))).unwrap_err().to_string().contains("damaged"));
        assert!(ZoneTrust::new(None, None).unwrap_err().to_string().contains("--ca-cert-file"));
        assert!(ZoneTrust::new(Some(&file("no PEM")), None).unwrap_err().to_string().contains("no usable CA"));
    }

    #[test]
    fn the_pin_is_taken_off_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let pin = Pin::of_spki(b"key");
        std::fs::write(&path, format!("{}\n", pin.append_to("a.b.c"))).unwrap();
        let token = read_token(Some(&path)).unwrap();
        assert_eq!((token.bare.expose(), token.pin), ("a.b.c", Some(pin)));
    }
}
