//! Tokens of an identity provider (OpenID Connect): its keys are found by discovery and kept, its claims become a [`Caller`].
//!
//! ```text
//!   ISSUER/.well-known/openid-configuration ─▶ jwks_uri ─▶ keys ──┐   every 10 minutes, and at once for a key that is not known
//!                                                                 ▼
//!                                       token ─▶ verify ─▶ claims ─▶ name and groups
//! ```
//!
//! Nothing is ever fetched from a place that a token names. Keys that could not be read again for a day are not believed any more.

mod fetch;
mod settings;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_model::{Clock, Timestamp};
use atoll_runtime::backoff::Backoff;
use atoll_store::AuthMethod;
use atoll_trust::jwt::{Expected, ExternalClaims, JwkSet, LEEWAY, TokenFault, claimed_issuer};
use chrono::TimeDelta;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use fetch::FetchError;
use fetch::Fetcher;
pub use settings::{OidcFault, OidcSettings};

use super::{AuthenticationError, Caller, Credential, SYSTEM_GROUPS};

/// How often the keys are read again.
const REFRESH: Duration = Duration::from_secs(600);
/// How long keys are believed without having been read again.
const BELIEVED: TimeDelta = TimeDelta::hours(24);
/// A key that is not known is looked for at most so often.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(10);
/// How long a request waits for the keys.
const PATIENCE: Duration = Duration::from_secs(3);
/// Groups that are taken from a token.
const GROUPS_MAX: usize = 200;
/// Longest name of a user or group.
const NAME_MAX: usize = 256;

/// An identity provider; clones share it.
#[derive(Clone)]
pub struct Oidc(Arc<Inner>);

struct Inner {
    settings: OidcSettings,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    known: watch::Sender<Known>,
    wake: Notify,
    asked: Mutex<Option<Timestamp>>,
}

/// What is known of the provider.
#[derive(Clone, Default)]
struct Known {
    keys: Option<(Arc<JwkSet>, Timestamp)>,
    /// How often it was tried to read them.
    tries: u64,
    failure: Option<String>,
}

