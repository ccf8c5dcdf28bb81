//! Apply: one line for each document, in as few transactions as there can be.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{TIMEOUT, cells, scene::Scene};

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_applied_shown_kept_and_removed() {
    let mut scene = Scene::global().await;
    scene.write("documents/1-mesh.yaml", "type: Mesh\nname: shop\n");
    scene.write("documents/below/2-timeout.yaml", TIMEOUT);
    scene.write("documents/b.json", r#"[{"type": "Mesh", "name": "old"}]"#);
    let folder = scene.path("documents");
    let told = |what: &str| {
        format!(
            "Mesh shop {what} (documents/1-mesh.yaml:1)\nMesh old {what} (documents/b.json:1)\n\
             MeshTimeout default/all {what} (documents/below/2-timeout.yaml:1)\n"
        )
    };
    assert_eq!(scene.ok(&["apply", "-f", &folder, "--dry-run"]).await, told("created (dry run)"));
    assert_eq!(scene.ok(&["apply", "-f", &folder]).await, told("created"));
    assert_eq!(scene.ok(&["apply", "-f", &folder]).await, told("unchanged"));

    let address = scene.stop().await;
    scene.start(&address).await;
    let table = scene.ok(&["get", "meshtimeouts"]).await;
    let lines = cells(&table);
    assert_eq!((&lines[0][..3], &lines[1][..3]), (&["MESH", "NAME", "TARGET"][..], &["default", "all", "Mesh"][..]));
    assert_eq!(scene.ok(&["get", "meshtimeouts", "-m", "shop"]).await, "");
    assert_eq!(scene.ok(&["delete", "meshtimeout", "all"]).await, "MeshTimeout default/all deleted\n");
    assert!(scene.fails(&["delete", "meshtimeout", "all"]).await.contains("there is no MeshTimeout with name \"all\""));
    assert_eq!(scene.ok(&["delete", "mt/all", "--ignore-not-found"]).await, "MeshTimeout default/all absent\n");
    assert!(scene.fails(&["get", "meshtimeout", "all"]).await.contains("Not found"));
    scene.ok(&["apply", "-f", &folder]).await;
    let gone = scene.ok(&["delete", "-f", &folder]).await;
    assert_eq!(gone, "MeshTimeout default/all deleted\nMesh old deleted\nMesh shop deleted\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_is_named_by_file_line_and_field() {
    let scene = Scene::global().await;
    let good = scene.write("good.yaml", "# the mesh\ntype: Mesh\nname: good\n");
    let bad = scene.write("bad.yaml", &TIMEOUT.replace("idleTimeout: 1h", "idleTimeout: -1h"));
    let said = scene.say(&["apply", "-f", &good, "-f", &bad]).await;
    assert!(said.is(1));
    assert_eq!(said.out, "Mesh good skipped (good.yaml:2)\nMeshTimeout default/all failed (bad.yaml:1)\n");
    assert!(said.err.contains("bad.yaml:7:") && said.err.contains("spec.to[0].default.idleTimeout"), "{}", said.err);
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    let said = scene.say(&["apply", "-f", &good, "-f", &bad, "--atomic=false"]).await;
    assert!(said.is(1));
    assert_eq!(said.out, "Mesh good created (good.yaml:2)\nMeshTimeout default/all failed (bad.yaml:1)\n");
    let unknown = scene.write("unknown.yaml", &TIMEOUT.replace("default: {", "default: {surprise: 1, "));
    let said = scene.say(&["apply", "-f", &unknown]).await;
    assert!(said.is(0) && said.err.contains("unknown.yaml:1: warning:") && said.err.contains("surprise"), "{}", said.err);
    assert!(!scene.say(&["apply", "--strict", "-f", &unknown]).await.is(0));
    assert!(scene.fails(&["apply", "-f", "/nope.yaml"]).await.contains("/nope.yaml"));
    assert!(scene.fails(&["get", "pods"]).await.contains("meshtimeouts"));
    assert!(scene.fails(&["get", "meshtimeuots"]).await.contains("did you mean meshtimeouts"));
}

/// More than one request takes is said to be more than one transaction, and what comes after a refusal is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_several_transactions_says_so() {
    let scene = Scene::global().await;
    let timeout = |i: usize| TIMEOUT.replace("name: all", &format!("name: t{i:04}")).replace("mesh: default", "mesh: shop");
    let mut documents: Vec<String> = (0..1100).map(timeout).collect();
    documents.push("type: Mesh\nname: shop\n".to_owned());
    let file = scene.write("many.yaml", &documents.join("---\n"));
    let refusal = scene.fails(&["apply", "-f", &file, "--atomic"]).await;
    assert!(refusal.contains("1101 documents need 3 transactions"), "{refusal}");
    let said = scene.say(&["apply", "-f", &file]).await;
    assert!(said.is(0) && said.err.contains("1101 documents take 3 transactions"), "{}", said.err);
    assert_eq!(said.out.lines().filter(|line| line.contains(" created ")).count(), 1101);
    assert_eq!(scene.ok(&["get", "mt", "-m", "shop", "-o", "name"]).await.lines().count(), 1100, "every page is read");

    documents[700] = documents[700].replace("1h", "-1h");
    let file = scene.write("many.yaml", &documents.join("---\n").replace("idleTimeout: 1h", "idleTimeout: 2h"));
    let said = scene.say(&["apply", "-f", &file]).await;
    assert!(said.is(1));
    let count = |word: &str| said.out.lines().filter(|line| line.contains(&format!(" {word} ("))).count();
    assert_eq!((count("updated"), count("unchanged"), count("failed"), count("skipped")), (499, 1, 1, 600), "{}", said.err);
    assert!(said.err.contains("1 transactions before this one are applied and stay; 1 after it were not sent"), "{}", said.err);
}

/// Stands before a plane and swallows its first answer: the request has been done, and the client cannot know.
async fn swallow_first_answer(plane: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(plane).await.unwrap();
            if turn > 0 {
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut upstream).await });
                continue;
            }
            let (mut to_plane, mut from_plane) = (vec![0; 64 << 10], vec![0; 1]);
            loop {
                tokio::select! {
                    n = client.read(&mut to_plane) => upstream.write_all(&to_plane[..n.unwrap()]).await.unwrap(),
                    answered = upstream.read(&mut from_plane) => { answered.unwrap(); break }
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_repeated_and_done_once() {
    let scene = Scene::global().await;
    let between = swallow_first_answer(scene.plain_address()).await;
    let token = scene.write_secret("token", &scene.operator("token"));
    let url = format!("http://{between}");
    scene.ok(&["context", "add", "--name", "lossy", "--url", &url, "--token-file", &token]).await;
    let file = scene.write("t.yaml", TIMEOUT);
    assert_eq!(scene.ok(&["apply", "-f", &file]).await, "MeshTimeout default/all created (t.yaml:1)\n");
    let history = scene.ok(&["history", "mt", "all"]).await;
    assert_eq!(history.lines().count(), 2, "one change: {history}");
}
