//! `Runner.Attach` on the wire: one task per stream that reads, tells the registry, and pushes.

use std::{pin::Pin, sync::Arc, time::Duration};

use atoll_model::{
    Name,
    labels::{Viewpoint, WORKLOAD},
};
use atoll_runtime::tasks::Tasks;
use futures::Stream;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};

use super::{
    admission::{AuthRefusal, DataplaneAuth, Presented, Principal, token_of},
    liveness::{ProxyId, Word},
    names::NameTable,
    proto::{self, from_runner, to_runner},
    registration::{self, RegisterFault, Registration, unhealthy},
    registry::{AttachRefusal, Attachment, Runners},
    store::{DataplaneStore, StoreRefusal},
};

/// How long a runner may take to say who it is.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that wait for a slow runner.
const OUTBOX: usize = 16;

/// What a runner wants of its proxy's configuration, beside what the Dataplane says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Where the addresses of services are bound; none: at their VIPs.
    pub bind_outbounds: Option<IpNet>,
    /// Whether connections and requests are logged.
    pub access_log: bool,
}

/// Gives each proxy the names that its DNS answers.
pub trait NameTables: Send + Sync + 'static {
    /// The proxy's table and its changes; addresses are in `bind_outbounds` if that is set, VIPs otherwise.
    fn subscribe(&self, id: &ProxyId, wishes: Wishes) -> watch::Receiver<Arc<NameTable>>;
}

/// What runners are told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This plane.
    pub viewpoint: Viewpoint,
    /// This zone's name.
    pub zone: Name,
    /// Envoy's `--drain-time-s`.
    pub drain_seconds: u32,
    /// Pause between two heartbeats.
    pub heartbeat_seconds: u32,
    /// `host:port` for Envoy, where that is not what the runner dialled.
    pub ads_address: Option<String>,
}

impl Settings {
    /// The defaults for a zone.
    pub fn new(viewpoint: Viewpoint, zone: Name) -> Self {
        Self { viewpoint, zone, drain_seconds: 10, heartbeat_seconds: 5, ads_address: None }
    }
}

/// Serves `proto/atoll/runner/v1`.
#[derive(Clone)]
pub struct RunnerService {
    runners: Runners,
    store: Arc<dyn DataplaneStore>,
    auth: Arc<dyn DataplaneAuth>,
    names: Arc<dyn NameTables>,
    settings: Arc<Settings>,
    tasks: Tasks,
    stop: CancellationToken,
}

impl RunnerService {
    /// Makes the service; streams end when `stop` is cancelled.
    pub fn new(
        runners: Runners,
        store: Arc<dyn DataplaneStore>,
        auth: Arc<dyn DataplaneAuth>,
        names: Arc<dyn NameTables>,
        settings: Settings,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        Self { runners, store, auth, names, settings: Arc::new(settings), tasks, stop }
    }

    /// The tonic service.
    pub fn into_server(self) -> proto::runner_server::RunnerServer<Self> {
        proto::runner_server::RunnerServer::new(self)
    }

    /// What Envoy's bootstrap needs.
    fn bootstrap(&self, registration: &Registration) -> proto::Bootstrap {
        let id = &registration.id;
        let labels = registration.authored.as_ref().map(|authored| authored.labels.clone());
        let labels = labels.or_else(|| Some(self.store.get(id)?.authored.labels)).unwrap_or_default();
        proto::Bootstrap {
            node_id: format!("{}.{}", id.mesh, id.name),
            cluster: labels.get(WORKLOAD).cloned().unwrap_or_else(|| id.name.to_string()),
            zone: self.settings.zone.to_string(),
            ads_address: self.settings.ads_address.clone().unwrap_or_default(),
            ads_server_name: String::new(),
            drain_seconds: self.settings.drain_seconds,
        }
    }

