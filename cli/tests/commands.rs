//! The commands as people type them, against a global in this process.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::ExitCode};

use atoll_cli::Cli;
use atoll_global_cp::{Config, Running, run};
use atoll_runtime::shutdown::Shutdown;
use clap::Parser;

struct Scene {
    folder: tempfile::TempDir,
    shutdown: Shutdown,
    running: Option<Running>,
}

/// What a command said.
struct Said {
    code: bool,
    out: String,
    err: String,
}

impl Scene {
    async fn new() -> Self {
        let mut scene = Self { folder: tempfile::tempdir().unwrap(), shutdown: Shutdown::new(), running: None };
        scene.start("127.0.0.1:0").await;
        let operator = scene.path("data/operator.yaml");
        scene.ok(&["context", "add", "--from", &operator]).await;
        scene
    }

    async fn start(&mut self, tls: &str) {
        let data = self.path("data");
        let mut args = vec!["global-cp", "--data-dir", &data, "--rest-tls-listen", tls];
        for flag in ["--rest-listen", "--diagnostics-listen", "--link-listen", "--join-listen"] {
            args.extend([flag, "127.0.0.1:0"]);
        }
        let config = Config::read(args.into_iter().map(Into::into)).unwrap();
        self.shutdown = Shutdown::new();
        self.running = Some(run(config, self.shutdown.clone()).await.unwrap());
    }

    /// Ends global; gives the address at which it listened.
    async fn stop(&mut self) -> String {
        let running = self.running.take().unwrap();
        let address = running.addresses.rest_tls.to_string();
        self.shutdown.soft().cancel();
        running.ended().await;
        address
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn say(&self, args: &[&str]) -> Said {
        let contexts = self.path("contexts");
        let all = ["atoll", "--config-dir", &contexts].into_iter().chain(args.iter().copied());
        let cli = Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{error}"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match atoll_cli::run(cli, &mut out, &mut err).await {
            Ok(code) => format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS),
            Err(error) => {
                err.extend(format!("error: {error:#}").into_bytes());
                false
            }
        };
        Said { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }

    async fn ok(&self, args: &[&str]) -> String {
        let said = self.say(args).await;
        assert!(said.code, "{args:?}: {}{}", said.out, said.err);
        said.out
    }

    async fn fails(&self, args: &[&str]) -> String {
        let said = self.say(args).await;
        assert!(!said.code, "{args:?}: {}", said.out);
        said.err
    }
}

