//! The subcommands of `atoll lab`.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::sys::signal::Signal;

use crate::Connection;

use super::{
    backend, check,
    control::{self, Request},
    guide,
    lab::{Lab, Programs},
    layout::Layout,
    member::Member,
    process,
    state::{self, State},
    supervisor, trace, variables,
};

/// Everything ends well before.
const END: Duration = Duration::from_secs(60);

/// Two clouds on this machine, with real Envoys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the lab in the foreground (`make lab` builds and does this).
    Up(supervisor::Args),
    /// What runs where.
    Status,
    /// What a member of the lab wrote.
    Logs {
        /// One of the names in `atoll lab status`, or `NAME-access` for the access log of a gateway, sidecar or ingress.
        name: String,
        /// Goes on until Ctrl-C.
        #[arg(long, short)]
        follow: bool,
        /// How many lines from the end.
        #[arg(long, short = 'n', default_value_t = 200)]
        lines: usize,
    },
    /// Shell variables that say what runs where: eval "$(bin/atoll lab env)".
    Env {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// End a member and start it again; one that is dead is started.
    Restart {
        /// One of the names in `atoll lab status`.
        name: String,
        /// Of a gateway: names for its certificate in place of the lab's, to see a verification fail.
        #[arg(long, value_delimiter = ',', hide = true)]
        certificate_names: Option<Vec<String>>,
    },
    /// End the lab and keep its data.
    Stop,
    /// End the lab and remove its data.
    Reset,
    /// Send one request and print its way hop by hop.
    Trace(trace::Args),
    /// More clouds.
    #[command(subcommand)]
    Zone(ZoneCommand),
    /// More gateways.
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Run a lab of its own, beside one that runs, and assert every point (`make lab-check`).
    Check(check::Args),
    /// One of the lab's services.
    #[command(hide = true)]
    Backend(backend::Args),
}

/// More clouds.
#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// A new cloud joins the running lab; its gateway has the catalog.
    Add {
        /// Its name: a DNS label.
        name: String,
    },
}

/// More gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Your own service behind a new gateway with a sidecar.
    Add {
        /// The zone.
        #[arg(long)]
        zone: String,
        /// Where requests go: http://HOST:PORT, or https://MESH-HOSTNAME:PORT.
        #[arg(long)]
        upstream: String,
        /// NAME.acme.corp outside, NAME.ZONE.mesh.acme.corp inside.
        #[arg(long, default_value = "shop")]
        name: String,
    },
}

/// Does what was asked.
pub async fn run(command: Command, connection: &Connection) -> Result<()> {
    atoll_runtime::tls::install_provider();
    match command {
        Command::Up(args) => supervisor::run(args, connection.config_dir.clone()).await,
        Command::Status => status(),
        Command::Logs { name, follow, lines } => logs(&name, follow, lines).await,
        Command::Env { json } => environment(json),
        Command::Restart { name, certificate_names } => ask(Request::Restart { name, certificate_names }).await,
        Command::Stop => stop().await,
        Command::Reset => reset().await,
        Command::Zone(ZoneCommand::Add { name }) => ask(Request::AddZone { name }).await,
        Command::Gateway(GatewayCommand::Add { zone, upstream, name }) => ask(Request::AddGateway { zone, name, upstream }).await,
        Command::Trace(args) => {
            let layout = layout()?;
            let state = state::ready(&layout)?;
            trace::run(&Lab::new(layout, Programs::find()?, state), args).await
        }
        Command::Check(args) => check::run(args).await,
        Command::Backend(args) => backend::run(args).await,
    }
}

/// The layout of the lab that is here, with the offset that it runs at.
pub fn layout() -> Result<Layout> {
    let layout = Layout::find(0)?;
    let offset = State::load(&layout)?.map_or(0, |state| state.offset);
    Ok(Layout { offset, ..layout })
}

fn status() -> Result<()> {
    let layout = layout()?;
    let Some(state) = State::load(&layout)? else { bail!("no lab was ever started here: start one with `make lab`") };
    let running = state.running().is_some();
    let text = match (running, state.ready) {
        (false, _) => "the lab does not run; `make lab` brings it back",
        (true, false) => "the lab is starting or ending",
        (true, true) => "the lab is ready",
    };
    let lab = Lab::new(layout, Programs::find()?, state);
    println!("{}\n{text}", guide::table(&lab)?);
    Ok(())
}

async fn logs(name: &str, follow: bool, lines: usize) -> Result<()> {
    let layout = layout()?;
    let log = log_of(&layout, name)?;
    let mut text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut read = text.len() as u64;
    let start = text.iter().rev().enumerate().filter(|(at, byte)| **byte == b'\n' && *at > 0).nth(lines.saturating_sub(1));
    if let Some((from_end, _)) = start {
        text.drain(..text.len() - from_end);
    }
    let mut out = std::io::stdout();
    out.write_all(&text)?;
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut file = std::fs::File::open(&log)?;
        file.seek(SeekFrom::Start(read))?;
        let mut more = Vec::new();
        read += file.read_to_end(&mut more)? as u64;
        out.write_all(&more)?;
        out.flush()?;
    }
}

fn log_of(layout: &Layout, name: &str) -> Result<PathBuf> {
    let Some(state) = State::load(layout)? else { bail!("no lab was ever started here: start one with `make lab`") };
    let member = Member::named(name.strip_suffix("-access").unwrap_or(name), &state)?;
    let log = if name.ends_with("-access") { layout.log(name) } else { layout.log(&member.name()) };
    if log.exists() { Ok(log) } else { bail!("{name} has not written anything yet") }
}

fn environment(json: bool) -> Result<()> {
    let layout = layout()?;
    let variables = variables::all(&layout, &state::ready(&layout)?)?;
    if json {
        println!("{}", variables::json(&variables)?);
    } else {
        print!("{}", variables::shell(&variables));
    }
    Ok(())
}

async fn ask(request: Request) -> Result<()> {
    let layout = layout()?;
    state::ready(&layout)?;
    control::ask(&layout.control(), &request, |line| println!("{line}")).await
}

async fn stop() -> Result<()> {
    let running = State::load(&layout()?)?.and_then(|state| state.running());
    let Some(supervisor) = running else { bail!("no lab runs here") };
    end(supervisor).await?;
    println!("the lab has ended; its data stays");
    Ok(())
}

async fn end(supervisor: process::Identity) -> Result<()> {
    supervisor.signal(Signal::SIGTERM);
    if !process::until(END, async || !supervisor.is_alive()).await {
        bail!("the lab (process {}) does not end", supervisor.pid);
    }
    Ok(())
}

async fn reset() -> Result<()> {
    let layout = layout()?;
    let state = State::load(&layout).unwrap_or_default();
    if let Some(supervisor) = state.as_ref().and_then(State::running) {
        end(supervisor).await?;
    }
    if !layout.home.exists() {
        println!("there is nothing to remove");
        return Ok(());
    }
    if let Some(postgres) = state.and_then(|state| state.postgres)
        && postgres.folder.exists()
    {
        std::fs::remove_dir_all(&postgres.folder).with_context(|| format!("cannot remove {}", postgres.folder.display()))?;
    }
    let sockets = layout.sockets();
    if sockets.exists() {
        std::fs::remove_dir_all(&sockets)?;
    }
    std::fs::remove_dir_all(&layout.home).with_context(|| format!("cannot remove {}", layout.home.display()))?;
    println!("removed {}", layout.home.display());
    Ok(())
}
