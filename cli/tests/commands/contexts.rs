//! Contexts: where they lead, as whom, and who may read their files.

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

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

/// A client certificate of `ca` and its key, in files of the scene.
fn client(scene: &Scene, ca: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "team-a");
    let chain = params.signed_by(&key, ca).unwrap().pem();
    (scene.write(&format!("{name}.pem"), &chain), scene.write_secret(&format!("{name}.key"), &key.serialize_pem()))
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    atoll_runtime::tls::install_provider();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_may_name_a_client_certificate_in_place_of_a_token() {
    let people = authority();
    let scene = Scene::global_with(&people.pem()).await;
    let (cert, key) = client(&scene, &people, "ann");
    let (url, ca) = (scene.operator("url"), scene.write("ca.pem", &scene.operator("ca")));
    let plane = ["context", "add", "--name", "ann", "--url", &url, "--ca-file", &ca];
    let shown = ["--client-cert-file", &cert, "--client-key-file", &key];
    assert!(scene.ok(&[&plane[..], &shown].concat()).await.contains("is in use"));
    let told = scene.ok(&["context", "show"]).await;
    assert!(told.contains("ann.pem of CN=ann, O=team-a, holds until") && told.contains("token: none"), "{told}");
    let refused = scene.fails(&["get", "meshtimeouts"]).await;
    assert!(refused.contains("cert:ann"), "{refused}");

    let subjects = "subjects: [{type: Group, name: team-a}]";
    let role = "type: AccessRole\nname: r\nrules: [{types: [Mesh], access: [READ]}]\n---\n";
    let roles = scene.write("r.yaml", &format!("{role}type: AccessRoleBinding\nname: r\n{subjects}\nroles: [r]\n"));
    scene.ok(&["--context", "default", "apply", "-f", &roles]).await;
    assert!(scene.ok(&["get", "meshes"]).await.contains("default"));

    set_mode(&key, 0o640);
    assert!(scene.fails(&["get", "meshes"]).await.contains("others can read the key in ann.key; run `chmod 600 ann.key`"));
    set_mode(&key, 0o600);
    let (cert, key) = client(&scene, &authority(), "eve");
    scene.ok(&["context", "add", "--name", "ann", "--client-cert-file", &cert, "--client-key-file", &key]).await;
    let refused = scene.fails(&["get", "meshes"]).await;
    assert!(refused.contains("refuse the client certificate") && refused.contains("--rest-client-ca-file"), "{refused}");

    let token = scene.write_secret("token", &scene.operator("token"));
    scene.ok(&["context", "add", "--name", "ann", "--token-file", &token]).await;
    assert!(!scene.ok(&["context", "show"]).await.contains("cert:"), "the token replaces the certificate");
    scene.ok(&["get", "meshes"]).await;
}
