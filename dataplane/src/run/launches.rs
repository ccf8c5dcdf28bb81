//! What Envoy is started with: the zone's parameters and this machine's.

use std::{sync::Arc, time::Duration};

use atoll_runtime::tasks::Tasks;
use tokio::sync::watch;
use tracing::info;

use crate::{
    bootstrap::{self, Local, Parameters},
    envoy::process::Launch,
    folder::Folder,
};

/// How long a new Envoy waits for its zone's word before it is started by the last one.
const ZONE_FIRST: Duration = Duration::from_secs(3);

/// Makes launches out of the zone's parameters.
pub(super) struct Launches {
    /// What this machine adds to the bootstrap.
    pub(super) local: Local,
    /// Everything but bootstrap and drain time, which the parameters give.
    pub(super) rest: Launch,
    /// Whether Envoy runs already.
    pub(super) adopted: bool,
}

impl Launches {
    /// The parameters that were known last hold at once for an adopted Envoy, and after a moment for a new one when the zone is
    /// away.
    pub(super) fn spawn(
        self,
        tasks: &Tasks,
        folder: &Folder,
        node_id: &str,
        parameters: watch::Receiver<Option<Parameters>>,
    ) -> watch::Receiver<Option<Arc<Launch>>> {
        let saved = folder.load::<Parameters>("parameters.json").filter(|saved| saved.node_id == node_id);
        let saved = saved.filter(|_| folder.path("zone-ca.pem").exists());
        let (sender, launches) = watch::channel(saved.as_ref().filter(|_| self.adopted).map(|saved| self.launch(saved)));
        let saved = saved.filter(|_| !self.adopted);
        tasks.spawn("launches", self.follow(saved, parameters, sender));
        launches
    }

    async fn follow(
        self,
        saved: Option<Parameters>,
        mut parameters: watch::Receiver<Option<Parameters>>,
        sender: watch::Sender<Option<Arc<Launch>>>,
    ) {
        if let Some(saved) = saved
            && tokio::time::timeout(ZONE_FIRST, parameters.wait_for(Option::is_some)).await.is_err()
        {
            info!("the zone is away: Envoy is started with its last word");
            sender.send_replace(Some(self.launch(&saved)));
        }
        loop {
            if let Some(parameters) = parameters.borrow_and_update().as_ref() {
                sender.send_replace(Some(self.launch(parameters)));
            }
            if parameters.changed().await.is_err() {
                return;
            }
        }
    }

    fn launch(&self, parameters: &Parameters) -> Arc<Launch> {
        Arc::new(Launch {
            bootstrap: bootstrap::bootstrap(parameters, &self.local),
            drain_seconds: parameters.drain_seconds,
            ..self.rest.clone()
        })
    }
}
