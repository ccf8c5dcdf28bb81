//! The stream to the zone: says what this proxy is and how it fares, and hands on what the zone says.

use std::{path::PathBuf, sync::Arc, time::Duration};

use atoll_runtime::{backoff::Backoff, diagnostics::Readiness};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::AsciiMetadataValue};
use tracing::{debug, info, warn};

use crate::{
    bootstrap::Parameters,
    credentials::{self, CredentialFault, Token, ZoneTrust},
    dns::Table,
    document::Proxy,
    envoy::supervisor::EnvoyStatus,
    folder::{Folder, FolderFault},
    probes::Health,
    proto::{self, from_runner, runner_client::RunnerClient, to_runner},
    zone::{self, ConnectFault},
};

/// How long the zone may take to answer a registration.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between tries, with full jitter.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Messages that wait for a slow zone.
const OUTBOX: usize = 16;

/// How the stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not yet, or not any more.
    Down,
    /// The zone took the registration.
    Registered,
    /// It was not taken, or the zone is not who it should be; the text says what to do.
    Refused {
        /// In words for the operator.
        reason: String,
        /// Trying again with the same token and document is of no use.
        lasting: bool,
    },
}

/// What the session needs to know of its surroundings.
pub struct Session {
    /// `host:port` of the zone.
    pub address: String,
    /// Whom to believe.
    pub trust: Arc<ZoneTrust>,
    /// Read at each connection.
    pub token_file: Option<PathBuf>,
    /// Where Envoy's token and CA are kept.
    pub folder: Arc<Folder>,
    /// What is registered.
    pub proxy: Arc<Proxy>,
    /// The registration; state and health are filled in.
    pub about: proto::Register,
    /// What is seen here.
    pub up: Up,
    /// Where the zone's words go.
    pub down: Down,
}

/// What is seen here.
pub struct Up {
    /// Envoy.
    pub envoy: watch::Receiver<EnvoyStatus>,
    /// The application.
    pub health: watch::Receiver<Health>,
    /// Whether this proxy is about to end.
    pub draining: watch::Receiver<bool>,
}

/// Where the zone's words go.
pub struct Down {
    /// How the stream stands.
    pub link: watch::Sender<Link>,
    /// For the bootstrap.
    pub parameters: watch::Sender<Option<Parameters>>,
    /// For DNS.
    pub table: watch::Sender<Arc<Table>>,
    /// Whether the zone has withdrawn this proxy's endpoints.
    pub withdrawn: watch::Sender<bool>,
    /// Orders.
    pub orders: mpsc::Sender<proto::Order>,
}

