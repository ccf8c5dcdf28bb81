//! Contexts: where they lead, as whom, and who may read their files.

use crate::scene::{Scene, mode, set_mode};

#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_added_used_and_removed() {
    let scene = Scene::global().await;
    let eve = scene.ok(&["token", "user", "eve", "--group", "team-a"]).await;
    let token = scene.write_secret("eve.token", &eve);
    let (url, ca) = (scene.operator("url"), scene.write("ca.pem", &scene.operator("ca")));
    let add = ["context", "add", "--name", "eve", "--url", &url, "--ca-file", &ca, "--token-file", &token];
    assert!(scene.ok(&add).await.contains("is in use"));
    assert!(!scene.say(&["get", "meshtimeouts"]).await.is(0), "eve may do nothing");
    assert!(scene.ok(&["--context", "default", "get", "meshes"]).await.contains("default"));
    let list = scene.ok(&["context", "list"]).await;
    assert!(list.lines().any(|line| line.starts_with('*') && line.contains("eve")), "{list}");
    let shown = scene.ok(&["context", "show"]).await;
    let parts = ["name:  eve", &url, "sha256:", "of eve (team-a), holds until"];
    assert!(parts.iter().all(|part| shown.contains(part)) && !shown.contains(eve.trim()), "{shown}");
    scene.ok(&["context", "use", "default"]).await;
    scene.ok(&["get", "meshes"]).await;
    assert!(scene.fails(&["context", "use", "nope"]).await.contains("atoll context list"));
    scene.ok(&["context", "remove", "eve"]).await;
    assert!(!std::path::Path::new(&scene.path("contexts/eve.context.yaml")).exists());
    assert!(scene.ok(&["context", "remove", "default"]).await.contains("none is in use"));
    assert!(scene.fails(&["get", "meshes"]).await.contains("atoll context add"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_lie_in_files_that_only_their_owner_reads() {
    let scene = Scene::global().await;
    let file = scene.path("contexts/default.context.yaml");
    assert_eq!((mode(&file), mode(&scene.path("contexts"))), (0o600, 0o700));
    for open in [0o640, 0o604] {
        set_mode(&file, open);
        assert!(scene.fails(&["get", "meshes"]).await.contains("chmod 600"));
    }
    let token = scene.write("open.token", &scene.operator("token"));
    let refusal = scene.fails(&["context", "add", "--name", "x", "--url", "https://a:1", "--token-file", &token]).await;
    assert!(refusal.contains("run `chmod 600 open.token`"), "{refusal}");
    let open = scene.write("operator.yaml", &std::fs::read_to_string(scene.path("data/operator.yaml")).unwrap());
    assert!(scene.fails(&["context", "add", "--name", "x", "--from", &open]).await.contains("chmod 600"));
    assert!(!std::path::Path::new(&scene.path("contexts/x.context.yaml")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_context_is_said_with_what_to_do() {
    let scene = Scene::global().await;
    let token = scene.write_secret("bad.token", "x");
    scene.ok(&["context", "add", "--token-file", &token]).await;
    let refused = scene.fails(&["get", "meshes"]).await;
    assert!(refused.contains("reset-operator") && refused.contains("--token-file"), "{refused}");
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap().cert.pem();
    let ca = scene.write("other.pem", &other);
    scene.ok(&["context", "add", "--ca-file", &ca]).await;
    let refused = scene.fails(&["get", "meshes"]).await;
    assert!(refused.contains("did not sign") && refused.contains("--ca-file"), "{refused}");
    let no_ca = scene.write("no.pem", "nothing");
    assert!(scene.fails(&["context", "add", "--ca-file", &no_ca]).await.contains("no CA certificate"));
    assert!(scene.fails(&["context", "add", "--name", "new"]).await.contains("--from"));
}