    /// The token must do for what is presented, and for what is stored under that name.
    fn authenticate(&self, token: Option<&str>, registration: &Registration) -> Result<Principal, Refusal> {
        let token = token.ok_or_else(|| Refusal::never("a dataplane token is needed: --dataplane-token-file"))?;
        let id = &registration.id;
        let stored = self.store.get(id);
        let documents = registration.authored.iter().chain(stored.iter().map(|stored| &stored.authored));
        let mut principal = Err(Refusal::later(AttachRefusal::Missing(id.clone())));
        for document in documents {
            principal = Ok(self.auth.authenticate(token, &Presented { id, labels: &document.labels })?);
        }
        principal
    }

    async fn register(&self, token: Option<&str>, register: &proto::Register) -> Result<Session, Refusal> {
        let registration = registration::read(&self.settings.viewpoint, register)?;
        let by = self.authenticate(token, &registration)?;
        let (bootstrap, id) = (self.bootstrap(&registration), registration.id.clone());
        let wishes = Wishes { bind_outbounds: registration.bind_outbounds, access_log: registration.access_log };
        let word = registration.word.clone();
        let withdrawn = self.auth.withdrawn(&by);
        let (sender, orders) = mpsc::channel(OUTBOX);
        let attachment = self.runners.attach(registration, by, sender).await?;
        let names = self.names.subscribe(&id, wishes);
        Ok(Session { id, attachment, word, bootstrap, orders, names, withdrawn })
    }

    async fn serve(self, token: Option<String>, mut inbound: Streaming<proto::FromRunner>, out: Outbox) {
        let first = tokio::time::timeout(REGISTER_TIMEOUT, inbound.message()).await;
        let Ok(Ok(Some(proto::FromRunner { message: Some(from_runner::Message::Register(register)) }))) = first else {
            let _ = out.0.send(Err(Status::invalid_argument("the first message must be Register"))).await;
            return;
        };
        let session = tokio::select! {
            session = self.register(token.as_deref(), &register) => session,
            () = self.stop.cancelled() => return,
        };
        match session {
            Ok(session) => {
                let id = session.id.clone();
                info!(mesh = %id.mesh, dataplane = %id.name, "dataplane {id} is registered");
                let heartbeat_seconds = self.settings.heartbeat_seconds;
                let withdrawn = session.withdrawn.clone();
                tokio::select! {
                    end = session.run(heartbeat_seconds, inbound, &out) => match end {
                        Ok(()) => debug!(mesh = %id.mesh, dataplane = %id.name, "the runner of {id} closed its stream"),
                        Err(Closed) => debug!(mesh = %id.mesh, dataplane = %id.name, "the stream of {id}'s runner broke"),
                    },
                    () = withdrawn.cancelled() => {
                        info!(mesh = %id.mesh, dataplane = %id.name, "the token of {id}'s runner does not hold any more");
                        let _ = out.0.send(Err(Status::unauthenticated("the dataplane token was revoked, or has ended"))).await;
                    }
                    () = self.stop.cancelled() => {}
                }
            }
            Err(refusal) => {
                info!(mesh = register.mesh, dataplane = register.name, "registration refused: {}", refusal.0.reason);
                let _ = out.send(to_runner::Message::Refused(refusal.0)).await;
            }
        }
    }
}

