//! A zone's end of the link.

mod dial;
mod join;

use std::{sync::Arc, time::Duration};

use atoll_model::{Kind, Name, ZoneUid};
use atoll_runtime::{backoff::Backoff, shutdown::Shutdown, tasks::Tasks};
use atoll_store::Store;
use atoll_sync::{Fault, Review, Session, View, ZoneSetup, proto::drain::Code};
use bytes::Bytes;
use dial::DialError;
pub use dial::{RenewError, renew};
pub use join::{JoinError, JoinRequest, join};
use rand::{SeedableRng, rngs::StdRng};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    LinkStatus, SoftSink,
    drive::{Command, Context, Driver, End, OUTBOX},
    peer::PeerStore,
    soft::SoftBoard,
    status,
    views::Views,
};

/// The first pause after a lost stream, at most.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause while nobody answers: a global that comes back is found within a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest pause after a refusal.
const REFUSED_MAX: Duration = Duration::from_secs(15);

/// Settings of a zone's end.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// Addresses of global's link port, `host:port`; tried in turn.
    pub addresses: Vec<String>,
    /// The zone's name, as global gave it at the join.
    pub name: Name,
    /// The zone's identity.
    pub uid: ZoneUid,
    /// This process.
    pub instance: String,
    /// Version of the program, for people.
    pub software: String,
    /// The cluster that the zone joined; another one is refused.
    pub cluster_id: Uuid,
}

/// What the zone shows and trusts. Renewal replaces it; the next connection uses it.
#[derive(Debug)]
pub struct ZoneIdentity {
    /// CAs of the control plane.
    pub roots: RootCertStore,
    /// The zone's certificate and those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Answers queries of the other plane.
#[tonic::async_trait]
pub trait Answerer: Send + Sync + 'static {
    /// Answers, or says why not.
    async fn answer(&self, path: &str, body: Bytes) -> Result<Bytes, String>;
}

/// Answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAnswers;

#[tonic::async_trait]
impl Answerer for NoAnswers {
    async fn answer(&self, path: &str, _: Bytes) -> Result<Bytes, String> {
        Err(format!("this plane answers no {path:?}"))
    }
}

/// Drops soft values.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSoft;

impl SoftSink for NoSoft {
    fn put(&self, _: ZoneUid, _: &str, _: Option<Bytes>) {}
}

/// A zone's end of the link; clones share it.
#[derive(Clone)]
pub struct ZoneLink {
    inner: Arc<Inner>,
}

struct Inner {
    config: ZoneConfig,
    identity: watch::Receiver<Arc<ZoneIdentity>>,
    store: Store,
    review: Arc<dyn Review>,
    answerer: Arc<dyn Answerer>,
    soft: Arc<dyn SoftSink>,
    tasks: Tasks,
    views: watch::Receiver<Arc<View>>,
    follower: Mutex<Option<Views>>,
    status: watch::Sender<Arc<LinkStatus>>,
    board: SoftBoard,
    /// The epoch of global that an operator accepted.
    follow: watch::Sender<Option<Uuid>>,
    /// The newest epoch that global showed.
    shown: watch::Sender<Option<Uuid>>,
    orders: Mutex<Option<mpsc::Sender<Command>>>,
}

