//! Prune: deletes only what carries the label, belongs to this plane, and lies in the kinds and meshes of the input.

use crate::{TIMEOUT, scene::Scene};

fn labelled(name: &str, mesh: &str) -> String {
    TIMEOUT.replace("name: all", &format!("name: {name}\nlabels: {{team: a}}")).replace("mesh: default", &format!("mesh: {mesh}"))
}

/// What lies beside the input, each for its own reason not to be pruned; and one that is.
async fn filled() -> (Scene, String) {
    let scene = Scene::global().await;
    let beside = [
        "type: Mesh\nname: shop\nlabels: {team: a}\n".to_owned(),
        "type: Mesh\nname: other\nlabels: {team: a}\n".to_owned(),
        labelled("surplus", "shop"),
        labelled("elsewhere", "other"),
        labelled("unlabelled", "shop").replace("team: a", "team: b"),
        "type: MeshTLS\nmesh: shop\nname: otherkind\nlabels: {team: a}\nspec:\n  rules:\n  - default: {mode: Strict}\n"
            .to_owned(),
    ];
    let beside = scene.write("beside.yaml", &beside.join("---\n"));
    scene.ok(&["apply", "-f", &beside]).await;
    let input = ["type: Mesh\nname: shop\nlabels: {team: a}\n".to_owned(), labelled("kept", "shop")];
    let input = scene.write("input.yaml", &input.join("---\n"));
    (scene, input)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_input_stands_for_is_pruned() {
    let (scene, input) = filled().await;
    let dry = scene.ok(&["apply", "-f", &input, "--prune", "-l", "team=a", "--dry-run"]).await;
    assert!(dry.ends_with("MeshTimeout shop/surplus deleted (dry run)\n"), "{dry}");
    let said = scene.say(&["apply", "-f", &input, "--prune", "-l", "team=a", "--yes"]).await;
    assert!(said.is(0), "{}", said.err);
    assert_eq!(
        said.out,
        "Mesh shop unchanged (input.yaml:1)\nMeshTimeout shop/kept created (input.yaml:5)\nMeshTimeout shop/surplus deleted\n"
    );
    assert!(said.err.contains("to be deleted") && said.err.contains("  MeshTimeout shop/surplus\n"), "{}", said.err);
    assert_eq!(scene.ok(&["get", "meshes", "-o", "name"]).await, "mesh/default\nmesh/other\nmesh/shop\n");
    assert_eq!(
        scene.ok(&["get", "mt", "-A", "-o", "name"]).await,
        "meshtimeout/elsewhere\nmeshtimeout/kept\nmeshtimeout/unlabelled\n"
    );
    assert_eq!(scene.ok(&["get", "mtls", "-A", "-o", "name"]).await, "meshtls/otherkind\n");
    let again = scene.say(&["apply", "-f", &input, "--prune", "-l", "team=a", "--yes"]).await;
    assert!(again.is(0) && again.err.contains("nothing to prune"), "{}", again.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pruned_beside_a_failure_or_without_a_word() {
    let (scene, input) = filled().await;
    let bad = scene.write("bad.yaml", &labelled("bad", "shop").replace("1h", "-1h"));
    let said = scene.say(&["apply", "-f", &input, "-f", &bad, "--prune", "-l", "team=a", "--yes"]).await;
    assert!(said.is(1) && said.err.contains("nothing is pruned"), "{}", said.err);
    let unlabelled = scene.write("plain.yaml", TIMEOUT);
    let said = scene.say(&["apply", "-f", &unlabelled, "--prune", "-l", "team=a", "--yes"]).await;
    assert!(said.err.contains("plain.yaml:1: warning: MeshTimeout default/all lacks the labels team=a"), "{}", said.err);
    assert!(scene.ok(&["get", "mt", "-m", "shop", "-o", "name"]).await.contains("surplus"));
    // A program has no terminal to confirm on.
    let contexts = scene.path("contexts");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_atoll"))
        .args(["--config-dir", &contexts, "apply", "-f", &input, "--prune", "-l", "team=a"])
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty() && err.contains("--yes"), "{err}");
    assert!(!scene.ok(&["get", "mt", "-m", "shop", "-o", "name"]).await.contains("kept"), "nothing was applied");
}

#[test]
fn a_prune_needs_a_selector() {
    use clap::Parser;
    let parse = |args: &[&str]| atoll_cli::Cli::try_parse_from(["atoll", "apply", "-f", "x"].iter().chain(args)).is_ok();
    assert!(!parse(&["--prune"]) && !parse(&["-l", "a=b"]) && !parse(&["--yes"]) && !parse(&["--prune", "-l", "a"]));
    assert!(parse(&["--prune", "-l", "a=b"]));
}
