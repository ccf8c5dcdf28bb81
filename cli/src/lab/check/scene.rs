//! A lab of the checks' own, run as a person runs it: by `atoll lab up` and the other subcommands.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::lab::{
    admin::Admin,
    control::{self, Request},
    dns::{self, Resolver},
    lab::{Lab, Programs},
    layout::{DNS_PORT, GATEWAY_PORT, Layout, at},
    member::{AZURE, GCP, Member},
    probe::{Answer, Outside},
    process::{self, Identity},
    rest::Plane,
    state::State,
};

/// A whole lab starts well before.
const START: Duration = Duration::from_secs(120);
/// What the checks wait for happens well before; each says how long it took.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of the command line's contexts, in the scene's folder.
const CONTEXTS: &str = "contexts";
/// The name of the catalog outside the mesh.
pub const CATALOG: &str = "catalog.acme.corp";
/// The name of the orders outside the mesh.
pub const ORDERS: &str = "orders.acme.corp";

/// The lab of the checks.
#[derive(Debug)]
pub struct Scene {
    folder: PathBuf,
    layout: Layout,
    programs: Programs,
    supervisor: tokio::process::Child,
    /// The resolver for names outside the mesh.
    pub resolver: Resolver,
}

impl Scene {
    /// Brings a lab up in a folder of its own, on `store`.
    pub async fn start(store: &str, offset: u8) -> Result<Self> {
        let resolver = Resolver::start().await?;
        let folder = tempfile::Builder::new().prefix("atoll-lab-check-").tempdir()?.keep();
        // Postgres runs as another user when we are root, and must get through.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711))?;
        let layout = Layout { home: folder.join(".lab"), offset };
        let programs = Programs::find()?;
        let log = std::fs::File::create(folder.join("up.log"))?;
        let supervisor = tokio::process::Command::new(&programs.atoll)
            .args(["lab", "up", "--store", store, "--offset", &offset.to_string()])
            .args(["--dns-upstream", &resolver.address.to_string()])
            .env("ATOLL_LAB_DIR", &folder)
            .env("ATOLL_CONFIG", folder.join(CONTEXTS))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut scene = Self { folder, layout, programs, supervisor, resolver };
        match scene.wait_ready().await {
            Ok(()) => Ok(scene),
            Err(error) => {
                scene.end(true).await?;
                Err(error)
            }
        }
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if State::load(&self.layout)?.is_some_and(|state| state.ready) {
                return Ok(());
            }
            let ended = self.supervisor.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the lab does not come up:\n{}", process::tail(&self.folder.join("up.log")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it; removes its folder unless that is worth a look.
    pub async fn end(mut self, keep: bool) -> Result<()> {
        let pid = self.supervisor.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        if let Some(supervisor) = pid {
            supervisor.signal(Signal::SIGTERM);
        }
        let ended = tokio::time::timeout(Duration::from_secs(60), self.supervisor.wait()).await;
        ensure!(ended.is_ok(), "the lab in {} does not end", self.folder.display());
        if keep {
            println!("kept: {}", self.folder.display());
            return Ok(());
        }
        if let Some(postgres) = State::load(&self.layout)?.and_then(|state| state.postgres)
            && postgres.folder.exists()
        {
            std::fs::remove_dir_all(&postgres.folder)?;
        }
        let sockets = self.layout.sockets();
        if sockets.exists() {
            std::fs::remove_dir_all(sockets)?;
        }
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    /// The lab, as it is now.
    pub fn lab(&self) -> Result<Lab> {
        let state = State::load(&self.layout)?.context("the lab's state is gone")?;
        Ok(Lab::new(self.layout.clone(), self.programs.clone(), state))
    }

    /// Files of the lab.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A folder for a check's own files.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Where the command line keeps its contexts.
    pub fn contexts(&self) -> PathBuf {
        self.folder.join(CONTEXTS)
    }

    /// Global's REST.
    pub fn global(&self) -> Result<Plane> {
        self.lab()?.global()
    }

    /// A zone's REST.
    pub fn zone(&self, zone: &str) -> Result<Plane> {
        self.lab()?.zone_access(zone)?.plane()
    }

    /// Where clients outside the mesh reach a zone's gateway.
    pub fn gateway(&self, zone: &str) -> Result<SocketAddr> {
        Ok(at(self.lab()?.zone(zone)?.sidecar(), GATEWAY_PORT))
    }

    /// A client outside the mesh, of a zone's gateway.
    pub fn outside(&self, zone: &str, host: &str) -> Result<Outside> {
        Outside::new(&self.layout.ca(), host, self.gateway(zone)?)
    }

    /// The admin interface of a member's Envoy.
    pub fn admin(&self, name: &str) -> Result<Admin> {
        let state = self.lab()?.state();
        Member::named(name, &state)?.admin(&self.layout, &state)
    }

    /// Connections that a zone's ingress has taken, ever.
    pub async fn ingress_connections(&self, zone: &str) -> Result<u64> {
        self.admin(&format!("{zone}-ingress"))?.sum(r"^listener\.self_zoneingress_[^.]*\.downstream_cx_total$").await
    }

    /// Asks a zone's mesh DNS.
    pub async fn resolve(&self, zone: &str, name: &str) -> Result<dns::Said> {
        dns::ask(at(self.lab()?.zone(zone)?.sidecar(), DNS_PORT), name).await
    }

    /// Asks the DNS of azure's mesh workload.
    pub async fn resolve_as_client(&self, name: &str) -> Result<dns::Said> {
        dns::ask(at(self.lab()?.zone(AZURE)?.client(), DNS_PORT), name).await
    }

    /// Asks the supervisor.
    pub async fn ask(&self, request: Request) -> Result<()> {
        control::ask(&self.layout.control(), &request, |_| ()).await
    }

    /// Ends a member and starts it again, or starts a dead one.
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.ask(Request::Restart { name: name.to_owned(), certificate_names: None }).await
    }

    /// The process of a member.
    pub fn process(&self, name: &str) -> Result<Identity> {
        let state = self.lab()?.state();
        state.processes.get(name).copied().with_context(|| format!("{name} does not run"))
    }

    /// Sends a signal to a member and waits until its process is gone.
    pub async fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let process = self.process(name)?;
        ensure!(process.signal(signal), "{name} is not there any more");
        ensure!(process::until(PATIENCE, async || !process.is_alive()).await, "{name} does not end");
        Ok(())
    }

