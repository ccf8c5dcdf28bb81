//! A Postgres server of one's own, from the binaries of this machine.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

/// Starts servers on command and, when its input ends because the test process did, however that happened, ends the server
/// and removes its files.
const KEEPER: &str = r#"
while read -r line; do
    "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 -c shared_buffers=64MB >>"$2/log" 2>&1 &
    pg=$!
    echo $pg
done
kill -CONT $pg $(cat /proc/$pg/task/$pg/children 2>/dev/null) 2>/dev/null
kill -QUIT $pg 2>/dev/null
wait
rm -rf "$2"
"#;

const TEMPLATE: &str = "atoll_template";

/// A Postgres server that ends with this process, or when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
    template: OnceCell<()>,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    orders: Option<ChildStdin>,
    pids: BufReader<ChildStdout>,
    pid: Option<Pid>,
}

impl Postgres {
    /// The server that all tests of this process share; started when it is first asked for.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Makes a cluster in a temporary directory and starts a server on it, with durable commits as by default.
    ///
    /// # Errors
    /// A text that says what is missing or what the server said.
    pub async fn start() -> Result<Self, String> {
        let server = tokio::task::spawn_blocking(Self::prepare).await.map_err(|error| error.to_string())??;
        server.restart().await?;
        Ok(server)
    }

    fn prepare() -> Result<Self, String> {
        let bin = binaries()?;
        let user = user()?;
        let dir = tempfile::Builder::new().prefix("atoll-pg-").tempdir_in("/tmp").map_err(|error| error.to_string())?.keep();
        if let Some((uid, gid)) = user {
            chown(&dir, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
        }
        let initdb = unprivileged(Command::new(bin.join("initdb")), user)
            .args(["--auth=trust", "--username=atoll", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"])
            .arg(dir.join("data"))
            .current_dir(&dir)
            .output()
            .map_err(|error| format!("initdb: {error}"))?;
        if !initdb.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&initdb.stderr)));
        }
        let mut child = unprivileged(Command::new("sh"), user)
            .args(["-c", KEEPER, "sh"])
            .args([&bin, &dir])
            .current_dir(&dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let orders = child.stdin.take();
        let pids = BufReader::new(child.stdout.take().ok_or("no output of sh")?);
        let keeper = Mutex::new(Keeper { child, orders, pids, pid: None });
        Ok(Self { dir, keeper, databases: AtomicU32::new(0), template: OnceCell::new() })
    }

    /// Starts the server, again if it was killed, and waits until it answers.
    ///
    /// # Errors
    /// What the server said last, when it does not come up.
    pub async fn restart(&self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(20);
        self.order()?;
        while self.connect("postgres").await.is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(format!("Postgres does not answer: {tail:?}"));
            }
            if !self.is_running() {
                self.order()?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends the server with SIGKILL, as a crash would.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Stops the server where it is, without closing anything (SIGSTOP to all its processes).
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// A fresh database with the store's tables; gives its URL.
    ///
    /// # Errors
    /// What the server said.
    pub async fn database(&self) -> Result<String, String> {
        self.template.get_or_try_init(|| self.make_template()).await?;
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect("postgres").await.map_err(|error| error.to_string())?;
        create(&mut connection, &format!("{name} TEMPLATE {TEMPLATE}")).await?;
        Ok(self.url(&name))
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://atoll@localhost/{database}?host={}", self.dir.display())
    }

    async fn make_template(&self) -> Result<(), String> {
        let mut connection = self.connect("postgres").await.map_err(|error| error.to_string())?;
        create(&mut connection, TEMPLATE).await?;
        let mut template = self.connect(TEMPLATE).await.map_err(|error| error.to_string())?;
        crate::journal::postgres::create_tables(&mut template).await?;
        template.close().await.map_err(|error| error.to_string())
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::from_str(&self.url(database))?;
        PgConnection::connect_with(&options).await
    }

    fn order(&self) -> Result<(), String> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = keeper.orders.as_mut().ok_or("the server is being ended")?;
        orders.write_all(b"start\n").map_err(|error| error.to_string())?;
        let mut line = String::new();
        keeper.pids.read_line(&mut line).map_err(|error| error.to_string())?;
        keeper.pid = line.trim().parse().ok().map(Pid::from_raw);
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).pid
    }

    fn is_running(&self) -> bool {
        self.pid().is_some_and(|pid| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // One that has ended already needs no signal.
            let _ended = kill(pid, signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        let Some(pid) = self.pid() else { return };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
        for pid in children.chain([pid]) {
            let _ended = kill(pid, signal);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.orders.take());
        let _ended = keeper.child.wait();
    }
}

async fn create(connection: &mut PgConnection, what: &str) -> Result<(), String> {
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {what}")))
        .execute(connection)
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}

/// The folder with `initdb` and `postgres`: one of PATH, else the newest of Debian's.
fn binaries() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev().map(|(_, path)| path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .ok_or_else(|| "this needs Postgres: apt-get install postgresql".to_owned())
}

/// As root: whom to run the server as, because it refuses root.
fn user() -> Result<Option<(u32, u32)>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).map(Some).ok_or_else(|| "neither a user postgres nor nobody".to_owned())
}

fn unprivileged(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGHOST").env_remove("PGPORT");
    command
}
