//! Planes in this process, each with its operator, and the command line of one person.

use std::{os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

use atoll_cli::Cli;
use atoll_runtime::shutdown::Shutdown;
use clap::Parser;

/// A plane that runs.
enum Plane {
    Global(atoll_global_cp::Running),
    Zone(atoll_zone_cp::Running),
}

pub(crate) struct Scene {
    folder: tempfile::TempDir,
    shutdown: Shutdown,
    running: Option<Plane>,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: ExitCode,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Whether the exit code is `code`, which cannot be read.
    pub(crate) fn is(&self, code: u8) -> bool {
        format!("{:?}", self.code) == format!("{:?}", ExitCode::from(code))
    }
}

impl Scene {
    /// A global, and its operator's context in use.
    pub(crate) async fn global() -> Self {
        Self::global_of(Self { folder: tempfile::tempdir().unwrap(), shutdown: Shutdown::new(), running: None }).await
    }

    /// The same, which takes client certificates of a CA.
    pub(crate) async fn global_with(ca: &str) -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap(), shutdown: Shutdown::new(), running: None };
        scene.write("people.pem", ca);
        Self::global_of(scene).await
    }

    async fn global_of(mut scene: Self) -> Self {
        scene.start("127.0.0.1:0").await;
        scene.ok(&["context", "add", "--from", &scene.path("data/operator.yaml")]).await;
        scene
    }

    /// A zone without a global, and its operator's context in use.
    pub(crate) async fn zone() -> Self {
        let mut scene = Self { folder: tempfile::tempdir().unwrap(), shutdown: Shutdown::new(), running: None };
        let data = scene.path("data");
        let mut args = vec!["zone-cp", "--zone", "azure", "--data-dir", &data];
        for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--dp-listen"] {
            args.extend([flag, "127.0.0.1:0"]);
        }
        let config = atoll_zone_cp::Config::read(args.into_iter().map(Into::into)).unwrap();
        let running = atoll_zone_cp::run(config, scene.shutdown.clone()).await.unwrap_or_else(|error| panic!("{error:?}"));
        scene.running = Some(Plane::Zone(running));
        scene.ok(&["context", "add", "--from", &scene.path("data/operator.yaml")]).await;
        scene
    }

    /// Starts global again where it listened.
    pub(crate) async fn start(&mut self, tls: &str) {
        let data = self.path("data");
        let mut args = vec!["global-cp", "--data-dir", &data, "--rest-tls-listen", tls];
        for flag in ["--rest-listen", "--diagnostics-listen", "--link-listen", "--join-listen"] {
            args.extend([flag, "127.0.0.1:0"]);
        }
        let people = self.path("people.pem");
        if Path::new(&people).exists() {
            args.extend(["--rest-client-ca-file", &people]);
        }
        let config = atoll_global_cp::Config::read(args.into_iter().map(Into::into)).unwrap();
        self.shutdown = Shutdown::new();
        self.running = Some(Plane::Global(atoll_global_cp::run(config, self.shutdown.clone()).await.unwrap()));
    }

    /// Ends the plane; gives the address at which it listened.
    pub(crate) async fn stop(&mut self) -> String {
        self.shutdown.soft().cancel();
        match self.running.take().unwrap() {
            Plane::Global(running) => {
                let address = running.addresses.rest_tls.to_string();
                running.ended().await;
                address
            }
            Plane::Zone(running) => {
                let address = running.addresses.rest_tls.to_string();
                running.wait().await;
                address
            }
        }
    }

    /// Where global listens.
    pub(crate) fn global_addresses(&self) -> atoll_global_cp::Addresses {
        match self.running.as_ref().unwrap() {
            Plane::Global(running) => running.addresses,
            Plane::Zone(_) => panic!("a zone"),
        }
    }

    /// Where global answers without TLS.
    pub(crate) fn plain_address(&self) -> std::net::SocketAddr {
        match self.running.as_ref().unwrap() {
            Plane::Global(running) => running.addresses.rest,
            Plane::Zone(running) => running.addresses.rest,
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn write_secret(&self, name: &str, text: &str) -> String {
        let path = self.write(name, text);
        set_mode(&path, 0o600);
        path
    }

    /// What operator.yaml says under `field`.
    pub(crate) fn operator(&self, field: &str) -> String {
        let text = std::fs::read_to_string(self.path("data/operator.yaml")).unwrap();
        let operator: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        operator[field].as_str().unwrap().to_owned()
    }

    /// The command line with this scene's contexts.
    pub(crate) fn cli(&self, args: &[&str]) -> Cli {
        let contexts = self.path("contexts");
        let all = ["atoll", "--config-dir", &contexts].into_iter().chain(args.iter().copied());
        Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn say(&self, args: &[&str]) -> Said {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match atoll_cli::run(self.cli(args), &mut out, &mut err).await {
            Ok(code) => code,
            Err(error) => {
                err.extend(format!("error: {error:#}").into_bytes());
                ExitCode::FAILURE
            }
        };
        // Where the files of a test lie changes from run to run.
        let folder = format!("{}/", self.folder.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "");
        Said { code, out: text(out), err: text(err) }
    }

    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args).await;
        assert!(said.is(0), "{args:?}: {}{}", said.out, said.err);
        said.out
    }

    pub(crate) async fn fails(&self, args: &[&str]) -> String {
        let said = self.say(args).await;
        assert!(!said.is(0), "{args:?}: {}", said.out);
        said.err
    }
}

pub(crate) fn set_mode(path: &str, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn mode(path: &str) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
