//! A Postgres of the lab's own, from the machine's binaries.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rand::{Rng, distr::Alphanumeric};

use super::{
    layout::{Layout, at, in_path},
    process::{Processes, Spec},
    state,
};

const PORT: u16 = 5432;
const USER: &str = "atoll";
const DATABASE: &str = "atoll";

/// The folder with Postgres' server binaries, if this machine has them; the newest of several.
pub fn binaries() -> Option<PathBuf> {
    if let Some(initdb) = in_path("initdb").and_then(|path| path.canonicalize().ok()) {
        return initdb.parent().map(Path::to_path_buf);
    }
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .chain(std::fs::read_dir("/usr").into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| is_pgsql(path)))
        .map(|folder| (version(&folder), folder.join("bin")))
        .filter(|(_, bin)| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

fn is_pgsql(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"))
}

fn version(folder: &Path) -> u32 {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.trim_start_matches("pgsql-").parse().unwrap_or(0)
}

/// A new database, not yet made.
pub fn plan(layout: &Layout) -> Result<state::Postgres> {
    let reachable = user()?.is_none() || others_may_enter(&layout.home);
    let password = rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect();
    Ok(state::Postgres { folder: layout.postgres(reachable), password })
}

/// Whether another user can get to a folder.
fn others_may_enter(folder: &Path) -> bool {
    let enter = |folder: &Path| std::fs::metadata(folder).is_ok_and(|about| about.permissions().mode() & 0o001 != 0);
    folder.ancestors().filter(|folder| folder.exists()).all(enter)
}

/// Who runs Postgres: ourselves, but somebody unprivileged when we are root, whom `initdb` refuses.
fn user() -> Result<Option<(u32, u32)>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = nix::unistd::User::from_name(name)? {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    bail!("Postgres does not run as root, and this machine has neither a user `postgres` nor `nobody`")
}

/// The database's URL.
pub fn url(layout: &Layout, postgres: &state::Postgres) -> String {
    format!("postgres://{USER}:{}@{}/{DATABASE}", postgres.password, at(layout.global(), PORT))
}

/// Starts it and waits until it takes connections; makes the data the first time.
pub async fn start(layout: &Layout, postgres: &state::Postgres, processes: &Processes) -> Result<()> {
    let bin = binaries().context("Postgres' binaries are gone")?;
    let fresh = !postgres.folder.join("PG_VERSION").exists();
    if fresh {
        init(&bin, postgres).await?;
    }
    processes.start(spec(layout, &bin, postgres)?)?;
    let address = at(layout.global(), PORT);
    let limit = Duration::from_secs(60);
    // A server that recovers takes the connection and refuses the session, so a session is what we ask for.
    processes.wait("postgres", limit, async || is_ready(&bin, address).await).await?;
    if fresh {
        let mut create = tokio::process::Command::new(bin.join("createdb"));
        create.args(["-h", &address.ip().to_string(), "-p", &PORT.to_string(), "-U", USER, DATABASE]);
        run(create.env("PGPASSWORD", &postgres.password)).await.context("createdb")?;
    }
    Ok(())
}

fn spec(layout: &Layout, bin: &Path, postgres: &state::Postgres) -> Result<Spec> {
    let mut spec = Spec::new("postgres", bin.join("postgres"), layout.log("postgres"))
        .flag("-D", &postgres.folder)
        .flag("-h", layout.global().to_string())
        .flag("-p", PORT.to_string())
        .flag("-c", "unix_socket_directories=")
        .flag("-c", "fsync=on");
    // SIGTERM would wait for people's psql sessions.
    spec.polite = nix::sys::signal::Signal::SIGINT;
    spec.user = user()?;
    Ok(spec)
}

async fn init(bin: &Path, postgres: &state::Postgres) -> Result<()> {
    let folder = &postgres.folder;
    if folder.exists() {
        // An earlier initdb was cut short.
        std::fs::remove_dir_all(folder)?;
    }
    atoll_runtime::files::private_dir(folder)?;
    let password = folder.with_extension("password");
    atoll_runtime::files::write_secret(&password, postgres.password.as_bytes())?;
    let mut initdb = tokio::process::Command::new(bin.join("initdb"));
    initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "-U", USER, "-D"]).arg(folder);
    initdb.arg("--pwfile").arg(&password).current_dir("/");
    if let Some((uid, gid)) = user()? {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid))?;
        std::os::unix::fs::chown(&password, Some(uid), Some(gid))?;
        initdb.uid(uid).gid(gid);
    }
    let done = run(&mut initdb).await.context("initdb");
    std::fs::remove_file(&password)?;
    done
}

async fn is_ready(bin: &Path, address: std::net::SocketAddr) -> bool {
    let mut ask = tokio::process::Command::new(bin.join("pg_isready"));
    ask.args(["-q", "-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    ask.stdin(Stdio::null()).status().await.is_ok_and(|status| status.success())
}

async fn run(command: &mut tokio::process::Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("{}: {}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
