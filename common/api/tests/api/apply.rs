//! `/_apply`: many documents at once.

use serde_json::{Value, json};

use crate::support::Api;

const TWO: &str = "\
# a comment
---
type: MeshTimeout
mesh: team
name: all
spec:
  to:
    - targetRef: {kind: Mesh}
      default: {idleTimeout: 1h}
---
type: Mesh
name: team
";

fn results(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    answer["results"].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["result"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn documents_are_applied_in_one_range_of_revisions() {
    let api = Api::global().await;
    let before = api.store.snapshot().revision().0;
    let dry = api.post("/_apply?dry_run=true", "application/yaml", TWO).await.expect(200).json();
    assert_eq!(results(&dry), pairs(&[("all", "created"), ("team", "created")]));
    assert_eq!(api.store.snapshot().revision().0, before);
    let answer = api.post("/_apply", "application/yaml", TWO).await.expect(200);
    assert_eq!(results(&answer.json()), pairs(&[("all", "created"), ("team", "created")]));
    assert_eq!(
        (answer.json()["revision"].as_u64(), answer.header("atoll-revision")),
        (Some(before + 2), &*(before + 2).to_string())
    );
    let again = api.post("/_apply", "application/yaml", TWO).await.expect(200).json();
    assert_eq!(results(&again), pairs(&[("all", "unchanged"), ("team", "unchanged")]));
    assert_eq!(api.store.snapshot().revision().0, before + 2);
}

#[tokio::test]
async fn a_json_list_does_the_same() {
    let api = Api::global().await;
    let list = json!([{"type": "Mesh", "name": "a"}, {"type": "Mesh", "name": "b"}]);
    let answer = api.post("/_apply", "application/json", &list.to_string()).await.expect(200).json();
    assert_eq!(results(&answer), pairs(&[("a", "created"), ("b", "created")]));
}

#[tokio::test]
async fn one_fault_stops_all_and_all_faults_are_named() {
    let api = Api::global().await;
    let text = "type: Mesh\nname: good\n---\ntype: Mesh\nname: Bad\n---\ntype: MeshTimeout\nmesh: nope\nname: x\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n    default: {}\n---\ntype: Nope\nname: y\n---\ntype: Dataplane\nmesh: default\nname: d\nnetworking: {address: 10.0.0.1}\n---\ntype: Mesh\nname: good\n";
    let answer = api.post("/_apply", "application/yaml", text).await.expect(400);
    let document = answer.json();
    assert_eq!(document["detail"], "5 of 6 documents are not valid; nothing was changed");
    assert_eq!(answer.fields(), ["[1].name", "[2].spec.to[0].default", "[3].type", "[4].type", "[5].name"]);
    assert_eq!(document["invalid_parameters"][1]["line"], 13);
    assert_eq!(
        results(&document),
        pairs(&[
            ("good", "skipped"),
            ("Bad", "refused"),
            ("x", "refused"),
            ("y", "refused"),
            ("d", "refused"),
            ("good", "refused")
        ])
    );
    api.get("/meshes/good").await.expect(404);
    let lenient = api.post("/_apply?atomic=false", "application/yaml", text).await.expect(200).json();
    assert_eq!(results(&lenient)[..2], pairs(&[("good", "created"), ("Bad", "refused")]));
    api.get("/meshes/good").await.expect(200);
}

#[tokio::test]
async fn a_document_needs_a_mesh_that_is_there() {
    let api = Api::global().await;
    let text = "type: MeshTLS\nname: x\nmesh: nope\nspec:\n  rules:\n  - default: {mode: Strict}\n";
    let answer = api.post("/_apply", "application/yaml", text).await.expect(400);
    assert_eq!(answer.faults(), [("[0].mesh".to_owned(), "mesh of name nope is not found".to_owned())]);
}

#[tokio::test]
async fn results_carry_versions_and_preconditions_hold_for_all() {
    let api = Api::global().await;
    let apply = async |headers: &[(&str, &str)], text: &str| {
        let headers: Vec<_> = [("content-type", "application/yaml")].into_iter().chain(headers.iter().copied()).collect();
        api.call(http::Method::POST, "/_apply", &headers, text.to_owned()).await
    };
    let first = apply(&[("if-none-match", "*")], TWO).await.expect(200).json();
    let tags: Vec<_> = first["results"].as_array().unwrap().iter().map(|one| one["etag"].clone()).collect();
    assert_eq!(tags, ["\"1\"", "\"1\""]);
    apply(&[("if-none-match", "*")], TWO).await.expect(412);
    apply(&[("if-match", "*")], TWO).await.expect(200);
    let ambiguous = apply(&[("if-match", "\"1\"")], TWO).await.expect(400).json();
    assert!(ambiguous["detail"].as_str().unwrap().contains("one document"), "{ambiguous}");
    let one = "type: Mesh\nname: team\nx: 1\n";
    assert_eq!(apply(&[("if-match", "\"1\"")], one).await.expect(200).json()["results"][0]["etag"], "\"2\"");
    apply(&[("if-match", "\"1\"")], one).await.expect(412);
    apply(&[("if-match", "*")], "type: Mesh\nname: other\n").await.expect(412);
    api.get("/meshes/other").await.expect(404);
}

#[tokio::test]
async fn a_resource_of_another_plane_is_not_copied_under_its_shown_name() {
    let api = Api::zone("azure", true).await;
    let key = atoll_model::ResourceKey::new(atoll_model::Kind::MeshTimeout, "default", "all", atoll_model::Owner::Global);
    api.give(key, crate::support::timeout("all", "default")["spec"].clone()).await;
    let mut shown = api.get("/meshes/default/meshtimeouts/all").await.expect(200).json();
    shown["labels"]["kuma.io/origin"] = json!("zone");
    let refused = api.post("/_apply", "application/json", &json!([shown]).to_string()).await.expect(400);
    assert!(refused.faults()[0].1.contains("belongs to global"), "{:?}", refused.faults());
}
