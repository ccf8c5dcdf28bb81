//! The link port: opens a session for each zone that is admitted, and ends it when it no longer is.

use std::{sync::Arc, time::Duration};

use atoll_model::Name;
use atoll_sync::{GlobalSetup, Session, proto, proto::drain::Code};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::GlobalLink;
use crate::{
    LinkStatus, Peer, Refusal, RenewRequest,
    drive::{Command, Context, Driver, OUTBOX},
    identity::{peer_of, short, spki_of_request},
    peer::PeerStore,
    services::link_server::Link,
    zone::NoAnswers,
};

/// How often an open session's right is looked at, if nothing says that it changed.
const RECHECK: Duration = Duration::from_secs(10);

pub(super) struct LinkService {
    pub(super) link: GlobalLink,
    pub(super) stop: CancellationToken,
}

#[tonic::async_trait]
impl Link for LinkService {
    type SessionStream = ReceiverStream<Result<proto::ToZone, Status>>;

    async fn session(&self, request: Request<Streaming<proto::ToGlobal>>) -> Result<Response<Self::SessionStream>, Status> {
        let (peer, name) = self.admitted(&request).await?;
        let (out, stream) = mpsc::channel(OUTBOX);
        let open = Open { link: self.link.clone(), stop: self.stop.clone(), peer, name };
        self.link.inner.tasks.spawn("link.session", open.run(request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, request: Request<proto::RenewRequest>) -> Result<Response<proto::Credentials>, Status> {
        let (peer, _) = self.admitted(&request).await?;
        let message = request.into_inner();
        if spki_of_request(&message.csr_der).is_none_or(|spki| spki != message.spki_der) {
            return Err(Status::invalid_argument("the certificate request cannot be read, or is for another key"));
        }
        let request = RenewRequest { csr: message.csr_der, spki: message.spki_der };
        Ok(Response::new(self.link.inner.issuer.renew(&peer, request).await?.into()))
    }
}

impl LinkService {
    async fn admitted<T>(&self, request: &Request<T>) -> Result<(Peer, Name), Status> {
        let inner = &self.link.inner;
        let peer = peer_of(request, inner.store.cluster_id())?;
        match inner.admission.admit(&peer).await {
            Ok(name) => Ok((peer, name)),
            Err(refusal) => {
                let identity = &peer.identity;
                tracing::warn!(zone.uid = %identity.zone, instance = %identity.instance, key = %short(peer.key), address = ?peer.address, %refusal, "zone refused");
                Err(refusal.into())
            }
        }
    }
}

/// A stream of an admitted zone.
struct Open {
    link: GlobalLink,
    stop: CancellationToken,
    peer: Peer,
    name: Name,
}

type Out = mpsc::Sender<Result<proto::ToZone, Status>>;

impl Open {
    async fn run(self, incoming: Streaming<proto::ToGlobal>, out: Out) {
        let inner = self.link.inner.clone();
        let zone = self.peer.identity.zone;
        let (_place, orders, replaced) = inner.live.enter(zone).await;
        if replaced {
            tracing::warn!(zone.name = %self.name, key = %short(self.peer.key), address = ?self.peer.address, "a newer stream of the zone replaced an older one");
        }
        let (store, has, known) = match begin(PeerStore::zone(inner.store.clone(), zone, &self.name)).await {
            Ok(begun) => begun,
            Err(error) => {
                let _ = out.try_send(Err(Status::unavailable(format!("the store of global is not available: {error}"))));
                return;
            }
        };
        let setup = GlobalSetup {
            cluster: inner.store.cluster_id(),
            zone,
            name: self.name.clone(),
            has,
            known,
            local: inner.store.snapshot().revision(),
            instance: inner.config.instance.clone(),
            software: inner.config.software.clone(),
        };
        tracing::info!(zone.name = %self.name, zone.uid = %zone, address = ?self.peer.address, "zone connected");
        let (commands, inbox) = mpsc::channel(OUTBOX);
        let driver = Driver::new(Session::global(setup), self.context(store, inbox), out, self.first_status());
        let (end, _) = tokio::select! {
            end = driver.run(incoming) => end,
            () = self.watch_over(orders, commands) => return,
        };
        tracing::info!(zone.name = %self.name, reason = %end, "zone disconnected");
    }

    fn context(&self, peer: PeerStore, commands: mpsc::Receiver<Command>) -> Context {
        let inner = self.link.inner.clone();
        let zone = self.peer.identity.zone;
        Context {
            zone,
            peer,
            views: inner.views.clone(),
            review: inner.review.clone(),
            soft: inner.soft.clone(),
            board: inner.board.clone(),
            answerer: Arc::new(NoAnswers),
            commands,
            follow: None,
            stop: self.stop.clone(),
            publish: Box::new(move |status| inner.publish(zone, status)),
        }
    }

    fn first_status(&self) -> LinkStatus {
        let zone = self.peer.identity.zone;
        let earlier = self.link.inner.zones.borrow().get(&zone).map(|status| status.healed);
        LinkStatus { zone: Some((self.name.clone(), zone)), healed: earlier.unwrap_or_default(), ..LinkStatus::default() }
    }

    /// Passes orders on, and ends the session when the zone is no longer admitted. Never ends by itself.
    async fn watch_over(&self, mut orders: mpsc::Receiver<Command>, commands: mpsc::Sender<Command>) {
        let mut changed = self.link.inner.admission.changed();
        let mut told = true;
        loop {
            tokio::select! {
                Some(order) = orders.recv() => drop(commands.send(order).await),
                result = changed.changed(), if told => match result {
                    Ok(()) => self.check(&commands).await,
                    Err(_) => told = false,
                },
                () = tokio::time::sleep(RECHECK) => self.check(&commands).await,
            }
        }
    }

    async fn check(&self, commands: &mpsc::Sender<Command>) {
        let reason = match self.link.inner.admission.admit(&self.peer).await {
            Ok(name) if name == self.name => return,
            Ok(name) => format!("the zone is now called {name}"),
            // A store that is away revokes nothing.
            Err(Refusal::Unavailable(_)) => return,
            Err(Refusal::NotAdmitted(reason) | Refusal::Taken(reason)) => reason,
        };
        tracing::warn!(zone.name = %self.name, %reason, "zone is no longer admitted");
        let _ = commands.send(Command::End { code: Code::Revoked, reason }).await;
    }
}

/// Begins a session, and only then reads how far the older ones have led.
async fn begin(store: PeerStore) -> Result<(PeerStore, atoll_sync::Has, Vec<uuid::Uuid>), atoll_store::StoreError> {
    let store = store.begin().await?;
    let (has, known) = (store.has().await?, store.known_epochs().await?);
    Ok((store, has, known))
}
