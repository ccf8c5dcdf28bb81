//! The Envoy process: its own process group, known by pid and start, so that it outlives this program and is found again.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::admin::AdminError;
use crate::{
    access_log::{self, AccessLog},
    bootstrap::Admin,
    folder::{self, Folder, FolderFault},
};

/// Name of the file in the folder.
const RECORD: &str = "envoy.json";
/// How often an Envoy that is no child of ours is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// From asking Envoy to end, to making it.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a running Envoy may take to answer before it counts as hung.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of the access log wait no longer, in milliseconds. Not in the fingerprint: no reason for a new Envoy.
const FLUSH: [&str; 2] = ["--file-flush-interval-msec", "1000"];

/// What Envoy is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The bootstrap.
    pub bootstrap: Vec<u8>,
    /// Envoy's `--drain-time-s`.
    pub drain_seconds: u32,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// Envoy's log level.
    pub log_level: String,
    /// Where its access log goes; none: into the folder.
    pub access_log: Option<AccessLog>,
}

impl Launch {
    fn arguments(&self, folder: &Folder) -> Vec<String> {
        let parent_shutdown = self.drain_seconds.saturating_add(5);
        let bootstrap = folder.path("bootstrap.json").display().to_string();
        let mut arguments: Vec<String> = ["--config-path", &bootstrap, "--log-level", &self.log_level].map(str::to_owned).into();
        for (name, value) in [
            ("--drain-time-s", self.drain_seconds),
            ("--parent-shutdown-time-s", parent_shutdown),
            ("--concurrency", self.concurrency),
        ] {
            arguments.extend([name.to_owned(), value.to_string()]);
        }
        // Without hot restart no Envoy of a machine needs a base id of its own; and what is drained goes at once, not little by little.
        arguments.extend(["--disable-hot-restart", "--drain-strategy", "immediate"].map(str::to_owned));
        arguments
    }