impl ZoneLink {
    /// Dials nothing yet.
    pub fn new(
        config: ZoneConfig,
        identity: watch::Receiver<Arc<ZoneIdentity>>,
        store: Store,
        review: Arc<dyn Review>,
        answerer: Arc<dyn Answerer>,
        tasks: &Tasks,
    ) -> Self {
        let (follower, views) = Views::new(&store);
        let status = LinkStatus { zone: Some((config.name.clone(), config.uid)), ..LinkStatus::default() };
        let inner = Inner {
            config,
            identity,
            store,
            review,
            answerer,
            soft: Arc::new(NoSoft),
            tasks: tasks.clone(),
            views,
            follower: Mutex::new(Some(follower)),
            status: watch::channel(Arc::new(status)).0,
            board: SoftBoard::default(),
            follow: watch::channel(None).0,
            shown: watch::channel(None).0,
            orders: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Keeps a session with global until the soft shutdown.
    pub async fn run(&self, shutdown: &Shutdown) {
        let stop = shutdown.soft();
        if let Some(follower) = self.inner.follower.lock().await.take() {
            self.inner.tasks.spawn("link.views", follower.follow(stop.clone()));
        }
        let mut dialling = Dialling::new();
        for address in self.inner.config.addresses.iter().cycle() {
            if stop.is_cancelled() {
                return;
            }
            let ended = self.once(address, &stop).await;
            let pause = dialling.pause_after(&ended);
            self.note(address, &ended);
            if matches!(ended, Ended::Stream(End::Shutdown, _)) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The link as this zone sees it.
    pub fn status(&self) -> watch::Receiver<Arc<LinkStatus>> {
        self.inner.status.subscribe()
    }

    /// Soft values for global.
    pub fn board(&self) -> &SoftBoard {
        &self.inner.board
    }

    /// Follows the history that global shows now, although it does not continue what this zone holds: an operator's word.
    /// Gives false when global has shown none.
    pub async fn follow(&self) -> bool {
        let shown = *self.inner.shown.borrow();
        self.inner.follow.send_replace(shown);
        let reason = "an operator follows another history".to_owned();
        shown.is_some() && self.order(Command::End { code: Code::Shutdown, reason }).await
    }

    /// Does the implied deletions of a kind that are held, at an operator's word. Gives false without a stream.
    pub async fn release(&self, kind: Kind) -> bool {
        self.order(Command::Release(kind)).await
    }

    /// Keeps this zone's own resources of a kind that global's copy lacks, at an operator's word. Gives false without a stream.
    pub async fn keep(&self, kind: Kind) -> bool {
        self.order(Command::Keep(kind)).await
    }

    async fn order(&self, command: Command) -> bool {
        let orders = self.inner.orders.lock().await.clone();
        match orders {
            Some(orders) => orders.send(command).await.is_ok(),
            None => false,
        }
    }

    /// One connection, from dialling to its end.
    async fn once(&self, address: &str, stop: &CancellationToken) -> Ended {
        let inner = &self.inner;
        let identity = inner.identity.borrow().clone();
        let peer = PeerStore::global(inner.store.clone());
        let has = match peer.has().await {
            Ok(has) => has,
            Err(error) => return Ended::Dial(DialError::Unreachable(std::io::Error::other(error))),
        };
        let (out, stream) = mpsc::channel(OUTBOX);
        let incoming = tokio::select! {
            dialled = dial::open(address, &identity, stream) => match dialled {
                Ok(incoming) => incoming,
                Err(error) => return Ended::Dial(error),
            },
            () = stop.cancelled() => return Ended::Stream(End::Shutdown, false),
        };
        let view = inner.views.borrow().clone();
        let session = Session::zone(self.setup(has), &view);
        let (orders, commands) = mpsc::channel(OUTBOX);
        *inner.orders.lock().await = Some(orders);
        let (end, opened) = Driver::new(session, self.context(peer, commands, stop), out, self.last_status()).run(incoming).await;
        *inner.orders.lock().await = None;
        Ended::Stream(end, opened)
    }

    fn setup(&self, has: atoll_sync::Has) -> ZoneSetup {
        let config = &self.inner.config;
        ZoneSetup {
            cluster: config.cluster_id,
            zone: config.uid,
            name: config.name.clone(),
            has,
            follow: *self.inner.follow.borrow(),
            local: self.inner.store.snapshot().revision(),
            instance: config.instance.clone(),
            software: config.software.clone(),
        }
    }

    fn context(&self, peer: PeerStore, commands: mpsc::Receiver<Command>, stop: &CancellationToken) -> Context {
        let inner = self.inner.clone();
        Context {
            zone: inner.config.uid,
            peer,
            views: inner.views.clone(),
            review: inner.review.clone(),
            soft: inner.soft.clone(),
            board: inner.board.clone(),
            answerer: inner.answerer.clone(),
            commands,
            follow: Some(inner.follow.clone()),
            stop: stop.clone(),
            publish: Box::new(move |status| {
                inner.shown.send_if_modified(|shown| std::mem::replace(shown, status.peer_epoch.or(*shown)) != *shown);
                inner.status.send_replace(Arc::new(status));
            }),
        }
    }

    fn last_status(&self) -> LinkStatus {
        LinkStatus::clone(&self.inner.status.borrow())
    }

    fn note(&self, address: &str, ended: &Ended) {
        match ended {
            Ended::Dial(error) => {
                let text = format!("{address}: {error}");
                let news = self.inner.status.borrow().last_error.as_ref() != Some(&text);
                // Once for each new reason: the same one comes every second while global is away.
                if news {
                    tracing::warn!(
                        address,
                        error = error as &dyn std::error::Error,
                        "no link to global; this zone goes on by itself"
                    );
                    self.inner.status.send_modify(|status| status::failed(Arc::make_mut(status), text));
                }
            }
            Ended::Stream(end, _) => tracing::warn!(address, reason = %end, "the link to global ended"),
        }
    }
}

/// How one connection ended.
enum Ended {
    Dial(DialError),
    Stream(End, bool),
}

/// Pauses between connections.
struct Dialling {
    rng: StdRng,
    lost: Backoff,
    refused: Backoff,
}

impl Dialling {
    fn new() -> Self {
        let (lost, refused) = (Backoff::new(PAUSE, PAUSE_MAX), Backoff::new(PAUSE_MAX, REFUSED_MAX));
        Self { rng: StdRng::from_os_rng(), lost, refused }
    }

    fn pause_after(&mut self, ended: &Ended) -> Duration {
        if matches!(ended, Ended::Stream(_, true)) {
            self.lost.reset();
            self.refused.reset();
        }
        match ended {
            Ended::Stream(End::Ordered | End::Shutdown, _) => Duration::ZERO,
            Ended::Dial(DialError::Refused(_)) => self.refused.next(&mut self.rng),
            Ended::Stream(End::Fault(fault), _) => self.after_fault(fault),
            Ended::Dial(DialError::Unreachable(_) | DialError::Tls(_) | DialError::Failed(_))
            | Ended::Stream(End::Broken(_) | End::Superseded, _) => self.lost.next(&mut self.rng),
        }
    }

    fn after_fault(&mut self, fault: &Fault) -> Duration {
        match fault {
            Fault::Silent | Fault::Behind | Fault::WentBack => self.lost.next(&mut self.rng),
            Fault::Protocol(_) | Fault::OtherCluster(_) => self.refused.next(&mut self.rng),
            Fault::Drained { code, retry_after, .. } => match code {
                Code::Shutdown | Code::Behind | Code::Unspecified => *retry_after + self.lost.next(&mut self.rng),
                // Two processes with one identity would replace each other for ever; slowly, at least.
                Code::Replaced => *retry_after + REFUSED_MAX,
                Code::Revoked | Code::Protocol => *retry_after + self.refused.next(&mut self.rng),
            },
        }
    }
}
