//! Envoys' discovery streams: who they are, what they get, and what they said of it.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::Timestamp;
use tokio::sync::watch;

use super::Proxies;
use crate::{
    identity::Acknowledgements,
    runners::{self, DataplaneAuth, DataplaneStore, EnvoyPresence, Presented, ProxyId, Runners},
    xds::{AuthRefusal, Hello, ProxyAuth, ProxyConfig, ProxySource, Status, server::Admission},
};

/// Judges a stream by the token that its Envoy shows, for the Dataplane that its node id names.
pub struct EnvoyAuth {
    /// Whom the zone believes.
    pub tokens: Arc<dyn DataplaneAuth>,
    /// The Dataplanes of this zone.
    pub dataplanes: Arc<dyn DataplaneStore>,
}

impl ProxyAuth for EnvoyAuth {
    async fn authenticate(&self, hello: &Hello) -> Result<Admission, AuthRefusal> {
        let (mesh, name) = hello
            .node_id
            .split_once('.')
            .ok_or_else(|| AuthRefusal::Denied(format!("node id {:?} must be MESH.NAME", hello.node_id)))?;
        let token = hello.authorization.as_deref().map(|text| text.strip_prefix("Bearer ").unwrap_or(text).trim());
        let token = token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| AuthRefusal::Unauthenticated("a dataplane token is needed".to_owned()))?;
        let id = ProxyId::new(mesh, name);
        let stored = self.dataplanes.get(&id);
        let stored = stored.ok_or_else(|| AuthRefusal::Unavailable(format!("no Dataplane {id} exists in this zone yet")))?;
        match self.tokens.authenticate(token, &Presented { id: &id, labels: &stored.authored.labels }) {
            Ok(principal) => Ok(Admission { proxy: id, revoked: self.tokens.withdrawn(&principal) }),
            Err(runners::AuthRefusal::Never(why)) => Err(AuthRefusal::Denied(why)),
            Err(runners::AuthRefusal::NotYet(why)) => Err(AuthRefusal::Unavailable(why)),
        }
    }
}

/// The streams of one proxy.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many are open.
    pub streams: u32,
    /// Since when one is.
    pub since: Option<Timestamp>,
    /// What was said last.
    pub status: Status,
}

/// Every proxy that has a stream.
pub type Statuses = BTreeMap<ProxyId, Seen>;

/// Joins the builder, the runners' registry and the statuses.
#[derive(Clone)]
pub struct EnvoySource {
    proxies: Proxies,
    runners: Runners,
    acknowledgements: Acknowledgements,
    statuses: watch::Sender<Statuses>,
}

impl EnvoySource {
    /// Knows no status yet.
    pub fn new(proxies: Proxies, runners: Runners, acknowledgements: Acknowledgements) -> Self {
        Self { proxies, runners, acknowledgements, statuses: watch::Sender::new(Statuses::new()) }
    }

    /// What streams said last.
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.subscribe()
    }
}

impl ProxySource for EnvoySource {
    type Presence = Presence;

    fn subscribe(&self, proxy: &ProxyId) -> watch::Receiver<Option<Arc<ProxyConfig>>> {
        self.proxies.subscribe(proxy)
    }

    fn attached(&self, proxy: &ProxyId) -> Presence {
        self.acknowledgements.expect(proxy);
        self.statuses.send_modify(|all| {
            let seen = all.entry(proxy.clone()).or_default();
            seen.streams += 1;
            seen.since.get_or_insert_with(chrono::Utc::now);
        });
        Presence { proxy: proxy.clone(), statuses: self.statuses.clone(), _of_runner: self.runners.envoy_attached(proxy.clone()) }
    }

    fn report(&self, proxy: &ProxyId, status: &Status) {
        self.acknowledgements.acknowledged(proxy, &status.secrets);
        self.statuses.send_modify(|all| {
            all.entry(proxy.clone()).or_default().status.clone_from(status);
        });
    }
}

/// An open stream; dropped when it ends.
pub struct Presence {
    proxy: ProxyId,
    statuses: watch::Sender<Statuses>,
    _of_runner: EnvoyPresence,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.statuses.send_modify(|all| {
            if let Some(seen) = all.get_mut(&self.proxy) {
                seen.streams = seen.streams.saturating_sub(1);
                if seen.streams == 0 {
                    all.remove(&self.proxy);
                }
            }
        });
    }
}