    /// Waits until the catalog answers from azure, and orders from gcp.
    pub async fn settle(&self) -> Result<()> {
        for (zone, host) in [(AZURE, CATALOG), (GCP, CATALOG), (AZURE, ORDERS), (GCP, ORDERS)] {
            let client = self.outside(zone, host)?;
            until(&format!("{host} answers through {zone}"), PATIENCE, async || works(&client).await).await?;
        }
        Ok(())
    }

    /// Begins to ask for the catalog from azure, again and again.
    pub fn load(&self) -> Result<Load> {
        Ok(Load::start(vec![self.outside(AZURE, CATALOG)?, self.outside(GCP, CATALOG)?, self.outside(GCP, ORDERS)?]))
    }
}

/// Whether a client gets 200.
pub async fn works(client: &Outside) -> bool {
    client.get("/").await.is_ok_and(|answer| answer.status == 200)
}

/// Whether a client gets no answer from beyond its gateway.
pub async fn refused(client: &Outside) -> bool {
    client.get("/").await.is_ok_and(|answer| answer.status == 503)
}

/// One request, wanted to work.
pub async fn get(client: &Outside) -> Result<Answer> {
    let answer = client.get("/").await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    Ok(answer)
}

/// Waits until `condition` holds, and says how long that took.
pub async fn until(what: &str, limit: Duration, condition: impl AsyncFn() -> bool) -> Result<Duration> {
    let start = Instant::now();
    while !condition().await {
        ensure!(start.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(start.elapsed())
}

/// As people read it.
pub fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}

/// Requests that run beside a check, one after the other for each client.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(clients: Vec<Outside>) -> Self {
        let (stop, good, failed) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let tasks = clients.into_iter().map(|client| {
            let (stop, good, failed) = (stop.clone(), good.clone(), failed.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match get(&client).await {
                        Ok(_) => {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}")),
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, good, failed, tasks }
    }

    /// Ends it; how many worked. An error when one failed.
    pub async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        let (good, failed) = (self.good.load(Ordering::Relaxed), self.failed.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(first) = failed.first() {
            bail!("{} of {} requests failed meanwhile, the first with: {first}", failed.len(), good + failed.len() as u64);
        }
        ensure!(good > 0, "no request was made");
        Ok(good)
    }
}

/// Whether a file is there, for messages.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