    /// Names all that makes a new Envoy necessary. The program is not in it: a newer one waits for the next start.
    fn fingerprint(&self, folder: &Folder) -> String {
        let mut hasher = Sha256::new();
        hasher.update(&self.bootstrap);
        for argument in self.arguments(folder) {
            hasher.update([0]);
            hasher.update(argument);
        }
        if let Some(place) = &self.access_log {
            hasher.update([1]);
            hasher.update(place.to_string());
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The Envoy that was started last, as the folder knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks from the machine's start to the process's: tells it from a later process with its pid.
    started: u64,
    fingerprint: String,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Process {
    record: Record,
    /// Ours to wait for; an adopted one is not.
    child: Option<Child>,
}

/// Why Envoy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// The program.
    #[error("cannot start {0}: {1}")]
    Spawn(PathBuf, std::io::Error),
}

impl Process {
    /// Starts Envoy.
    ///
    /// # Errors
    /// When the disk or the program refuses.
    pub fn start(folder: &Folder, launch: &Launch) -> Result<Self, StartFault> {
        folder.write("bootstrap.json", &launch.bootstrap)?;
        folder.remove("admin.sock");
        let (said, logged) = (folder.log(folder::ENVOY_LOG)?, access_log::open(launch.access_log.as_ref(), folder)?);
        let mut command = Command::new(&launch.program);
        command.args(launch.arguments(folder)).args(FLUSH).process_group(0);
        command.stdin(Stdio::null()).stdout(logged).stderr(said);
        let child = command.spawn().map_err(|error| StartFault::Spawn(launch.program.clone(), error))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let record = Record { pid, started: started(pid).unwrap_or_default(), fingerprint: launch.fingerprint(folder) };
        folder.save(RECORD, &record)?;
        Ok(Self { record, child: Some(child) })
    }

    /// The Envoy that runs in this folder already, if it is `node_id` and answers; one that hangs, or is somebody else, is ended.
    pub async fn adopt(folder: &Folder, admin: &Admin, node_id: &str) -> Option<Self> {
        let record = recorded(folder).or_else(|| listening(admin))?;
        let process = Self { record, child: None };
        match answer(admin).await {
            Ok(id) if id == node_id => Some(process),
            Ok(_) | Err(_) => {
                process.stop(folder).await;
                None
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.record.pid.unsigned_abs()
    }

    /// Whether it was started with this.
    pub fn runs(&self, folder: &Folder, launch: &Launch) -> bool {
        self.record.fingerprint == launch.fingerprint(folder)
    }

    /// Whether it lives.
    pub fn is_alive(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            return false;
        }
        lives(&self.record)
    }

    /// Waits until it is gone.
    pub async fn gone(&mut self) {
        while self.is_alive() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it: asks, waits, makes it.
    pub async fn stop(mut self, folder: &Folder) {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.is_alive() {
                break;
            }
            // A stopped process would keep the signal until it goes on.
            let _ = kill(Pid::from_raw(self.record.pid), signal);
            let _ = kill(Pid::from_raw(self.record.pid), Signal::SIGCONT);
            let _ = tokio::time::timeout(TERM_TIMEOUT, self.gone()).await;
        }
        folder.remove(RECORD);
    }
}

fn recorded(folder: &Folder) -> Option<Record> {
    folder.load::<Record>(RECORD).filter(lives)
}

/// The process that listens at the admin socket: found also when the runner died before it wrote the record.
fn listening(admin: &Admin) -> Option<Record> {
    let Admin::Unix(path) = admin else { return None };
    let stream = std::os::unix::net::UnixStream::connect(path).ok()?;
    let peer = getsockopt(&stream, PeerCredentials).ok()?;
    let ours = peer.uid() == nix::unistd::geteuid().as_raw();
    let pid = peer.pid();
    ours.then_some(Record { pid, started: started(pid)?, fingerprint: String::new() })
}

/// The node id of the Envoy behind the admin interface; patient, because it may be starting.
async fn answer(admin: &Admin) -> Result<String, AdminError> {
    let deadline = tokio::time::Instant::now() + ADOPT_TIMEOUT;
    loop {
        match admin.server_info().await {
            Ok(info) => return Ok(info.node.id),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

fn lives(record: &Record) -> bool {
    started(record.pid) == Some(record.started)
}

/// When a process started; none when it is gone, or only waits for its parent to notice.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state …`; the name may hold anything, also parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(program: &str) -> Launch {
        Launch {
            program: program.into(),
            bootstrap: b"{}".to_vec(),
            drain_seconds: 10,
            concurrency: 2,
            log_level: "warning".into(),
            access_log: None,
        }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        (root, folder)
    }

    #[test]
    fn what_needs_a_new_envoy() {
        let (_root, folder) = folder();
        let first = launch("/a");
        assert_eq!(first.fingerprint(&folder), launch("/b").fingerprint(&folder));
        let other = Launch { drain_seconds: 11, ..launch("/a") };
        assert_ne!(first.fingerprint(&folder), other.fingerprint(&folder));
        let elsewhere = Launch { access_log: Some(AccessLog::Stdout), ..launch("/a") };
        assert_ne!(first.fingerprint(&folder), elsewhere.fingerprint(&folder));
    }

    #[tokio::test]
    async fn a_process_that_ends_is_noticed_and_its_pid_is_not_trusted() {
        let (_root, folder) = folder();
        let mut process = Process::start(&folder, &launch("/bin/true")).unwrap();
        tokio::time::timeout(Duration::from_secs(5), process.gone()).await.unwrap();
        let mine = i32::try_from(std::process::id()).unwrap();
        assert!(lives(&Record { pid: mine, started: started(mine).unwrap(), fingerprint: String::new() }));
        assert!(!lives(&Record { pid: mine, started: 1, fingerprint: String::new() }), "another process had this pid");
    }

    #[test]
    fn a_program_that_cannot_start_is_named() {
        let (_root, folder) = folder();
        assert!(Process::start(&folder, &launch("/absent")).unwrap_err().to_string().contains("/absent"));
    }
}
