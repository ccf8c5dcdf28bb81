//! `atoll lab up`: starts the lab, watches it, does what the other subcommands ask, and ends it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};

use super::{
    Lab, bringup,
    control::{self, Request},
    guide,
    lab::Programs,
    layout::Layout,
    member::{AZURE, GCP, Member},
    postgres,
    process::Identity,
    say::Say,
    state::{AddedGateway, State},
};

/// Names that a zone may not have, since processes of the lab have them.
const RESERVED: [&str; 3] = ["global", "postgres", "lab"];
const RESERVED_ENDS: [&str; 6] = ["-ingress", "-sidecar", "-gateway", "-client", "-orders", "-catalog"];

/// Flags of `atoll lab up`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `embedded`, or `postgres`; unless set, Postgres where its binaries are. What an existing lab has it keeps.
    #[arg(long, env = "ATOLL_LAB_STORE")]
    store: Option<Store>,
    /// Added to the second octet of every address of the lab, so that two labs can run beside each other.
    #[arg(long, env = "ATOLL_LAB_OFFSET", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=160))]
    offset: u8,
    /// The resolver that sidecars ask for names outside the mesh, as ADDRESS:PORT; unless set, the machine's.
    #[arg(long, env = "ATOLL_LAB_DNS_UPSTREAM")]
    dns_upstream: Option<String>,
}

/// The stores of global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Embedded,
    Postgres,
}

/// Runs the lab until a signal ends it.
pub async fn run(args: Args, config_dir: Option<PathBuf>) -> Result<()> {
    let layout = Layout::find(args.offset)?;
    std::fs::create_dir_all(layout.home.join("logs")).with_context(|| format!("cannot make {}", layout.home.display()))?;
    let _lock = lock(&layout)?;
    let say = Say::to_terminal();
    let programs = Programs::find()?;
    let state = prepare(&layout, &args, &say).await?;
    let layout = Layout { offset: state.offset, ..layout };
    let mut lab = Lab::new(layout, programs, state);
    lab.dns_upstream = args.dns_upstream;
    lab.config_dir = config_dir;
    lab.check_addresses()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let own = Identity::own()?;
    lab.change(|state| (state.supervisor, state.ready) = (Some(own), false))?;
    let outcome = tokio::select! {
        outcome = live(&lab, &say) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    say.plain("");
    say.step("ending what the lab started; its data stays");
    lab.change(|state| state.ready = false)?;
    tokio::select! {
        () = lab.end_all() => {}
        () = again(&mut terminate, &mut interrupt) => {
            say.step("ending by force");
            for identity in lab.processes.running().values() {
                identity.signal(nix::sys::signal::Signal::SIGKILL);
            }
            lab.end_all().await;
        }
    }
    lab.change(|state| {
        state.processes.clear();
        state.supervisor = None;
    })?;
    if outcome.is_ok() {
        say.step("ended. `make lab` brings it back, `bin/atoll lab reset` removes its data");
    }
    outcome
}

async fn again(terminate: &mut tokio::signal::unix::Signal, interrupt: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Only one supervisor for each folder.
fn lock(layout: &Layout) -> Result<Flock<File>> {
    let file = OpenOptions::new().create(true).append(true).open(layout.lock())?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            let running = State::load(layout)?.and_then(|state| state.running());
            let who = running.map(|identity| format!(" (process {})", identity.pid)).unwrap_or_default();
            bail!("a lab runs here already{who}: see it with `bin/atoll lab status`, end it with `bin/atoll lab stop`")
        }
    }
}

/// The state to start from: of the lab that is here, else a new one. Ends what a supervisor that was killed left behind.
async fn prepare(layout: &Layout, args: &Args, say: &Say) -> Result<State> {
    let known = State::load(layout)?;
    let mut state = match known {
        Some(state) => state,
        None => fresh(layout, args)?,
    };
    if let (Some(Store::Embedded), Some(_)) | (Some(Store::Postgres), None) = (args.store, &state.postgres) {
        bail!("this lab has its data on another store; `bin/atoll lab reset` removes it");
    }
    if state.postgres.is_some() && postgres::binaries().is_none() {
        bail!("this lab's data is in Postgres, whose binaries are gone. Install them, or start over with `bin/atoll lab reset`");
    }
    state.offset = args.offset;
    end_leftovers(layout, &mut state, say).await;
    Ok(state)
}

fn fresh(layout: &Layout, args: &Args) -> Result<State> {
    let has_postgres = postgres::binaries().is_some();
    let postgres = match args.store {
        Some(Store::Embedded) => None,
        None if !has_postgres => None,
        Some(Store::Postgres) if !has_postgres => {
            bail!("no Postgres binaries are found: install them (sudo apt-get install postgresql) or use `--store embedded`")
        }
        Some(Store::Postgres) | None => Some(postgres::plan(layout)?),
    };
    Ok(State { postgres, zones: vec![AZURE.to_owned(), GCP.to_owned()], offset: args.offset, ..State::default() })
}

