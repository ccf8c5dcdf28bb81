//! atoll-dp as a user starts it.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use atoll_dataplane::{bootstrap::Admin, folder::Status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{envoy, eventually, zone::Zone};

/// The files of one runner.
pub struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub fn empty() -> Self {
        Self { root: tempfile::Builder::new().prefix("dp").tempdir().unwrap() }
    }

    pub fn new(zone: &Zone) -> Self {
        let place = Self::empty();
        place.write("token", &zone.script.token);
        place.write("ca.pem", zone.script.ca.cert_pem());
        let listener = zone.script.listener;
        let inbound = json!({"port": listener.port()});
        let dataplane = json!({"type": "Dataplane", "mesh": "default", "name": "gw-1",
            "networking": {"address": listener.ip(), "inbound": [inbound]}});
        place.write("dataplane.yaml", &dataplane.to_string());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A shell script that can be run.
    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test's child may still hold the file open for writing, between its fork and its exec.
        let busy = || Command::new(&path).output().is_err_and(|error| error.kind() == std::io::ErrorKind::ExecutableFileBusy);
        while busy() {
            std::thread::yield_now();
        }
        path
    }

    pub fn admin(&self) -> Admin {
        Admin::Unix(self.path("dir/admin.sock"))
    }

    pub fn status(&self) -> Option<Status> {
        serde_json::from_slice(&std::fs::read(self.path("dir/status.json")).ok()?).ok()
    }

    /// The command line for this zone; ports are free ones.
    pub fn command(&self, zone: &Zone) -> Command {
        self.command_at(zone.address)
    }

    pub fn command_at(&self, zone: SocketAddr) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atoll-dp"));
        command.arg("run").args(["--dns-port", "0", "--readiness-port", "0", "--drain-time", "2s", "--dns-upstream", "none"]);
        command.arg("--cp-address").arg(format!("https://{zone}"));
        for (flag, file) in [
            ("--dataplane-file", "dataplane.yaml"),
            ("--dataplane-token-file", "token"),
            ("--ca-cert-file", "ca.pem"),
            ("--config-dir", "dir"),
        ] {
            command.arg(flag).arg(self.path(file));
        }
        command.arg("--binary-path").arg(envoy()).env_remove("ENVOY").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs a command that should fail: its exit and what it says.
    pub fn fails(&self, mut command: Command) -> String {
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let last =
            said.lines().rfind(|line| line.starts_with("atoll-dp: ")).unwrap_or_else(|| panic!("one clear message in: {said}"));
        last.to_owned()
    }

    pub fn start(&self, zone: &Zone) -> Runner {
        self.start_with(self.command(zone))
    }

    pub fn start_with(&self, mut command: Command) -> Runner {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = command.stderr(log).spawn().unwrap();
        Runner { child, dir: self.path("dir") }
    }
}

/// A runner that is ended, with its Envoy, when the test is over.
pub struct Runner {
    child: Child,
    dir: PathBuf,
}

impl Runner {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends the runner and nothing else.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.dir = PathBuf::new();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let mut status = None;
        while status.is_none() {
            status = child.try_wait().unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        status.unwrap()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = envoy_of(&self.dir) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The Envoy that the folder knows.
pub fn envoy_of(dir: &Path) -> Option<i32> {
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("envoy.json")).ok()?).ok()?;
    record["pid"].as_i64()?.try_into().ok()
}

pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What `/ready` says.
pub async fn readiness(place: &Place) -> Option<String> {
    let address = place.status()?.readiness;
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut text = String::new();
    reader.read_to_string(&mut text).await.ok()?;
    Some(format!("{} {}", text.split(' ').nth(1)?, text.split("\r\n\r\n").nth(1)?.trim()))
}

pub async fn until_ready(place: &Place) {
    eventually("the proxy is ready", || async { readiness(place).await.filter(|text| text.starts_with("200")) }).await;
}
