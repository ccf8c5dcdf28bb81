//! Reads: get in all forms, watch, describe, history.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{TIMEOUT, cells, scene::Scene};

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_shown_in_every_form() {
    let scene = Scene::global().await;
    let mesh = "type: Mesh\nname: shop\n---\n";
    let mine = TIMEOUT.replace("spec:", "labels: {team: a}\nspec:");
    let file = scene.write("x.yaml", &format!("{mesh}{mine}---\n{}", TIMEOUT.replace("mesh: default", "mesh: shop")));
    scene.ok(&["apply", "-f", &file]).await;
    let table = scene.ok(&["get", "mt", "-A"]).await;
    let headings = "MESH     NAME  TARGET  ZONE  AGE";
    assert!(table.starts_with(headings) && table.lines().count() == 3, "{table}");
    let wide = scene.ok(&["get", "mt", "-o", "wide"]).await;
    let (heading, row) = (&cells(&wide)[0], &cells(&wide)[1]);
    assert_eq!(heading.join(" "), "MESH NAME TARGET ZONE AGE CHANGED LABELS KRI");
    assert_eq!((row[6], row[7]), ("team=a", "kri_mt_default___all_"));
    assert_eq!(scene.ok(&["get", "mt", "-A", "-l", "team=a", "-o", "name"]).await, "meshtimeout/all\n");
    assert_eq!(scene.ok(&["get", "mt/all", "-o", "name"]).await, "meshtimeout/all\n");
    let said = scene.say(&["get", "mt", "-l", "team=a,x=y"]).await;
    assert!(said.out.is_empty() && said.err.contains("no meshtimeouts in mesh default with team=a,x=y"), "{}", said.err);
    let json: serde_json::Value = serde_json::from_str(&scene.ok(&["get", "meshes", "-o", "json"]).await).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    let yaml = scene.ok(&["get", "mt", "-A", "-o", "yaml"]).await;
    assert_eq!(yaml.matches("type: MeshTimeout").count(), 2);
}

/// Output that a watch writes while it runs.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    async fn shows(&self, part: &str) {
        let shows = async {
            while !String::from_utf8_lossy(&self.0.lock().unwrap()).contains(part) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let text = || String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
        tokio::time::timeout(Duration::from_secs(20), shows).await.unwrap_or_else(|_| panic!("no {part:?} in {}", text()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_changes_and_outlives_the_plane() {
    let mut scene = Scene::global().await;
    let (mut out, mut err) = (Shared::default(), Shared::default());
    let (seen, said) = (out.clone(), err.clone());
    let cli = scene.cli(&["get", "meshes", "--watch", "-o", "name"]);
    let changes = async {
        seen.shows("put mesh/default\n").await;
        let file = scene.write("a.yaml", "type: Mesh\nname: a\n");
        scene.ok(&["apply", "-f", &file]).await;
        seen.shows("put mesh/a\n").await;
        let address = scene.stop().await;
        scene.start(&address).await;
        said.shows("opening it again").await;
        scene.ok(&["delete", "mesh", "a"]).await;
        seen.shows("deleted mesh/a\n").await;
    };
    tokio::select! {
        ended = atoll_cli::run(cli, &mut out, &mut err) => panic!("the watch ended: {ended:?}"),
        () = changes => {}
    }
    let text = String::from_utf8(seen.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("put mesh/default").count(), 1, "what was told is not told again: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_described_with_who_changed_it_and_what_selects_it() {
    let scene = Scene::zone().await;
    let dataplane = "type: Dataplane\nmesh: default\nname: web-1\nlabels: {app: web}\nnetworking:\n  address: 10.0.0.1\n  inbound:\n  - \
                     port: 8080\n";
    let selective =
        TIMEOUT.replace("spec:", "spec:\n  targetRef: {kind: Dataplane, labels: {app: web}}").replace("name: all", "name: web");
    let other = selective.replace("app: web", "app: db").replace("name: web", "name: db");
    let file = scene
        .write("x.yaml", &[dataplane, &TIMEOUT.replace("spec:", "labels: {team: a}\nspec:"), &selective, &other].join("---\n"));
    scene.ok(&["apply", "-f", &file]).await;
    let shown = scene.ok(&["describe", "dataplane", "web-1"]).await;
    for part in [
        "Dataplane default/web-1\n",
        "Selected by:\n",
        "MeshTimeout default/all (spec.targetRef)",
        "default/web (spec.targetRef)",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("default/db"), "{shown}");
    let shown = scene.ok(&["describe", "mt/all"]).await;
    for part in [
        "Labels:      team=a",
        "Last change: ",
        "create",
        "mesh-system:admin",
        "Spec:\n",
        "  to:\n",
        "Selects:\n  Dataplane default/web-1",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(scene.fails(&["describe", "mt", "nope"]).await.contains("atoll get meshtimeouts"));

    scene.write("x.yaml", &TIMEOUT.replace("1h", "3h"));
    scene.ok(&["apply", "-f", &file]).await;
    let history = scene.ok(&["history", "mt", "all"]).await;
    let lines = cells(&history);
    assert_eq!(lines[0].join(" "), "REVISION TIME WHAT WHO FROM FIELDS");
    assert_eq!(lines.len(), 3, "{history}");
    assert!(history.lines().nth(1).unwrap().contains("idleTimeout"), "newest first: {history}");
    assert!(scene.ok(&["history", "mt", "all", "-n", "1", "-o", "json"]).await.contains("\"3h\""));
    assert!(scene.fails(&["history", "mt", "nope"]).await.contains("no history"));
}

/// A refusal to delete names what stands in the way.
#[tokio::test(flavor = "multi_thread")]
async fn dependants_are_named_when_a_delete_is_refused() {
    let scene = Scene::zone().await;
    let dataplane = "type: Dataplane\nmesh: default\nname: web-1\nnetworking:\n  address: 10.0.0.1\n  inbound:\n  - port: 8080\n";
    let file = scene.write("x.yaml", dataplane);
    scene.ok(&["apply", "-f", &file]).await;
    let refusal = scene.fails(&["delete", "mesh", "default"]).await;
    assert!(refusal.contains("dataplanes attached") && refusal.contains("web-1"), "{refusal}");
}
