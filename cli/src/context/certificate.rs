//! The client certificate that a context names: files, read for every command, so that they may be renewed where they are.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use atoll_runtime::tls;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Context, require_private};

impl Context {
    /// The certificate chain and key, if the context names any.
    ///
    /// # Errors
    /// When a file is missing, not what it should be, or others may read the key.
    pub fn certificate(&self) -> anyhow::Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        let (chain, key) = match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => return Ok(None),
            (Some(chain), Some(key)) => (chain, key),
            (Some(_), None) | (None, Some(_)) => bail!("a client certificate needs --client-cert-file and --client-key-file"),
        };
        if !self.url.starts_with("https://") {
            bail!("a client certificate is shown over https only, and the URL is {}", self.url);
        }
        let text = read(key)?;
        require_private(key, "key")?;
        let key = tls::key_from_pem(&text).with_context(|| format!("{} cannot be used", key.display()))?;
        let chain = tls::chain_from_pem(&read(chain)?).with_context(|| format!("{} cannot be used", chain.display()))?;
        Ok(Some((chain, key)))
    }
}

/// Whom the certificate in a file names and until when it holds.
pub(super) fn holder(file: &Path) -> String {
    let read = read(file).ok().and_then(|text| tls::chain_from_pem(&text).ok());
    let told = read.and_then(|chain| {
        let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
        let until = chrono::DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)?;
        Some(format!("of {}, holds until {}", certificate.subject(), super::show::time(until)))
    });
    format!("{} {}", file.display(), told.unwrap_or_else(|| "(cannot be read)".to_owned()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
