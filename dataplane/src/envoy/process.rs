//! The Envoy process: its own process group, known by pid and start, so that it outlives this program and is found again.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
        wait::{WaitPidFlag, waitpid},
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

/// Name of the file in which a new Envoy's process id comes.
const PID: &str = "envoy.pid";
/// An Envoy that can hand over ends with whoever started it: so that is a shell, which has ended before Envoy begins. The pid of
/// the waiting shell is Envoy's.
const ORPHAN: &str = r#"
file=$1; shift
( while kill -0 $$ 2>/dev/null; do sleep 0.01; done; exec "$@" ) & echo $! > "$file"
"#;

/// Envoy multiplies its number by ten.
const BASE_IDS: u32 = 400_000_000;

/// Lines of the access log wait no longer, in milliseconds. Not in the fingerprint: no reason for a new Envoy.
const FLUSH: [&str; 2] = ["--file-flush-interval-msec", "1000"];

/// What Envoy is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its version: a running Envoy of another one makes way.
    pub version: String,
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
        // What is drained goes at once, not little by little.
        arguments.extend(["--drain-strategy", "immediate", "--base-id", &base_id(folder)].map(str::to_owned));
        arguments
    }

    /// How long an Envoy may live that has handed over.
    fn farewell(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain_seconds) + 5) + TERM_TIMEOUT
    }

    /// Names all that makes a new Envoy necessary, but for its version.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks from the machine's start to the process's: tells it from a later process with its pid.
    started: u64,
    fingerprint: String,
    #[serde(default)]
    version: String,
    /// How many handed over before it; none: it cannot hand over itself.
    #[serde(default)]
    epoch: Option<u32>,
    /// The one that hands over to it and has connections to finish.
    #[serde(default)]
    before: Option<(i32, u64)>,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Process {
    record: Record,
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
        Self::start_after(None, folder, launch)
    }

    /// Starts the Envoy that takes this one's listening sockets over while both serve (Envoy's hot restart). When the new one is
    /// ready, this one drains and ends. None: this one was started without it.
    ///
    /// # Errors
    /// When the disk or the program refuses.
    pub fn start_next(&self, folder: &Folder, launch: &Launch) -> Result<Option<Self>, StartFault> {
        self.record.epoch.map(|_| Self::start_after(Some(&self.record), folder, launch)).transpose()
    }

    fn start_after(before: Option<&Record>, folder: &Folder, launch: &Launch) -> Result<Self, StartFault> {
        folder.write("bootstrap.json", &launch.bootstrap)?;
        folder.remove("admin.sock");
        let (said, logged) = (folder.log(folder::ENVOY_LOG)?, access_log::open(launch.access_log.as_ref(), folder)?);
        let epoch = before.and_then(|before| before.epoch).map_or(0, |epoch| epoch.saturating_add(1));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ORPHAN, "sh"]).arg(folder.path(PID)).arg(&launch.program);
        command.args(launch.arguments(folder)).args(FLUSH).args(["--restart-epoch", &epoch.to_string()]).process_group(0);
        command.stdin(Stdio::null()).stdout(logged).stderr(said);
        let pid = orphan(folder, &launch.program, command).map_err(|error| StartFault::Spawn(launch.program.clone(), error))?;
        let record = Record {
            pid,
            started: started(pid).unwrap_or_default(),
            fingerprint: launch.fingerprint(folder),
            version: launch.version.clone(),
            epoch: Some(epoch),
            before: before.map(|before| (before.pid, before.started)),
        };
        folder.save(RECORD, &record)?;
        Ok(Self { record })
    }

    /// The Envoy that runs in this folder already, if it is `node_id` and answers; one that hangs, or is somebody else, is ended.
    pub async fn adopt(folder: &Folder, admin: &Admin, node_id: &str) -> Option<Self> {
        let record = recorded(folder).or_else(|| listening(admin))?;
        let process = Self { record };
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

    /// Whether it was started with this. Another version is a reason to replace it only if that costs nothing.
    pub fn runs(&self, folder: &Folder, launch: &Launch) -> bool {
        let kept = self.record.version == launch.version || self.record.epoch.is_none();
        kept && self.record.fingerprint == launch.fingerprint(folder)
    }

    /// Waits until it is gone after it has handed over, and sees to it.
    pub async fn retire(mut self, launch: Arc<Launch>) {
        if tokio::time::timeout(launch.farewell(), self.gone()).await.is_err() {
            let _ = kill(Pid::from_raw(self.record.pid), Signal::SIGKILL);
            self.gone().await;
        }
    }

    /// Whether it lives.
    pub fn is_alive(&mut self) -> bool {
        // Where this program is the first of its container, those without a parent are its children.
        let _ = waitpid(Pid::from_raw(self.record.pid), Some(WaitPidFlag::WNOHANG));
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
        // It would have been told by this one to end.
        if let Some((pid, began)) = self.record.before
            && started(pid) == Some(began)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        folder.remove(RECORD);
        // Nobody hands over to a later one: what they would have shared is of no use.
        let _ = fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}0", base_id(folder)));
    }
}

/// Starts a program that has no parent here; its pid.
fn orphan(folder: &Folder, program: &Path, mut command: Command) -> io::Result<i32> {
    fs::metadata(program)?;
    folder.remove(PID);
    let status = command.status()?;
    let pid = fs::read_to_string(folder.path(PID))?;
    folder.remove(PID);
    pid.trim().parse().map_err(|_| io::Error::other(format!("the shell that starts it says {status}")))
}

/// Tells Envoys of other folders of this machine apart: those of one folder share memory with this number.
fn base_id(folder: &Folder) -> String {
    let hash = Sha256::digest(folder.instance());
    (u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % BASE_IDS).to_string()
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
    ours.then_some(Record { pid, started: started(pid)?, ..Record::default() })
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
            version: "1.40.0".into(),
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
        assert!(lives(&Record { pid: mine, started: started(mine).unwrap(), ..Record::default() }));
        assert!(!lives(&Record { pid: mine, started: 1, ..Record::default() }), "another process had this pid");
    }

    #[test]
    fn a_program_that_cannot_start_is_named() {
        let (_root, folder) = folder();
        assert!(Process::start(&folder, &launch("/absent")).unwrap_err().to_string().contains("/absent"));
    }
}
