//! The first operator's credential: written once, to a file of mode 0600; there is no other way in.

use std::path::{Path, PathBuf};

use atoll_api::ADMIN_GROUP;
use atoll_runtime::{clock::SystemClock, files, tasks::Tasks};
use atoll_store::Store;
use atoll_trust::jwt::UserClaims;
use chrono::TimeDelta;

use crate::{
    Config, StartError, store,
    zones::{GlobalKeys, GlobalTokens, ZoneRegistry},
};

/// The file in the data directory; `atoll context add --from` reads it.
const FILE: &str = "operator.yaml";
/// The row that says that the credential was handed out.
const DONE_ROW: &str = "first-start/operator";
/// How long the token holds; `reset-operator` makes a new one.
const LIFE: TimeDelta = TimeDelta::days(365);
/// The name in the token.
const NAME: &str = "mesh-system:admin";

/// Writes operator.yaml, if the credential was never handed out.
pub(crate) async fn write_once(store: &Store, data: &Path, url: &str, ca: &str, tokens: &GlobalTokens) -> Result<(), StartError> {
    if store.blob(DONE_ROW).await.map_err(StartError::Rows)?.is_some() {
        return Ok(());
    }
    let path = write(data, url, ca, tokens)?;
    store.put_blob_if_absent(DONE_ROW, b"1").await.map_err(StartError::Rows)?;
    tracing::info!(path = %path.display(), "wrote the operator's credential; read it with `atoll context add --from {}`", path.display());
    Ok(())
}

/// Replaces operator.yaml; gives its path.
///
/// # Errors
/// When the store cannot be opened, such as the embedded one while an instance runs.
pub async fn reset_operator(config: &Config) -> Result<PathBuf, StartError> {
    let clock = std::sync::Arc::new(SystemClock);
    let tasks = Tasks::new();
    let store = store::open(config, clock.clone(), &tasks).await?;
    let now = atoll_model::Clock::now(&*clock);
    let keys = GlobalKeys::open(&store, now, &mut rand::rng()).await?;
    let ca = keys.ca.cert_pem().to_owned();
    let registry = ZoneRegistry::new(store.clone(), std::sync::Arc::new(keys), clock, rand::SeedableRng::from_os_rng());
    let path = write(&config.data_dir, &url(config, config.rest_tls_listen), &ca, &GlobalTokens::new(registry.clone()))?;
    store.put_blob(DONE_ROW, b"1").await.map_err(StartError::Rows)?;
    store.close().await;
    // The embedded store's directory is free again only when its last task has ended.
    drop((store, registry));
    tasks.join_all(std::time::Duration::from_secs(5)).await;
    Ok(path)
}

fn write(data: &Path, url: &str, ca: &str, tokens: &GlobalTokens) -> Result<PathBuf, StartError> {
    let path = data.join(FILE);
    let fail = |why: String| StartError::Operator { path: path.clone(), why };
    let claims = UserClaims { name: NAME.to_owned(), groups: vec![ADMIN_GROUP.to_owned()] };
    let issued = tokens.issue_user(&claims, LIFE).map_err(|error| fail(error.to_string()))?;
    let text = file_text(url, ca, issued.text.expose());
    files::private_dir(data).map_err(|error| fail(error.to_string()))?;
    files::write_secret(&path, text.as_bytes()).map_err(|error| fail(error.to_string()))?;
    Ok(path)
}

/// The file as YAML, the token in one line, for people's scripts.
fn file_text(url: &str, ca: &str, token: &str) -> String {
    let ca: String = ca.lines().map(|line| format!("  {line}\n")).collect();
    format!("url: {url}\nca: |\n{ca}token: {token}\n")
}

/// The URL by which people reach REST over TLS, when it listens at `bound`.
pub(crate) fn url(config: &Config, bound: std::net::SocketAddr) -> String {
    match &config.public_url {
        Some(url) => url.clone(),
        None if bound.ip().is_unspecified() => format!("https://localhost:{}", bound.port()),
        None => format!("https://{bound}"),
    }
}
