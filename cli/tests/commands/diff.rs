//! Diff: what an apply would change, with exit codes for pipelines.

use crate::{TIMEOUT, scene::Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_shows_what_an_apply_would_change() {
    let scene = Scene::global().await;
    let file = scene.write("t.yaml", TIMEOUT);
    let said = scene.say(&["diff", "-f", &file, "--exit-code"]).await;
    assert!(said.is(1), "{}", said.err);
    assert!(
        said.out.starts_with("--- /dev/null\n+++ t.yaml:1\n@@ ") && said.out.contains("\n+type: MeshTimeout\n"),
        "{}",
        said.out
    );
    scene.ok(&["apply", "-f", &file]).await;
    let said = scene.say(&["diff", "-f", &file, "--exit-code"]).await;
    assert!(said.is(0) && said.out.is_empty(), "{}{}", said.out, said.err);

    scene.write("t.yaml", &TIMEOUT.replace("1h", "2h").replace("spec:", "labels: {team: a}\nspec:"));
    let said = scene.say(&["diff", "-f", &file]).await;
    assert!(said.is(0), "{}", said.err);
    let changed: Vec<&str> = said.out.lines().filter(|line| line.starts_with(['-', '+'])).map(str::trim_end).collect();
    assert_eq!(
        changed,
        [
            "--- live MeshTimeout default/all",
            "+++ t.yaml:1",
            "+labels:",
            "+  team: a",
            "-      idleTimeout: 1h",
            "+      idleTimeout: 2h"
        ]
    );
    assert!(scene.say(&["diff", "-f", &file, "--exit-code"]).await.is(1));
    assert_eq!(scene.ok(&["apply", "-f", &file, "--dry-run"]).await, "MeshTimeout default/all updated (dry run) (t.yaml:1)\n");
    let live = scene.ok(&["get", "mt", "all", "-o", "yaml"]).await;
    assert!(live.contains("1h"), "nothing was changed: {live}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_has_its_own_exit_code() {
    let scene = Scene::global().await;
    let bad = scene.write("bad.yaml", &TIMEOUT.replace("1h", "-1h"));
    let said = scene.say(&["diff", "-f", &bad, "--exit-code"]).await;
    assert!(said.is(2) && said.err.contains("bad.yaml:7:") && said.err.contains("1 documents would be refused"), "{}", said.err);
    assert!(scene.say(&["diff", "-f", &bad]).await.is(1));
    assert!(scene.say(&["diff", "-f", "/nope", "--exit-code"]).await.is(2));
}

/// What planes compute is no difference, even in a document that was read from them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_does_not_differ() {
    let scene = Scene::zone().await;
    let dataplane = "type: Dataplane\nmesh: default\nname: web-1\nlabels: {kuma.io/workload: web}\nnetworking:\n  address: 10.0.0.1\n  \
                     inbound:\n  - port: 8080\n    tags: {kuma.io/service: web}\n";
    let file = scene.write("dp.yaml", dataplane);
    scene.ok(&["apply", "-f", &file]).await;
    let read = scene.ok(&["get", "dataplane", "web-1", "-o", "yaml"]).await;
    let file = scene.write("read.yaml", &read);
    let said = scene.say(&["diff", "-f", &file, "--exit-code"]).await;
    assert!(said.is(0) && said.out.is_empty(), "{}{}", said.out, said.err);
    scene.write("read.yaml", &read.replace("10.0.0.1", "10.0.0.2"));
    let said = scene.say(&["diff", "-f", &file]).await;
    let changed: Vec<&str> = said.out.lines().skip(2).filter(|line| line.starts_with(['-', '+'])).collect();
    assert_eq!(changed, ["-  address: \"10.0.0.1\"", "+  address: \"10.0.0.2\""], "{}", said.out);
}
