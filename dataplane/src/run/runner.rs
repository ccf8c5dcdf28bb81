//! A runner that runs: its tasks, what they tell each other, and its end.

use std::{sync::Arc, time::Duration};

use atoll_runtime::{shutdown::Shutdown, tasks::Tasks};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Prepared, RunFault,
    launches::Launches,
    shown::{self, Metrics},
};
use crate::{
    args::RunArgs,
    bootstrap::{Admin, Local, Parameters},
    dns::Table,
    document::Proxy,
    drain,
    envoy::{
        process::{Launch, Process},
        supervisor::{EnvoyStatus, Supervisor, SupervisorFault},
    },
    folder::{Folder, Status},
    probes, proto, readiness,
    session::{Down, Link, Session, Up},
};

/// How long tasks may take to end.
const JOIN: Duration = Duration::from_secs(2);
/// How long the first look at an adopted Envoy may take.
const LOOKED: Duration = Duration::from_secs(5);

pub(super) struct Runner {
    drain_time: Duration,
    folder: Arc<Folder>,
    admin: Admin,
    tasks: Tasks,
    shutdown: Shutdown,
    /// Ends the session, DNS and readiness.
    stop: CancellationToken,
    /// Ends the supervision of Envoy.
    release: CancellationToken,
    supervised: mpsc::Receiver<Result<Option<Process>, SupervisorFault>>,
    seen: Seen,
    draining: watch::Sender<bool>,
}

/// What the tasks say, for whoever wants to know.
#[derive(Clone)]
struct Known {
    envoy: watch::Receiver<EnvoyStatus>,
    link: watch::Receiver<Link>,
    parameters: watch::Receiver<Option<Parameters>>,
    table: watch::Receiver<Arc<Table>>,
    withdrawn: watch::Receiver<bool>,
}

/// What the end waits for.
struct Seen {
    known: Known,
    orders: mpsc::Receiver<proto::Order>,
}

impl Runner {
    /// Starts every task.
    pub(super) fn start(prepared: Prepared) -> Self {
        let Prepared { args, proxy, address, trust, binary, folder, admin, dns, readiness, readiness_address, adopted, probes } =
            prepared;
        let is_adopted = adopted.is_some();
        let (tasks, stop, release, metrics) = (Tasks::new(), CancellationToken::new(), CancellationToken::new(), Metrics::new());
        let (draining, draining_receiver) = watch::channel(false);
        let (envoy_sender, down, seen) = channels(&folder, adopted.as_ref().map(Process::pid));
        let known = seen.known.clone();
        let status = Status {
            pid: std::process::id(),
            envoy_pid: None,
            dns: dns.as_ref().map(|(server, _)| server.address().to_string()),
            readiness: readiness_address.to_string(),
            admin: admin.to_string(),
        };
        info!(dns = status.dns, readiness = status.readiness, admin = status.admin, "listening");

        let launches = Launches {
            local: local(&args, &address, &folder, &admin),
            rest: Launch {
                program: binary.path,
                version: binary.version.clone(),
                bootstrap: Vec::new(),
                drain_seconds: 0,
                concurrency: args.concurrency,
                log_level: args.envoy_log_level.clone(),
                access_log: args.access_log.clone(),
            },
            adopted: is_adopted,
        };
        let supervisor = Supervisor {
            folder: folder.clone(),
            admin: admin.clone(),
            expected: readiness::expected(&proxy.dataplane),
            launches: launches.spawn(&tasks, &folder, &proxy.node_id(), known.parameters.clone()),
            status: envoy_sender,
            starts: metrics.starts.clone(),
        };
        let (report, supervised) = mpsc::channel(1);
        let released = release.clone();
        tasks.spawn("envoy", async move { drop(report.send(supervisor.run(adopted, released).await).await) });
        let envoy = known.envoy.clone();
        let (health, probed) = probes.start(&tasks, &stop);
        let session = Session {
            address,
            trust,
            token_file: args.dataplane_token_file.clone(),
            folder: folder.clone(),
            about: about(&args, &folder, &status, &proxy, binary.version),
            up: Up { envoy: known.envoy.clone(), health: health.clone(), draining: draining_receiver.clone() },
            proxy,
            down,
        };
        until(&tasks, "session", &stop, async move {
            probes::asked_once(health, probed).await;
            if is_adopted {
                looked_once(envoy).await;
            }
            session.run().await;
        });
        until(&tasks, "names", &stop, shown::keep_names(folder.clone(), known.table.clone()));
        until(&tasks, "status", &stop, shown::keep_status(folder.clone(), status, known.envoy.clone()));
        if let Some((server, upstream)) = dns {
            tasks.spawn("dns", server.serve(known.table, upstream, metrics.questions.clone(), stop.clone()));
        }
        tasks.spawn("readiness", metrics.serve(readiness, known.envoy, draining_receiver, stop.clone()));
        let shutdown = Shutdown::new();
        Self { drain_time: args.drain_time, folder, admin, tasks, shutdown, stop, release, supervised, seen, draining }
    }

