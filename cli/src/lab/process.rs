//! The processes of the lab: started, watched, ended, and never mistaken for somebody else's.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;
/// Bytes of a log that are read for it.
const TAIL_BYTES: u64 = 8192;

/// A process and when it started, so that a reused number is never taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// Its start, in clock ticks after the machine's.
    pub started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may hold blanks; the start is the 20th after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// This process.
    pub fn own() -> Result<Self> {
        Self::of(i32::try_from(std::process::id())?).context("/proc is not readable")
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, if it is still the same process.
    pub fn signal(&self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    /// Ends it: politely, and after `grace` by force.
    pub async fn end(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if !until(grace, async || !self.is_alive()).await {
            self.signal(Signal::SIGKILL);
            until(Duration::from_secs(5), async || !self.is_alive()).await;
        }
    }
}

/// Waits until `condition` holds; false when `limit` passes first.
pub async fn until(limit: Duration, condition: impl AsyncFn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name in the lab.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Who runs it, when it is not us.
    pub user: Option<(u32, u32)>,
    /// Takes what it prints.
    pub log: PathBuf,
    /// Asks it to end.
    pub polite: Signal,
    /// How long it may take to end.
    pub grace: Duration,
}

impl Spec {
    /// A program with arguments, run by us.
    pub fn new(name: &str, program: PathBuf, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program,
            args: Vec::new(),
            user: None,
            log,
            polite: Signal::SIGTERM,
            grace: Duration::from_secs(8),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, value: impl Into<OsString>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Adds a flag and its value.
    #[must_use]
    pub fn flag(self, name: &str, value: impl Into<OsString>) -> Self {
        self.arg(name).arg(value)
    }
}

#[derive(Debug)]
struct Running {
    identity: Identity,
    spec: Spec,
    /// Whether we ended it ourselves.
    stopping: bool,
    /// How it ended; `None` while it runs.
    ended: watch::Receiver<Option<String>>,
}

/// The processes of one lab; clones share them.
#[derive(Clone, Debug)]
pub struct Processes {
    table: Arc<Mutex<BTreeMap<String, Running>>>,
    /// Raised at each start and end.
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Processes {
    fn default() -> Self {
        Self { table: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }
}

impl Processes {
    /// Starts one. A process of that name must not run.
    pub fn start(&self, spec: Spec) -> Result<Identity> {
        if self.is_running(&spec.name) {
            bail!("{} runs already", spec.name);
        }
        let mut child = command(&spec)?.spawn().with_context(|| format!("cannot run {}", spec.program.display()))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let identity = pid.and_then(Identity::of).ok_or_else(|| anyhow!("{} ended at once:\n{}", spec.name, tail(&spec.log)))?;
        let (sender, ended) = watch::channel(None);
        let changed = self.changed.clone();
        tokio::spawn(async move {
            let how = match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            sender.send_replace(Some(how));
            changed.send_modify(|count| *count += 1);
        });
        self.table().insert(spec.name.clone(), Running { identity, spec, stopping: false, ended });
        self.changed.send_modify(|count| *count += 1);
        Ok(identity)
    }

    /// Starts a process again as it was started last.
    pub fn start_again(&self, name: &str) -> Result<Identity> {
        let spec = self.table().get(name).map(|running| running.spec.clone());
        self.start(spec.with_context(|| format!("there is no {name}"))?)
    }

    /// Waits until `probe` gives true; an error when the process ends before, or `limit` passes.
    pub async fn wait(&self, name: &str, limit: Duration, probe: impl AsyncFn() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if probe().await {
                return Ok(());
            }
            if let Some(how) = self.end_of(name) {
                bail!("{name} ended ({how}):\n{}", self.tail(name));
            }
            if Instant::now() >= deadline {
                bail!("{name} is not ready after {} s:\n{}", limit.as_secs(), self.tail(name));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends one and waits for its end.
    pub async fn stop(&self, name: &str) {
        let found = self.table().get_mut(name).map(|running| {
            running.stopping = true;
            (running.identity, running.spec.clone(), running.ended.clone())
        });
        let Some((identity, spec, mut ended)) = found else { return };
        for (signal, patience) in [(spec.polite, spec.grace), (Signal::SIGKILL, Duration::from_secs(5))] {
            if ended.borrow().is_some() {
                return;
            }
            identity.signal(signal);
            let gone = ended.wait_for(Option::is_some);
            if tokio::time::timeout(patience, gone).await.is_ok() {
                return;
            }
        }
    }

    /// Forgets one that has ended.
    pub fn forget(&self, name: &str) {
        self.table().remove(name);
    }

    /// Whether it runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.table().get(name).is_some_and(|running| running.ended.borrow().is_none())
    }

    /// The names of all, also of those that ended.
    pub fn names(&self) -> Vec<String> {
        self.table().keys().cloned().collect()
    }

    /// Those that run.
    pub fn running(&self) -> BTreeMap<String, Identity> {
        let table = self.table();
        let alive = table.iter().filter(|(_, running)| running.ended.borrow().is_none());
        alive.map(|(name, running)| (name.clone(), running.identity)).collect()
    }

    /// How each that ended by itself did.
    pub fn ended(&self) -> BTreeMap<String, String> {
        let table = self.table();
        let unasked = table.iter().filter(|(_, running)| !running.stopping);
        unasked.filter_map(|(name, running)| running.ended.borrow().clone().map(|how| (name.clone(), how))).collect()
    }

    /// Raised at each start and end.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn end_of(&self, name: &str) -> Option<String> {
        self.table().get(name).and_then(|running| running.ended.borrow().clone())
    }

    fn tail(&self, name: &str) -> String {
        let log = self.table().get(name).map(|running| running.spec.log.clone());
        log.map(|log| tail(&log)).unwrap_or_default()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn command(spec: &Spec) -> Result<tokio::process::Command> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log);
    let log = log.with_context(|| format!("cannot write {}", spec.log.display()))?;
    let mut command = tokio::process::Command::new(&spec.program);
    command.args(&spec.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends the others in order.
    command.process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    if let Some((uid, gid)) = spec.user {
        command.uid(uid).gid(gid).current_dir("/");
    }
    Ok(command)
}

/// The programs read their flags also from `ATOLL_…` and `KUMA_…`; what is set for the command line must not change the lab.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    (name.starts_with("ATOLL_") && name != "ATOLL_LOG") || name.starts_with("KUMA_")
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
    shown.iter().map(|line| format!("    {line}\n")).collect::<String>() + &format!("    (all of it: {})", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(name: &str, script: &str, log: &Path) -> Spec {
        Spec::new(name, "/bin/sh".into(), log.to_owned()).arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::default();
        // It may end before it was looked at even once.
        let error = match processes.start(sh("one", "echo the disk is full; exit 3", &folder.path().join("log"))) {
            Ok(_) => processes.wait("one", Duration::from_secs(10), async || false).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("one ended") && error.contains("the disk is full"), "{error}");
    }

    #[tokio::test]
    async fn stopping_is_polite_first_then_firm_and_ends_only_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::default();
        let mut deaf = sh("deaf", "trap '' TERM; while :; do sleep 0.05; done", &folder.path().join("deaf"));
        deaf.grace = Duration::from_millis(200);
        let deaf = processes.start(deaf).unwrap();
        let other = processes.start(sh("other", "exec sleep 60", &folder.path().join("other"))).unwrap();
        processes.stop("deaf").await;
        assert!(!deaf.is_alive());
        assert!(other.is_alive());
        assert_eq!(processes.running().keys().collect::<Vec<_>>(), ["other"]);
        processes.stop("other").await;
        assert!(processes.start_again("other").unwrap().is_alive());
        processes.stop("other").await;
    }

    #[test]
    fn a_reused_number_is_not_the_same_process() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own }.is_alive());
    }
}