/// How one connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    #[error(transparent)]
    Credential(#[from] CredentialFault),
    #[error(transparent)]
    Folder(#[from] FolderFault),
    #[error("the zone refuses this dataplane: {}", .0.reason)]
    Refused(proto::Refused),
    #[error("the stream to the zone ended: {0}")]
    Lost(String),
}

impl Session {
    /// Keeps a stream open; never returns.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let end = self.once(&mut backoff).await;
            let link = match &end {
                End::Refused(refused) => {
                    Link::Refused { reason: end.to_string(), lasting: refused.retry == i32::from(proto::Retry::Never) }
                }
                End::Connect(ConnectFault::Untrusted(..)) => Link::Refused { reason: end.to_string(), lasting: true },
                End::Connect(ConnectFault::Unreachable(..)) | End::Credential(_) | End::Folder(_) | End::Lost(_) => Link::Down,
            };
            warn!("{end}; trying again");
            self.down.link.send_replace(link);
            let pause = backoff.next(&mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&mut self, backoff: &mut Backoff) -> End {
        match self.open().await {
            Ok((sender, inbound, registered)) => {
                backoff.reset();
                match self.serve(sender, inbound, registered).await {
                    Ok(()) => End::Lost("the zone closed it".to_owned()),
                    Err(end) => end,
                }
            }
            Err(end) => end,
        }
    }

    /// Dials and registers.
    async fn open(&mut self) -> Result<(Sender, Streaming<proto::ToRunner>, proto::Registered), End> {
        let token = credentials::read_token(self.token_file.as_deref())?;
        self.folder.write("token", token.bare.expose().as_bytes())?;
        let channel = zone::connect(&self.address, &self.trust).await?;
        if let Some(pem) = self.trust.ca_pem() {
            self.folder.write("zone-ca.pem", pem.as_bytes())?;
        }
        let (sender, receiver) = mpsc::channel(OUTBOX);
        let sender = Sender(sender);
        sender.send(from_runner::Message::Register(self.register())).await?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", authorization(&token)?);
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let mut inbound = RunnerClient::new(channel).attach(request).await.map_err(lost)?.into_inner();
            let first = inbound.message().await.map_err(lost)?.and_then(|message| message.message);
            match first {
                Some(to_runner::Message::Registered(registered)) => Ok((sender, inbound, registered)),
                Some(to_runner::Message::Refused(refused)) => Err(End::Refused(refused)),
                Some(_) | None => Err(End::Lost("it did not answer the registration".to_owned())),
            }
        });
        answer.await.unwrap_or_else(|_| Err(End::Lost(format!("no answer to the registration in {ANSWER_TIMEOUT:?}"))))
    }

    /// Gives a token that was replaced to Envoy, whose next stream may come before ours. A file that cannot be read now is read
    /// again soon.
    fn pass_token_on(&self) {
        let token = credentials::read_token(self.token_file.as_deref());
        if let Err(error) =
            token.map_err(End::from).and_then(|token| Ok(self.folder.write("token", token.bare.expose().as_bytes())?))
        {
            debug!("the token cannot be given to Envoy: {error}");
        }
    }

    fn register(&mut self) -> proto::Register {
        proto::Register {
            envoy: Some(envoy_state(&self.up.envoy.borrow_and_update())),
            inbound_health: Some(inbound_health(&self.up.health.borrow_and_update())),
            ..self.about.clone()
        }
    }

    async fn serve(
        &mut self,
        sender: Sender,
        mut inbound: Streaming<proto::ToRunner>,
        registered: proto::Registered,
    ) -> Result<(), End> {
        let proto::Registered { bootstrap, heartbeat_seconds } = registered;
        info!(zone = self.address, "registered as {}/{}", self.proxy.mesh, self.proxy.name);
        self.parameters(bootstrap)?;
        self.down.link.send_replace(Link::Registered);
        let pause = Duration::from_secs(u64::from(heartbeat_seconds.clamp(1, 60)));
        let mut heartbeats = tokio::time::interval(pause);
        let mut sequence = 0;
        if *self.up.draining.borrow_and_update() {
            sender.send(draining()).await?;
        }
        loop {
            tokio::select! {
                message = inbound.message() => match message.map_err(lost)? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(()),
                },
                Ok(()) = self.up.draining.changed() => {
                    if *self.up.draining.borrow_and_update() {
                        sender.send(draining()).await?;
                    }
                }
                Ok(()) = self.up.envoy.changed() => {
                    let state = envoy_state(&self.up.envoy.borrow_and_update());
                    sender.send(from_runner::Message::Envoy(state)).await?;
                }
                Ok(()) = self.up.health.changed() => {
                    let health = inbound_health(&self.up.health.borrow_and_update());
                    sender.send(from_runner::Message::InboundHealth(health)).await?;
                }
                _ = heartbeats.tick() => {
                    self.pass_token_on();
                    sequence += 1;
                    sender.send(from_runner::Message::Heartbeat(proto::Heartbeat { sequence })).await?;
                }
            }
        }
    }

    async fn take(&mut self, message: proto::ToRunner) -> Result<(), End> {
        match message.message {
            Some(to_runner::Message::DnsTable(change)) => {
                let next = self.down.table.borrow().after(change);
                self.down.table.send_if_modified(|table| {
                    let changed = **table != next;
                    *table = Arc::new(next);
                    changed
                });
            }
            Some(to_runner::Message::Order(order)) => {
                if order.action == i32::from(proto::Action::Rebootstrap) {
                    self.parameters(order.bootstrap.clone())?;
                }
                let _ = self.down.orders.send(order).await;
            }
            Some(to_runner::Message::Withdrawn(proto::Withdrawn {})) => drop(self.down.withdrawn.send_replace(true)),
            Some(to_runner::Message::Refused(refused)) => return Err(End::Refused(refused)),
            Some(to_runner::Message::Registered(registered)) => self.parameters(registered.bootstrap)?,
            None => {}
        }
        Ok(())
    }

    fn parameters(&self, bootstrap: Option<proto::Bootstrap>) -> Result<(), End> {
        let Some(parameters) = bootstrap.map(Parameters::from) else { return Ok(()) };
        self.folder.save("parameters.json", &parameters)?;
        self.down.parameters.send_if_modified(|held| {
            let changed = held.as_ref() != Some(&parameters);
            *held = Some(parameters);
            changed
        });
        Ok(())
    }
}

/// The way up.
struct Sender(mpsc::Sender<proto::FromRunner>);

impl Sender {
    async fn send(&self, message: from_runner::Message) -> Result<(), End> {
        let sent = self.0.send(proto::FromRunner { message: Some(message) }).await;
        sent.map_err(|_| End::Lost("the connection broke".to_owned()))
    }
}

fn authorization(token: &Token) -> Result<AsciiMetadataValue, End> {
    let value = token.bare.expose().parse::<AsciiMetadataValue>();
    let mut value = value.map_err(|_| End::Lost("the dataplane token holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn lost(status: tonic::Status) -> End {
    End::Lost(format!("{}: {}", status.code(), status.message()))
}

fn draining() -> from_runner::Message {
    from_runner::Message::Draining(proto::Draining { reason: "the runner was told to end".to_owned() })
}

fn envoy_state(status: &EnvoyStatus) -> proto::EnvoyState {
    match &status.readiness {
        Readiness::Ready => proto::EnvoyState { ready: true, reason: String::new() },
        Readiness::NotReady(reason) => proto::EnvoyState { ready: false, reason: reason.clone() },
    }
}

fn inbound_health(health: &Health) -> proto::InboundHealth {
    proto::InboundHealth { healthy: health.clone() }
}