    /// Runs until told to end, and ends.
    pub(super) async fn until_the_end(mut self) -> Result<(), RunFault> {
        let result = self.wait().await;
        if result.is_ok() {
            self.drain().await;
        }
        self.stop.cancel();
        self.release.cancel();
        self.tasks.join_all(JOIN).await;
        self.folder.remove("status.json");
        result
    }

    /// Returns when it is time to drain.
    async fn wait(&mut self) -> Result<(), RunFault> {
        let shutdown = self.shutdown.clone();
        let signals = shutdown.on_signals();
        tokio::pin!(signals);
        let Seen { known, orders } = &mut self.seen;
        loop {
            tokio::select! {
                done = &mut signals => return done.map_err(RunFault::Signals),
                Some(ended) = self.supervised.recv() => return ended.map(drop).map_err(RunFault::Envoy),
                Some(order) = orders.recv() => if order.action == i32::from(proto::Action::Drain) {
                    info!("the zone orders to drain: {}", order.reason);
                    return Ok(());
                },
                Ok(()) = known.link.changed() => {
                    let link = known.link.borrow_and_update().clone();
                    // An Envoy that runs goes on with what it has; the operator sees the refusals in the log.
                    if let Link::Refused { reason, lasting: true } = link
                        && known.envoy.borrow().pid.is_none()
                    {
                        return Err(RunFault::Refused(reason));
                    }
                }
            }
        }
    }

    async fn drain(&mut self) {
        self.draining.send_replace(true);
        let hard = self.shutdown.hard();
        if *self.seen.known.link.borrow() == Link::Registered {
            tokio::select! {
                () = drain::withdrawn(self.seen.known.withdrawn.clone()) => {}
                () = hard.cancelled() => {}
            }
        }
        self.release.cancel();
        if let Some(Ok(Some(mut process))) = self.supervised.recv().await {
            drain::connections(&self.admin, &mut process, self.drain_time, &hard).await;
            process.stop(&self.folder).await;
            info!("Envoy is stopped");
        }
    }
}

/// Waits until it is known how an adopted Envoy fares: what serves must not be registered as if it did not.
async fn looked_once(mut envoy: watch::Receiver<EnvoyStatus>) {
    let unknown = EnvoyStatus::default().readiness;
    let _ = tokio::time::timeout(LOOKED, envoy.wait_for(|status| status.readiness != unknown)).await;
}

fn channels(folder: &Folder, adopted: Option<u32>) -> (watch::Sender<EnvoyStatus>, Down, Seen) {
    let (envoy_sender, envoy) = watch::channel(EnvoyStatus { pid: adopted, ..EnvoyStatus::default() });
    let (link_sender, link) = watch::channel(Link::Down);
    let (parameters_sender, parameters) = watch::channel(None);
    let (table_sender, table) = watch::channel(Arc::new(folder.load::<Table>("names.json").unwrap_or_default()));
    let (withdrawn_sender, withdrawn) = watch::channel(false);
    let (orders_sender, orders) = mpsc::channel(4);
    let down = Down {
        link: link_sender,
        parameters: parameters_sender,
        table: table_sender,
        withdrawn: withdrawn_sender,
        orders: orders_sender,
    };
    (envoy_sender, down, Seen { known: Known { envoy, link, parameters, table, withdrawn }, orders })
}

fn local(args: &RunArgs, address: &str, folder: &Folder, admin: &Admin) -> Local {
    Local {
        dialled: address.to_owned(),
        ca_file: folder.path("zone-ca.pem"),
        token_secret_file: folder.path("token.yaml"),
        admin: admin.clone(),
        bind_outbounds: args.bind_outbounds,
        max_connections: args.max_connections,
    }
}

/// What is registered beside the document and the state.
fn about(args: &RunArgs, folder: &Folder, status: &Status, proxy: &Proxy, envoy: String) -> proto::Register {
    proto::Register {
        mesh: proxy.mesh.clone(),
        name: proxy.name.clone(),
        dataplane: proxy.document.as_ref().map(|document| document.to_string().into_bytes()).unwrap_or_default(),
        instance: folder.instance().to_owned(),
        versions: Some(proto::Versions { runner: env!("CARGO_PKG_VERSION").to_owned(), envoy }),
        features: Vec::new(),
        bind_outbounds: args.bind_outbounds.map(|range| range.to_string()).unwrap_or_default(),
        listeners: Some(proto::Listeners {
            dns: status.dns.clone().unwrap_or_default(),
            readiness: status.readiness.clone(),
            admin: status.admin.clone(),
        }),
        envoy: None,
        inbound_health: None,
        access_log: args.access_log.is_some(),
    }
}

/// Runs a future until `stop` is cancelled.
fn until(tasks: &Tasks, name: &'static str, stop: &CancellationToken, future: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(name, async move {
        tokio::select! {
            () = future => {}
            () = stop.cancelled() => {}
        }
    });
}
