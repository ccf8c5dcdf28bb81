//! The first operator's credential: written once, to a file of mode 0600; there is no other way in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use atoll_api::{ADMIN_GROUP, IssueTokens};
use atoll_model::{Timestamp, resource::canonical_json};
use atoll_runtime::{clock::SystemClock, files, tasks::Tasks};
use atoll_store::{Store, StoreError, TokenRevocation};
use atoll_trust::jwt::{Issued, UserClaims};
use chrono::TimeDelta;

use crate::{
    Config, StartError, store,
    zones::{GlobalKeys, GlobalTokens, ZoneRegistry},
};

/// The file in the data directory; `atoll context add --from` reads it.
const FILE: &str = "operator.yaml";
/// The row that says that the credential was handed out.
const DONE_ROW: &str = "first-start/operator";
/// The row with the names of the tokens that were handed out, so that they can be revoked though their file is lost.
const TOKENS_ROW: &str = "operator/tokens";
/// How long the token holds; `reset-operator` makes a new one.
const LIFE: TimeDelta = TimeDelta::days(365);
/// The name in the token.
const NAME: &str = "mesh-system:admin";

/// Writes operator.yaml, if the credential was never handed out.
pub(crate) async fn write_once(store: &Store, data: &Path, url: &str, ca: &str, tokens: &GlobalTokens) -> Result<(), StartError> {
    if store.blob(DONE_ROW).await.map_err(StartError::Rows)?.is_some() {
        return Ok(());
    }
    let (path, token) = write(data, url, ca, tokens)?;
    remember(store, token).await.map_err(StartError::Rows)?;
    store.put_blob_if_absent(DONE_ROW, b"1").await.map_err(StartError::Rows)?;
    tracing::info!(path = %path.display(), "wrote the operator's credential; read it with `atoll context add --from {}`", path.display());
    Ok(())
}

/// The tokens that were handed out in operator.yaml.
async fn handed_out(store: &Store) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let row = store.blob(TOKENS_ROW).await?;
    Ok(row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default())
}

async fn remember(store: &Store, token: Issued) -> Result<(), StoreError> {
    let mut tokens = handed_out(store).await?;
    tokens.insert(token.id, token.expires);
    store.put_blob(TOKENS_ROW, &canonical_json(&tokens)).await
}

/// Ends what operator.yaml held until now: who found the lost file must not get in with it.
async fn revoke_old(store: &Store, data: &Path, tokens: &GlobalTokens, now: Timestamp) -> Result<(), StoreError> {
    let mut old = handed_out(store).await?;
    if let Some(token) = std::fs::read_to_string(data.join(FILE)).ok().as_deref().and_then(token_of)
        && let Ok(token) = tokens.identify(token)
    {
        old.insert(token.id, token.until);
    }
    for (id, until) in old.into_iter().filter(|(_, until)| *until > now) {
        store.revoke_token(&TokenRevocation { id, until, at: now, by: "reset-operator".to_owned() }).await?;
    }
    store.put_blob(TOKENS_ROW, b"{}").await
}

/// The token in an operator.yaml.
fn token_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("token: ")).map(str::trim)
}

/// Replaces operator.yaml, and revokes what it held; gives its path.
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
    let tokens = GlobalTokens::new(registry.clone());
    revoke_old(&store, &config.data_dir, &tokens, now).await.map_err(StartError::Rows)?;
    let (path, token) = write(&config.data_dir, &url(config, config.rest_tls_listen), &ca, &tokens)?;
    remember(&store, token).await.map_err(StartError::Rows)?;
    store.put_blob(DONE_ROW, b"1").await.map_err(StartError::Rows)?;
    drop(tokens);
    store.close().await;
    // The embedded store's directory is free again only when its last task has ended.
    drop((store, registry));
    tasks.join_all(std::time::Duration::from_secs(5)).await;
    Ok(path)
}

fn write(data: &Path, url: &str, ca: &str, tokens: &GlobalTokens) -> Result<(PathBuf, Issued), StartError> {
    let path = data.join(FILE);
    let fail = |why: String| StartError::Operator { path: path.clone(), why };
    let claims = UserClaims { name: NAME.to_owned(), groups: vec![ADMIN_GROUP.to_owned()] };
    let issued = tokens.issue_user(&claims, LIFE).map_err(|error| fail(error.to_string()))?;
    let text = file_text(url, ca, issued.text.expose());
    files::private_dir(data).map_err(|error| fail(error.to_string()))?;
    files::write_secret(&path, text.as_bytes()).map_err(|error| fail(error.to_string()))?;
    Ok((path, issued))
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