const TIMEOUT: &str =
    "type: MeshTimeout\nmesh: default\nname: all\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n    default: {idleTimeout: 1h}\n";

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_applied_shown_kept_and_removed() {
    let mut scene = Scene::new().await;
    scene.write("documents/1-mesh.yaml", "type: Mesh\nname: shop\n");
    scene.write("documents/2-timeout.yaml", TIMEOUT);
    scene.write("documents/3.json", r#"[{"type": "Mesh", "name": "old"}]"#);
    let folder = scene.path("documents");
    let dry = scene.ok(&["apply", "-f", &folder, "--dry-run"]).await;
    assert_eq!(dry, "Mesh shop created (dry run)\nMeshTimeout default/all created (dry run)\nMesh old created (dry run)\n");
    scene.ok(&["apply", "-f", &folder]).await;
    let again = scene.ok(&["apply", "-f", &folder]).await;
    assert_eq!(again, "Mesh shop unchanged\nMeshTimeout default/all unchanged\nMesh old unchanged\n");

    let address = scene.stop().await;
    scene.start(&address).await;
    let table = scene.ok(&["get", "meshtimeouts"]).await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((&lines[0][..3], &lines[1][..3]), (&["MESH", "NAME", "TARGET"][..], &["default", "all", "Mesh"][..]));
    let yaml = scene.ok(&["get", "mt", "all", "-o", "yaml"]).await;
    assert!(yaml.starts_with("type: MeshTimeout\nmesh: default\nname: all\n"), "{yaml}");
    let again = scene.write("shown.yaml", &yaml);
    assert_eq!(scene.ok(&["apply", "-f", &again]).await, "MeshTimeout default/all unchanged\n");
    let json: serde_json::Value = serde_json::from_str(&scene.ok(&["get", "meshes", "-o", "json"]).await).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(scene.ok(&["get", "meshtimeouts", "-m", "shop"]).await, "");
    assert!(scene.ok(&["get", "meshtimeouts", "-A", "-l", "kuma.io/mesh=default"]).await.contains("all"));
    assert_eq!(scene.ok(&["delete", "meshtimeout", "all"]).await, "MeshTimeout all deleted\n");
    assert!(scene.fails(&["delete", "meshtimeout", "all"]).await.contains("there is no MeshTimeout with name \"all\""));
    assert!(scene.fails(&["get", "meshtimeout", "all"]).await.contains("Not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_is_named_by_file_line_and_field() {
    let scene = Scene::new().await;
    let good = scene.write("good.yaml", "type: Mesh\nname: good\n");
    let bad = scene.write("bad.yaml", &TIMEOUT.replace("idleTimeout: 1h", "idleTimeout: -1h"));
    let said = scene.say(&["apply", "-f", &good, "-f", &bad]).await;
    assert!(!said.code);
    assert_eq!(said.out, "Mesh good skipped\nMeshTimeout default/all refused\n");
    assert!(said.err.contains("bad.yaml:7:") && said.err.contains("spec.to[0].default.idleTimeout"), "{}", said.err);
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    let unknown = scene.write("unknown.yaml", &format!("{TIMEOUT}  surprise: 1\n"));
    let said = scene.say(&["apply", "-f", &unknown]).await;
    assert!(said.code && said.err.contains("spec.surprise"), "{}", said.err);
    assert!(!scene.say(&["apply", "--strict", "-f", &unknown]).await.code);
    assert!(scene.fails(&["apply", "-f", "/nope.yaml"]).await.contains("/nope.yaml"));
    assert!(scene.fails(&["get", "pods"]).await.contains("meshtimeouts"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_contexts() {
    let scene = Scene::new().await;
    assert!(scene.ok(&["token", "zone", "gcp"]).await.starts_with("zj1."));
    assert_eq!(scene.ok(&["token", "dataplane", "--workload", "api", "--valid-for", "1h"]).await.split('.').count(), 3);
    assert!(scene.fails(&["token", "zone", "Not-A-Zone"]).await.contains("zone:"));
    assert!(scene.fails(&["token", "dataplane", "--valid-for", "99999h"]).await.contains("validFor"));
    let user = scene.ok(&["token", "user", "eve", "--group", "team-a"]).await;
    let operator = std::fs::read_to_string(scene.path("data/operator.yaml")).unwrap();
    let line = operator.lines().find(|line| line.starts_with("token:")).unwrap();
    let eve = scene.write("eve.yaml", &operator.replace(line, &format!("token: {}", user.trim())));
    scene.ok(&["context", "add", "--name", "eve", "--from", &eve]).await;
    assert!(scene.fails(&["get", "meshes"]).await.contains("Access Denied"));
    assert!(scene.ok(&["--context", "default", "get", "meshes"]).await.contains("default"));
    let list = scene.ok(&["context", "list"]).await;
    assert!(list.contains("*") && list.contains("eve") && list.contains("default"), "{list}");
    scene.ok(&["context", "use", "default"]).await;
    scene.ok(&["get", "meshes"]).await;
    let file = scene.path("contexts/default.context.yaml");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(scene.fails(&["get", "meshes"]).await.contains("chmod 600"));
    assert!(scene.fails(&["context", "use", "nope"]).await.contains("atoll context list"));
    let other =
        scene.write("other.yaml", &operator.replace(operator.lines().find(|l| l.starts_with("token:")).unwrap(), "token: x"));
    scene.ok(&["context", "add", "--name", "other", "--from", &other]).await;
    assert!(scene.fails(&["get", "meshes"]).await.contains("reset-operator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_what_to_do() {
    let mut scene = Scene::new().await;
    let check = scene.ok(&["check"]).await;
    assert!(check.contains("control plane") && check.contains("atoll token zone"), "{check}");
    scene.stop().await;
    let gone = scene.fails(&["get", "meshes"]).await;
    assert!(gone.contains("cannot reach the control plane") && gone.contains("is it running"), "{gone}");
    std::fs::remove_dir_all(scene.path("contexts")).unwrap();
    assert!(scene.fails(&["get", "meshes"]).await.contains("atoll context add --from"));
    let completion = scene.ok(&["completion", "bash"]).await;
    assert!(completion.contains("_atoll"));
}