#[tonic::async_trait]
impl proto::runner_server::Runner for RunnerService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<proto::ToRunner, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<proto::FromRunner>>) -> Result<Response<Self::AttachStream>, Status> {
        let token = token_of(request.metadata()).map(str::to_owned);
        let (sender, receiver) = mpsc::channel(OUTBOX);
        let service = self.clone();
        self.tasks.spawn("runner.stream", service.serve(token, request.into_inner(), Outbox(sender)));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The way down to a runner.
struct Outbox(mpsc::Sender<Result<proto::ToRunner, Status>>);

/// The runner is gone.
struct Closed;

impl Outbox {
    async fn send(&self, message: to_runner::Message) -> Result<(), Closed> {
        self.0.send(Ok(proto::ToRunner { message: Some(message) })).await.map_err(|_| Closed)
    }
}

/// A registered runner's stream.
struct Session {
    id: ProxyId,
    attachment: Attachment,
    word: Word,
    bootstrap: proto::Bootstrap,
    orders: mpsc::Receiver<proto::Order>,
    names: watch::Receiver<Arc<NameTable>>,
    withdrawn: CancellationToken,
}

impl Session {
    async fn run(
        mut self,
        heartbeat_seconds: u32,
        mut inbound: Streaming<proto::FromRunner>,
        out: &Outbox,
    ) -> Result<(), Closed> {
        let bootstrap = Some(self.bootstrap.clone());
        out.send(to_runner::Message::Registered(proto::Registered { bootstrap, heartbeat_seconds })).await?;
        let mut table = self.names.borrow_and_update().clone();
        out.send(to_runner::Message::DnsTable(table.full())).await?;
        let mut names_end = false;
        loop {
            tokio::select! {
                message = inbound.message() => match message.map_err(|_| Closed)?.and_then(|message| message.message) {
                    Some(message) => self.take(message, out).await?,
                    None => return Ok(()),
                },
                changed = self.names.changed(), if !names_end => match changed {
                    Ok(()) => {
                        let next = self.names.borrow_and_update().clone();
                        if let Some(delta) = next.delta(&table) {
                            out.send(to_runner::Message::DnsTable(delta)).await?;
                        }
                        table = next;
                    }
                    Err(_) => names_end = true,
                },
                Some(order) = self.orders.recv() => out.send(to_runner::Message::Order(order)).await?,
            }
        }
    }

    async fn take(&mut self, message: from_runner::Message, out: &Outbox) -> Result<(), Closed> {
        match message {
            from_runner::Message::Heartbeat(_) | from_runner::Message::Register(_) => self.attachment.said(None).await,
            from_runner::Message::Envoy(envoy) => {
                self.word.envoy_ready = envoy.ready;
                debug!(mesh = %self.id.mesh, dataplane = %self.id.name, ready = envoy.ready, "Envoy of {}: {}", self.id, envoy.reason);
                self.attachment.said(Some(self.word.clone())).await;
            }
            from_runner::Message::InboundHealth(health) => {
                self.word.unhealthy = unhealthy(&health);
                self.attachment.said(Some(self.word.clone())).await;
            }
            from_runner::Message::Draining(_) => {
                self.attachment.draining().await;
                out.send(to_runner::Message::Withdrawn(proto::Withdrawn {})).await?;
            }
        }
        Ok(())
    }
}

/// What a refused runner is told.
struct Refusal(proto::Refused);

impl Refusal {
    fn never(reason: impl ToString) -> Self {
        Self(proto::Refused { reason: reason.to_string(), retry: proto::Retry::Never.into() })
    }

    fn later(reason: impl ToString) -> Self {
        Self(proto::Refused { reason: reason.to_string(), retry: proto::Retry::Later.into() })
    }
}

impl From<RegisterFault> for Refusal {
    fn from(fault: RegisterFault) -> Self {
        Self::never(fault)
    }
}

impl From<AuthRefusal> for Refusal {
    fn from(refusal: AuthRefusal) -> Self {
        match refusal {
            AuthRefusal::Never(reason) => Self::never(format!("the dataplane token is refused: {reason}")),
            AuthRefusal::NotYet(reason) => Self::later(format!("the dataplane token is refused: {reason}")),
        }
    }
}

impl From<AttachRefusal> for Refusal {
    fn from(refusal: AttachRefusal) -> Self {
        match &refusal {
            AttachRefusal::Store(StoreRefusal::Never(_)) => Self::never(refusal),
            AttachRefusal::Busy(_) | AttachRefusal::Missing(_) | AttachRefusal::Stopping => Self::later(refusal),
            AttachRefusal::Store(StoreRefusal::Later(_)) => Self::later(refusal),
        }
    }
}

#[cfg(test)]
mod tests;
