//! One stream: selects, feeds the session, sends.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use atoll_envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tonic::{Status as GrpcStatus, Streaming};
use tracing::Instrument;

use super::{
    ProxyConfig, Session, Status,
    server::{Admission, Parts, ProxyAuth, ProxySource},
    session::Taken,
};
use crate::runners::ProxyId;

pub(super) type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, GrpcStatus>>;

/// Requests that are kept while it is not known what the proxy should have.
const EARLY: usize = 64;
/// Requests that are answered together.
const TOGETHER: usize = 256;

/// Serves a stream until it ends; an error is told to the proxy.
pub(super) async fn run<A: ProxyAuth, S: ProxySource>(
    parts: &Parts<A, S>,
    admission: Admission,
    first: DeltaDiscoveryRequest,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: &Responses,
) -> Result<(), GrpcStatus> {
    let Admission { proxy, revoked } = admission;
    let span = tracing::info_span!("xds.stream", dataplane = %proxy);
    let serve = async {
        let _presence = parts.source.attached(&proxy);
        tracing::info!("a proxy opened its discovery stream");
        let mut configs = parts.source.subscribe(&proxy);
        let mut early = VecDeque::from([first]);
        let Some(config) = first_config(&mut configs, &mut requests, &mut early).await? else { return Ok(()) };
        let (id, carry) = parts.uncertain.begin(&proxy);
        let session = Session::new(parts.limits, carry, config, now());
        let mut stream = Stream { parts, proxy: &proxy, id, session, told: None, noted: 0, responses };
        let ended = stream.serve(early, &mut configs, &mut requests).await;
        stream.note();
        ended
    };
    let ended = tokio::select! {
        ended = serve.instrument(span.clone()) => ended,
        () = revoked.cancelled() => Err(GrpcStatus::unauthenticated("the credential does not hold any more")),
        () = parts.stop.cancelled() => Err(GrpcStatus::unavailable("the control plane stops")),
        () = responses.closed() => Ok(()),
    };
    span.in_scope(|| match &ended {
        Ok(()) => tracing::info!("the discovery stream of a proxy ended"),
        Err(status) => tracing::info!(reason = status.message(), "ended the discovery stream of a proxy"),
    });
    ended
}

/// Waits until it is known what the proxy should have. `None`: the stream ended before.
async fn first_config(
    configs: &mut watch::Receiver<Option<Arc<ProxyConfig>>>,
    requests: &mut Streaming<DeltaDiscoveryRequest>,
    early: &mut VecDeque<DeltaDiscoveryRequest>,
) -> Result<Option<Arc<ProxyConfig>>, GrpcStatus> {
    loop {
        if let Some(config) = configs.borrow_and_update().clone() {
            return Ok(Some(config));
        }
        tokio::select! {
            changed = configs.changed() => changed.map_err(|_| stopping())?,
            request = requests.message() => match request? {
                None => return Ok(None),
                Some(_) if early.len() >= EARLY => return Err(GrpcStatus::resource_exhausted("too many requests")),
                Some(request) => early.push_back(request),
            },
        }
    }
}

fn stopping() -> GrpcStatus {
    GrpcStatus::unavailable("the control plane stops")
}

struct Stream<'a, A, S> {
    parts: &'a Parts<A, S>,
    proxy: &'a ProxyId,
    id: u64,
    session: Session,
    told: Option<Status>,
    noted: u64,
    responses: &'a Responses,
}

impl<A: ProxyAuth, S: ProxySource> Stream<'_, A, S> {
    async fn serve(
        &mut self,
        early: VecDeque<DeltaDiscoveryRequest>,
        configs: &mut watch::Receiver<Option<Arc<ProxyConfig>>>,
        requests: &mut Streaming<DeltaDiscoveryRequest>,
    ) -> Result<(), GrpcStatus> {
        for request in early {
            self.take(request)?;
        }
        let mut read_at = Instant::now();
        loop {
            if !self.flush().await {
                return Ok(());
            }
            let waits = read_at > now();
            tokio::select! {
                changed = configs.changed() => {
                    changed.map_err(|_| stopping())?;
                    // `None` again would mean "not known": the proxy keeps what it has.
                    if let Some(config) = configs.borrow_and_update().clone() {
                        self.session.set_config(config);
                    }
                }
                request = requests.message(), if !waits => {
                    let Some(request) = request? else { return Ok(()) };
                    read_at = self.take_all(request, requests)?;
                }
                () = tokio::time::sleep_until(read_at.into()), if waits => {}
            }
        }
    }

    /// Takes a request and those that came with it, which are answered together: an Envoy with a thousand listeners asks for
    /// the filter of each by itself. When the next may be read.
    fn take_all(
        &mut self,
        request: DeltaDiscoveryRequest,
        requests: &mut Streaming<DeltaDiscoveryRequest>,
    ) -> Result<Instant, GrpcStatus> {
        let mut pause = self.take(request)?.pause;
        for _ in 0..TOGETHER {
            if !pause.is_zero() {
                break;
            }
            // The end of the stream is seen again by the next read.
            let Some(Ok(Some(request))) = requests.message().now_or_never() else { break };
            pause = self.take(request)?.pause;
        }
        Ok(now() + pause)
    }

    fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<Taken, GrpcStatus> {
        let (type_url, nacks) = (request.type_url.clone(), self.session.status().nacks);
        let taken = self.session.on_request(request, now()).map_err(|violation| {
            tracing::warn!(error = %violation, "ending the discovery stream of a proxy that asks for too much");
            GrpcStatus::resource_exhausted(violation.to_string())
        })?;
        if self.session.status().nacks > nacks {
            self.parts.totals.on_nack(&type_url);
        }
        for refusal in &taken.refused {
            tracing::warn!(
                resource.type = %refusal.kind, resource.name = %refusal.name, reason = %refusal.reason,
                "a proxy refuses a resource and keeps what it had"
            );
        }
        Ok(taken)
    }

    /// Sends what is due; whether anybody still listens.
    async fn flush(&mut self) -> bool {
        while let Some(response) = self.session.respond() {
            tracing::debug!(
                resource.type = %response.type_url, xds.nonce = %response.nonce, xds.resources = response.resources.len(),
                xds.removed = response.removed_resources.len(), revision = %response.system_version_info, "sending"
            );
            // Before it is sent: the proxy may have it from then on.
            self.note();
            self.parts.totals.on_sent(&response.type_url);
            if self.responses.send(Ok(response)).await.is_err() {
                return false;
            }
        }
        self.note();
        if self.told.as_ref() != Some(self.session.status()) {
            self.told = Some(self.session.status().clone());
            self.parts.source.report(self.proxy, self.session.status());
        }
        true
    }

    fn note(&mut self) {
        if self.noted != self.session.carry_version() {
            self.noted = self.session.carry_version();
            self.parts.uncertain.note(self.proxy, self.id, self.session.carry());
        }
    }
}

fn now() -> Instant {
    Instant::now()
}
