//! What this zone answers when it is asked about itself, by global over the link or by its own operator.
//!
//! ```text
//!   probe/ingresses ─▶ targets: from the newest snapshots ─▶ probe: dials each ─▶ verdicts
//!   names           ─▶ names: what the zone's DNS hands out, and what it does not
//! ```
//!
//! Must not contain anything that a question could steer: no address, name or limit comes from its body.

pub mod names;
pub mod own_link;
pub mod probe;
pub mod targets;

use std::sync::{Arc, OnceLock};

use atoll_link::Answerer;
use atoll_model::{Clock, Name};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::{engine::ZoneView, proxies::ads::Statuses, runners::registry::View};

/// What answers are made of; clones share it.
#[derive(Clone)]
pub struct Answers(Arc<Inner>);

struct Inner {
    zone: Name,
    view: watch::Receiver<Arc<ZoneView>>,
    clock: Arc<dyn Clock>,
    proxies: OnceLock<ProxyViews>,
    /// One round of probes at a time: whoever asks often must not make the zone dial often at once.
    probing: Mutex<()>,
}

/// How this zone's proxies fare.
pub struct ProxyViews {
    /// Runners.
    pub runners: watch::Receiver<Arc<View>>,
    /// Discovery streams.
    pub envoys: watch::Receiver<Statuses>,
}

impl Answers {
    /// Answers from the newest snapshots of `zone`.
    pub fn new(zone: Name, view: watch::Receiver<Arc<ZoneView>>, clock: Arc<dyn Clock>) -> Self {
        let (proxies, probing) = (OnceLock::new(), Mutex::new(()));
        Self(Arc::new(Inner { zone, view, clock, proxies, probing }))
    }

    /// Tells from where to read how proxies fare; the first time counts.
    pub fn watch_proxies(&self, proxies: ProxyViews) {
        // There is one stage of proxies in a plane.
        let _ = self.0.proxies.set(proxies);
    }

    /// Answers a question.
    ///
    /// # Errors
    /// When there is no such question.
    pub async fn about(&self, path: &str) -> Result<Value, String> {
        match path {
            "probe/ingresses" => {
                let _turn = self.0.probing.lock().await;
                let view = self.0.view.borrow().clone();
                let targets = targets::of(&self.0.zone, &view);
                Ok(probe::answer(&self.0.zone, view.revision, targets, self.0.clock.now()).await)
            }
            "names" => {
                let view = self.0.view.borrow().clone();
                let proxies =
                    self.0.proxies.get().map(|proxies| names::proxies(&proxies.runners.borrow(), &proxies.envoys.borrow()));
                Ok(names::answer(&self.0.zone, &view, proxies))
            }
            _ => Err(format!("this zone answers no {path:?}; it may be older than who asks")),
        }
    }
}

#[tonic::async_trait]
impl Answerer for Answers {
    async fn answer(&self, path: &str, _: Bytes) -> Result<Bytes, String> {
        let answer = self.about(path).await?;
        serde_json::to_vec(&answer).map(Bytes::from).map_err(|error| error.to_string())
    }
}
