//! A token that global revokes ends in the zones, too: a global and a zone in this process, and the link between them.

use std::time::Duration;

use atoll_runtime::shutdown::Shutdown;

use crate::scene::Scene;

/// Waits until `atoll get meshes` in the context of ann says what is wanted.
async fn until(scene: &Scene, within: Duration, is_so: impl Fn(&crate::scene::Said) -> bool) {
    let wait = async {
        loop {
            let said = scene.say(&["--context", "ann", "get", "meshes"]).await;
            if is_so(&said) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(within, wait).await.expect("not so in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_global_revokes_holds_in_no_zone() {
    let scene = Scene::global().await;
    let addresses = scene.global_addresses();
    let join = scene.write_secret("azure.token", &scene.ok(&["token", "zone", "azure"]).await);
    let (data, link, joining) = (scene.path("azure"), addresses.link.to_string(), addresses.join.to_string());
    let mut args = vec!["zone-cp", "--zone", "azure", "--data-dir", &data, "--global", &link, "--join", &joining];
    args.extend(["--join-token-file", &join]);
    for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--dp-listen"] {
        args.extend([flag, "127.0.0.1:0"]);
    }
    let config = atoll_zone_cp::Config::read(args.into_iter().map(Into::into)).unwrap();
    let shutdown = Shutdown::new();
    let zone = atoll_zone_cp::run(config, shutdown.clone()).await.unwrap_or_else(|error| panic!("{error:?}"));

    let token = scene.ok(&["token", "user", "ann", "--group", "mesh-system:admin"]).await;
    let token = scene.write_secret("ann.token", &token);
    let operator = std::fs::read_to_string(scene.path("azure/operator.yaml")).unwrap();
    let operator: serde_json::Value = serde_saphyr::from_str(&operator).unwrap();
    let ca = scene.write("azure-ca.pem", operator["ca"].as_str().unwrap());
    let url = format!("https://{}", zone.addresses.rest_tls);
    scene.ok(&["context", "add", "--name", "ann", "--url", &url, "--ca-file", &ca, "--token-file", &token]).await;
    until(&scene, Duration::from_secs(20), |said| said.is(0)).await;

    scene.ok(&["--context", "default", "token", "revoke", "--file", &token]).await;
    until(&scene, Duration::from_secs(15), |said| said.err.contains("revoked")).await;
    shutdown.soft().cancel();
    zone.wait().await;
}
