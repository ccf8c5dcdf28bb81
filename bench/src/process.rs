//! Programs under measurement: started, watched, ended.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A program that ends with this value.
pub(crate) struct Program {
    name: String,
    path: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts a program; what it says is added to `<log>/<name>.log`.
    pub(crate) fn start(name: &str, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        let log = log.join(format!("{name}.log"));
        let child = spawn(program, args, &log)?;
        Ok(Self { name: name.to_owned(), path: program.to_owned(), args: args.to_vec(), log, child })
    }

    /// Ends it with SIGKILL, as a crash would.
    pub(crate) fn crash(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after its end, as it was started first.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.path, &self.args, &self.log)?;
        Ok(())
    }

    /// Waits until the diagnostics port says that the program is ready.
    pub(crate) async fn ready(&mut self, url: &str) -> Result<()> {
        for _ in 0..300 {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; see its log", self.name);
            }
            if reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} is not ready after 15 s; see its log", self.name)
    }

    /// CPU time so far, user and system, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        cpu_us_of(&self.child.id().to_string())
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        if pid.as_raw() > 0 && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = kill(pid, Signal::SIGTERM);
            for _ in 0..100 {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn spawn(program: &Path, args: &[String], log: &Path) -> Result<Child> {
    let out = File::options().create(true).append(true).open(log)?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot start {}; build it with `make bench`", program.display()))
}

/// CPU time of a process so far (`self`: of this one), user and system, in microseconds.
pub(crate) fn cpu_us_of(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 10_000
}
