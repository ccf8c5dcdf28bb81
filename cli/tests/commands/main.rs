//! The commands as people type them, against planes in this process.
#![allow(clippy::unwrap_used)]

mod apply;
mod contexts;
mod diff;
mod kumactl;
mod prune;
mod reads;
mod revocations;
mod round_trip;
mod scene;

use scene::Scene;

/// A document of a kind that everybody knows.
const TIMEOUT: &str =
    "type: MeshTimeout\nmesh: default\nname: all\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n    default: {idleTimeout: 1h}\n";

/// The words of each line.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// Tokens are printed alone, so that they can go into files.
#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let scene = Scene::global().await;
    assert!(scene.ok(&["token", "zone", "gcp"]).await.starts_with("zj1."));
    assert_eq!(scene.ok(&["token", "dataplane", "--workload", "api", "--valid-for", "1h"]).await.split('.').count(), 3);
    assert!(scene.fails(&["token", "zone", "Not-A-Zone"]).await.contains("zone:"));
    assert!(scene.fails(&["token", "dataplane", "--valid-for", "99999h"]).await.contains("validFor"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ann.token");
    std::fs::write(&file, scene.ok(&["token", "user", "ann"]).await).unwrap();
    let done = scene.ok(&["token", "revoke", "--file", file.to_str().unwrap(), "--reason", "lost"]).await;
    let id = done.split_whitespace().nth(1).unwrap();
    assert!(scene.ok(&["token", "revoked"]).await.starts_with(id), "{done}");
    std::fs::write(&file, "no token").unwrap();
    assert!(scene.fails(&["token", "revoke", "--file", file.to_str().unwrap()]).await.contains("jti"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_what_to_do() {
    let mut scene = Scene::global().await;
    let check = scene.ok(&["check"]).await;
    assert!(check.contains("control plane") && check.contains("atoll token zone"), "{check}");
    let address = scene.stop().await;
    for args in [&["get", "meshes"][..], &["delete", "mesh", "a"]] {
        let gone = scene.fails(args).await;
        let parts = ["cannot reach the control plane", "is it running", "context \"default\"", &address];
        assert!(parts.iter().all(|part| gone.contains(part)), "{gone}");
    }
    std::fs::remove_dir_all(scene.path("contexts")).unwrap();
    assert!(scene.fails(&["get", "meshes"]).await.contains("atoll context add --from"));
    for (shell, part) in [("bash", "_atoll"), ("zsh", "#compdef atoll"), ("fish", "complete -c atoll")] {
        assert!(scene.ok(&["completion", shell]).await.contains(part), "{shell}");
    }
}

/// Help that shows no example leaves people guessing.
#[test]
fn every_command_on_resources_has_examples() {
    use clap::CommandFactory;
    let cli = atoll_cli::Cli::command();
    let names =
        ["apply", "diff", "get", "describe", "delete", "history", "completion", "context add", "token user", "token zone"];
    for name in names {
        let command = name.split(' ').fold(&cli, |command, name| command.find_subcommand(name).unwrap());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:") && help.contains(&format!("atoll {name}")), "{name}: {help}");
    }
}