impl Oidc {
    /// Knows no keys yet: [`Oidc::run`] reads them.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn new(settings: OidcSettings, clock: Arc<dyn Clock>) -> Result<Self, OidcFault> {
        let fetcher = Fetcher::new(&settings)?;
        let (known, wake, asked) = (watch::Sender::default(), Notify::new(), Mutex::default());
        Ok(Self(Arc::new(Inner { settings, fetcher, clock, known, wake, asked })))
    }

    /// Whether a token says that it is of this provider; nothing of it is believed yet.
    pub fn claims(&self, token: &str) -> bool {
        claimed_issuer(token).as_deref() == Some(self.0.settings.issuer.as_str())
    }

    /// Who holds a token of this provider.
    ///
    /// # Errors
    /// When it is refused, or the provider's keys are not known.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let known = self.keys().await?;
        match self.verify(&known, token) {
            Err(TokenFault::UnknownKey) if self.look_again() => {
                self.tried().await;
                let known = self.keys().await?;
                self.verify(&known, token)
            }
            judged => judged,
        }
        .map_err(|fault| AuthenticationError::Refused(format!("{fault} (of the identity provider)")))
        .and_then(|claims| self.caller(claims))
    }

    fn verify(&self, keys: &JwkSet, token: &str) -> Result<ExternalClaims, TokenFault> {
        let settings = &self.0.settings;
        let expected = Expected { issuer: &settings.issuer, audience: &settings.audience };
        keys.verify(token, expected, self.0.clock.now())
    }

    /// The keys; waits a moment for them after the start.
    async fn keys(&self) -> Result<Arc<JwkSet>, AuthenticationError> {
        let mut known = self.0.known.subscribe();
        let _ = tokio::time::timeout(PATIENCE, known.wait_for(|known| known.keys.is_some() || known.tries > 0)).await;
        let known = known.borrow().clone();
        let believed = known.keys.filter(|(_, at)| self.0.clock.now() - *at <= BELIEVED);
        believed.map(|(keys, _)| keys).ok_or_else(|| {
            let why = known.failure.unwrap_or_else(|| "its keys were not read yet".to_owned());
            let issuer = &self.0.settings.issuer;
            AuthenticationError::Unavailable(format!(
                "tokens of {issuer} cannot be judged now: {why}; tokens of the control plane itself go on working"
            ))
        })
    }

    /// Asks for the keys to be read again, unless that was done a moment ago.
    fn look_again(&self) -> bool {
        let now = self.0.clock.now();
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| now - asked < LOOK_AGAIN) {
            return false;
        }
        *asked = Some(now);
        self.0.wake.notify_one();
        true
    }

    async fn tried(&self) {
        let mut known = self.0.known.subscribe();
        let before = known.borrow().tries;
        let _ = tokio::time::timeout(PATIENCE, known.wait_for(|known| known.tries > before)).await;
    }

    fn caller(&self, claims: ExternalClaims) -> Result<Caller, AuthenticationError> {
        let settings = &self.0.settings;
        let claim = &settings.user_claim;
        let name = claims.claims.get(claim).and_then(Value::as_str).filter(|name| is_name(name));
        let name =
            name.ok_or_else(|| AuthenticationError::Refused(format!("the token has no claim {claim} that names the user")))?;
        // Who can be renamed by others must not pass for them.
        if claim == "email" && claims.claims.get("email_verified") == Some(&Value::Bool(false)) {
            return Err(AuthenticationError::Refused("the token's email is not verified".to_owned()));
        }
        let credential = Credential { method: AuthMethod::Oidc, id: claims.id.clone(), expires: Some(claims.expires + LEEWAY) };
        Ok(Caller::new(format!("{}{name}", settings.user_prefix), groups(settings, &claims.claims)).with(credential))
    }

    /// Reads the keys until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let (mut rng, mut backoff) = (StdRng::from_os_rng(), Backoff::new(Duration::from_secs(1), Duration::from_secs(60)));
        loop {
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = self.0.fetcher.keys() => read,
            };
            let pause = match &read {
                Ok(_) => {
                    backoff.reset();
                    REFRESH
                }
                Err(error) => {
                    tracing::warn!(oidc.issuer = self.0.settings.issuer, %error, "cannot read the identity provider's keys; trying again");
                    backoff.next(&mut rng)
                }
            };
            let now = self.0.clock.now();
            self.0.known.send_modify(|known| {
                known.tries += 1;
                known.failure = read.as_ref().err().map(ToString::to_string);
                if let Ok(keys) = read {
                    known.keys = Some((Arc::new(keys), now));
                }
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The groups that a token gives: mapped where the settings say so, with the prefix otherwise. No provider makes anybody a member
/// of the plane's own groups by naming them.
fn groups(settings: &OidcSettings, claims: &Map<String, Value>) -> Vec<String> {
    let given: Vec<&str> = match claims.get(&settings.groups_claim) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).take(GROUPS_MAX).collect(),
        _ => Vec::new(),
    };
    let prefixed = |group: &str| {
        let name = format!("{}{group}", settings.groups_prefix);
        (!name.starts_with(SYSTEM_GROUPS)).then_some(name)
    };
    let named = given.into_iter().filter(|group| is_name(group));
    named.filter_map(|group| settings.group_map.get(group).cloned().or_else(|| prefixed(group))).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_provider_names_its_users_administrators() {
        let mut settings = OidcSettings::new("https://idp.example", "atoll");
        let claims = json!({"groups": ["ops", "mesh-system:admin", "", "platform"]});
        let of = |settings: &OidcSettings| groups(settings, claims.as_object().unwrap());
        assert_eq!(of(&settings), ["ops", "platform"]);
        settings.group_map.insert("platform".to_owned(), "mesh-system:admin".to_owned());
        assert_eq!(of(&settings), ["ops", "mesh-system:admin"]);
        settings.groups_prefix = "idp:".to_owned();
        assert_eq!(of(&settings), ["idp:ops", "idp:mesh-system:admin", "mesh-system:admin"]);
        settings.groups_prefix = "mesh-system:".to_owned();
        settings.group_map.clear();
        assert!(of(&settings).is_empty());
    }
}