async fn end_leftovers(layout: &Layout, state: &mut State, say: &Say) {
    let alive = std::mem::take(&mut state.processes).into_iter().filter(|(_, identity)| identity.is_alive());
    for (name, identity) in alive {
        say.step(format!("{name}: left over from a lab that was killed; ending it"));
        identity.end(Duration::from_secs(8)).await;
    }
    for member in Member::all(state).iter().filter(|member| member.is_dataplane()) {
        bringup::end_orphan(&layout.dataplane(&member.name())).await;
    }
}

/// From the first process to the end of the lab.
async fn live(lab: &Lab, say: &Say) -> Result<()> {
    let store = if lab.state().postgres.is_some() { "Postgres" } else { "the embedded store" };
    say.step(format!("the lab is in {}, global on {store}", lab.layout.home.display()));
    atoll_runtime::files::private_dir(&lab.layout.sockets())?;
    let listener = listen(&lab.layout.control())?;
    lab.bring_up(say).await?;
    lab.change(|state| state.ready = true)?;
    say.step("ready");
    guide::show(lab)?;
    tokio::select! {
        () = watch(lab, say) => Ok(()),
        served = control::serve(listener, |request, say| handle(lab, request, say)) => served,
    }
}

fn listen(socket: &Path) -> Result<UnixListener> {
    // The lock says that nobody serves it.
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))
}

/// Says when a member ends without being asked to.
async fn watch(lab: &Lab, say: &Say) {
    let mut changes = lab.processes.changes();
    let mut known = lab.processes.ended();
    while changes.changed().await.is_ok() {
        let ended = lab.processes.ended();
        for (name, how) in ended.iter().filter(|(name, _)| !known.contains_key(*name)) {
            say.step(format!("{name}: ended ({how}); `bin/atoll lab restart {name}` starts it again"));
        }
        known = ended;
        if let Err(error) = lab.record() {
            say.step(format!("{error:#}"));
        }
    }
}

async fn handle(lab: &Lab, request: Request, say: Say) -> Result<()> {
    match request {
        Request::Restart { name, certificate_names } => restart(lab, &name, certificate_names, &say).await,
        Request::AddZone { name } => add_zone(lab, &name, &say).await,
        Request::AddGateway { zone, name, upstream } => {
            add_gateway(lab, AddedGateway { zone, name, number: 0, upstream }, &say).await
        }
    }
}

async fn restart(lab: &Lab, name: &str, certificate_names: Option<Vec<String>>, say: &Say) -> Result<()> {
    let member = Member::named(name, &lab.state())?;
    lab.processes.stop(name).await;
    lab.processes.forget(name);
    match (certificate_names, &member) {
        (None, _) => lab.start(&member).await?,
        (Some(names), Member::Gateway(zone)) => lab.start_gateway_with(zone, &names).await?,
        (Some(_), _) => bail!("{name} has no certificate of the lab's"),
    }
    say.step(format!("{name}: runs again"));
    Ok(())
}

async fn add_zone(lab: &Lab, zone: &str, say: &Say) -> Result<()> {
    let state = lab.state();
    if !atoll_model::names::is_rfc1035_label(zone)
        || RESERVED.contains(&zone)
        || RESERVED_ENDS.iter().any(|end| zone.ends_with(end))
    {
        bail!("a zone cannot be named {zone:?} here: use a DNS label such as aws");
    }
    // One that did not come far the last time is tried again.
    if state.place(zone).is_none() {
        lab.layout.zone(state.zones.len())?;
        lab.change(|state| state.zones.push(zone.to_owned()))?;
    } else if lab.processes.is_running(zone) {
        bail!("zone {zone} is here already");
    }
    lab.check_new_addresses(zone)?;
    let added = async {
        lab.allow(zone).await?;
        lab.start_zone(zone, say).await?;
        lab.wait_for_catalog(zone, say).await
    };
    if let Err(error) = added.await {
        say.step(format!("{zone}: kept as far as it came; `bin/atoll lab logs {zone}`"));
        return Err(error);
    }
    say.step(format!("{zone} has joined"));
    guide::show_zone(lab, zone, say)
}

async fn add_gateway(lab: &Lab, mut added: AddedGateway, say: &Say) -> Result<()> {
    let state = lab.state();
    lab.zone(&added.zone)?;
    super::gateway::Upstream::parse(&added.upstream)?;
    let mut names = state.gateways.iter().filter(|known| known.zone == added.zone);
    if !atoll_model::names::is_rfc1035_label(&added.name)
        || ["catalog", "orders", "api-gateway", "client", "zone-ingress"].contains(&added.name.as_str())
    {
        bail!("a gateway cannot be named {:?} here: use a DNS label such as shop", added.name);
    }
    if names.clone().any(|known| known.name == added.name) {
        bail!("zone {} has a gateway {} already: choose another --name", added.zone, added.name);
    }
    added.number = names.by_ref().map(|known| known.number + 1).max().unwrap_or(0);
    super::member::added(&lab.layout, &state, &added)?;
    lab.change(|state| state.gateways.push(added.clone()))?;
    lab.start(&Member::AddedSidecar(added.clone())).await?;
    say.step(format!("{}: sidecar is ready", added.name));
    lab.start(&Member::AddedGateway(added.clone())).await?;
    say.step(format!("{}: gateway serves {}", added.name, added.upstream));
    guide::show_gateway(lab, &added, say)
}
