//! What a plane's first start wrote for its operator, as plain files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{layout::Layout, rest::Plane};

/// A plane's `operator.yaml`.
#[derive(Debug, Deserialize)]
struct Operator {
    ca: String,
    token: String,
}

/// Where to ask a plane, and with what.
#[derive(Clone, Debug)]
pub struct Access {
    /// REST over TLS.
    pub url: String,
    /// PEM of its CA.
    pub ca: PathBuf,
    /// The bare token.
    pub token: PathBuf,
}

impl Access {
    /// The files of a plane; they are there once [`Access::unpack`] ran.
    pub fn of(layout: &Layout, plane: &str, address: std::net::IpAddr) -> Self {
        let folder = layout.folder("access");
        Self {
            url: format!("https://{address}:5682"),
            ca: folder.join(format!("{plane}-ca.pem")),
            token: folder.join(format!("{plane}-token")),
        }
    }

    /// Writes the files from the plane's `operator.yaml`.
    pub fn unpack(&self, operator: &Path) -> Result<()> {
        let text = std::fs::read_to_string(operator).with_context(|| format!("cannot read {}", operator.display()))?;
        let operator: Operator = serde_saphyr::from_str(&text).with_context(|| format!("{} is damaged", operator.display()))?;
        atoll_runtime::files::private_dir(self.ca.parent().unwrap_or(Path::new(".")))?;
        atoll_runtime::files::write_atomic(&self.ca, operator.ca.as_bytes(), 0o644)?;
        atoll_runtime::files::write_secret(&self.token, operator.token.trim().as_bytes())?;
        Ok(())
    }

    /// The plane's REST.
    pub fn plane(&self) -> Result<Plane> {
        Plane::new(&self.url, &self.ca, &self.token)
    }
}
