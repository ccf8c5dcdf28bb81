//! What a careless or hostile client sends: a clear refusal each, with the place; nothing is stored.

use serde_json::json;

use crate::support::{Api, timeout};

const PATH: &str = "/meshes/default/meshtimeouts/all";

#[tokio::test]
async fn bodies_that_do_not_parse() {
    let api = Api::global().await;
    let deep_json = format!("{{\"spec\":{}{}}}", "[".repeat(40), "]".repeat(40));
    let deep_yaml = format!("spec: {}{}", "[".repeat(40), "]".repeat(40));
    let many = format!("{{\"spec\":[{}1]}}", "1,".repeat(20_000));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    for (content_type, body, parts) in [
        ("application/json", "{\"type\": }", vec!["line 1 column 10"]),
        ("application/json", "{\"a\":1,\n\"a\":2}", vec!["duplicate key \"a\"", "line 2 column 3"]),
        ("application/json", &*deep_json, vec!["nested deeper than 32", "line 1"]),
        ("application/json", &*many, vec!["more than 20000 values"]),
        ("application/json", &*long, vec!["longer than 65536 bytes"]),
        ("application/json", "", vec!["line 1"]),
        ("application/yaml", "", vec!["empty"]),
        ("application/yaml", "a: [1,\nb: 2\n", vec!["line"]),
        ("application/yaml", "a: 1\nb:\n  c: 1\n  c: 2\n", vec!["duplicate", "line 4 column 3"]),
        ("application/yaml", "a: !!binary aGk=\n", vec!["tags", "line 1 column"]),
        ("application/yaml", &*deep_yaml, vec!["line 1"]),
        ("application/yaml", "type: Mesh\n---\ntype: Mesh\n", vec!["2 documents", "/_apply"]),
        ("application/yaml", "\u{fffe}\0", vec!["invalid YAML"]),
    ] {
        let answer = api.call(http::Method::PUT, PATH, &[("content-type", content_type)], body.to_owned()).await.expect(400);
        let document = answer.json();
        assert_eq!((document["type"].as_str(), document["status"].as_u64()), (Some("/std-errors"), Some(400)));
        let detail = document["detail"].as_str().unwrap();
        for part in parts {
            assert!(detail.contains(part), "{body:.60}: {detail}");
        }
        assert!(detail.len() < 300, "an answer does not repeat the body: {detail}");
        // Programs find the place where people read it.
        if let Some((_, place)) = detail.split_once(" at line ") {
            let fault = &document["invalid_parameters"][0];
            assert_eq!(format!("{} column {}", fault["line"], fault["column"]), place);
            assert_eq!(fault["field"], "");
        }
    }
    api.call(http::Method::PUT, PATH, &[("content-type", "application/json")], vec![b'{', 0xff, b'}']).await.expect(400);
    api.get(PATH).await.expect(404);
}

#[tokio::test]
async fn other_content_types_are_refused_and_none_is_guessed() {
    let api = Api::global().await;
    let body = timeout("all", "default").to_string();
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
        let answer = api.call(http::Method::PUT, PATH, &[("content-type", other)], body.clone()).await.expect(415);
        assert!(answer.json()["detail"].as_str().unwrap().contains("application/yaml"));
    }
    api.call(http::Method::PUT, PATH, &[], body).await.expect(201);
    let yaml =
        "type: MeshTimeout\nmesh: default\nname: all\nspec: {to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 2h}}]}\n";
    api.call(http::Method::PUT, PATH, &[], yaml.to_owned()).await.expect(200);
}

#[tokio::test]
async fn sizes_at_their_edges() {
    let api = Api::global().await;
    let padded = |size: usize| {
        let text = timeout("all", "default").to_string();
        let padding = size - text.len();
        format!("{text}{}", " ".repeat(padding))
    };
    let edge = 1 << 20;
    let put = |text: String| api.call(http::Method::PUT, PATH, &[("content-type", "application/json")], text);
    put(padded(edge)).await.expect(201);
    let refused = put(padded(edge + 1)).await.expect(413).json();
    assert!(refused["detail"].as_str().unwrap().contains("1048576"), "{refused}");
    let apply = format!("[]{}", " ".repeat((8 << 20) - 1));
    api.post("/_apply", "application/json", &apply).await.expect(413);
    api.post("/_apply", "application/json", &apply[..8 << 20]).await.expect(200);
    // A resource: labels and spec as they are stored, 256 KiB.
    let sized = |parts: usize| {
        let mut document = timeout("all", "default");
        document["spec"]["note"] = json!(vec!["x".repeat(60_000); parts]);
        document
    };
    api.put(PATH, sized(4)).await.expect(200);
    let refused = api.put(PATH, sized(5)).await.expect(400);
    assert!(refused.faults()[0].1.contains("262144 bytes"), "{refused:?}");
    let long = format!("/meshes?name={}", "x".repeat(9000));
    api.get(&long).await.expect(414);
}

#[tokio::test]
async fn a_declared_length_is_refused_before_the_body_is_read() {
    let api = Api::global().await;
    let headers = [("content-type", "application/json"), ("content-length", "999999999")];
    api.call(http::Method::PUT, PATH, &headers, "{}").await.expect(413);
}

#[tokio::test]
async fn names_labels_and_kinds() {
    let api = Api::global().await;
    for name in ["UPPER", "a_b", "-a", "a..b", &"x".repeat(254)] {
        let answer = api.put(&format!("/meshes/default/meshtimeouts/{name}"), timeout(name, "default")).await.expect(400);
        assert_eq!(answer.fields(), ["name"], "{name}");
    }
    let mut document = timeout("all", "default");
    document["labels"] = json!({"": "bar", "foo/bar/baz": "bar", "foo": "^*bar", "kuma.io/origin": "zone", "n": 1});
    assert_eq!(
        api.put(PATH, document.clone()).await.expect(400).fields(),
        ["labels[\"n\"]"],
        "types first: the rest is not parsed"
    );
    document["labels"] = json!({"": "bar", "foo/bar/baz": "bar", "foo": "^*bar", "kuma.io/origin": "zone"});
    let mut fields = api.put(PATH, document.clone()).await.expect(400).fields();
    fields.sort();
    fields.dedup();
    assert_eq!(fields, ["labels[\"\"]", "labels[\"foo\"]", "labels[\"foo/bar/baz\"]", "labels[\"kuma.io/origin\"]"]);
    let many: serde_json::Map<_, _> = (0..65).map(|i| (format!("l{i}"), json!("v"))).collect();
    document["labels"] = json!(many);
    assert_eq!(api.put(PATH, document).await.expect(400).fields(), ["labels"]);
    let unknown = api.get("/meshes/default/meshfoos").await.expect(404).json();
    assert!(unknown["detail"].as_str().unwrap().contains("meshtimeouts"), "the kinds are named: {unknown}");
    let mut document = timeout("all", "default");
    document["type"] = json!("MeshFoo");
    let answer = api.put(PATH, document).await.expect(400);
    assert_eq!(answer.faults(), [(String::new(), "type in body should be one of [MeshTimeout]".to_owned())]);
    api.call(http::Method::POST, PATH, &[], "{}").await.expect(405);
}

#[tokio::test]
async fn json_and_yaml_have_the_same_faults_and_yaml_their_places() {
    let api = Api::global().await;
    let yaml = "\
type: MeshTimeout
mesh: default
name: all
labels:
  a: '^'
spec:
  targetRef: {kind: Mesh}
  to:
    - targetRef: {kind: Mesh}
      default: {connectionTimeout: 0s, idleTimeout: -1s}
    - targetRef: {kind: MeshService}
      default: {}
";
    let value: serde_json::Value = json!({
        "type": "MeshTimeout", "mesh": "default", "name": "all", "labels": {"a": "^"},
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [
            {"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "0s", "idleTimeout": "-1s"}},
            {"targetRef": {"kind": "MeshService"}, "default": {}},
        ]},
    });
    let from_json = api.put(PATH, value).await.expect(400);
    let from_yaml = api.put_yaml(PATH, yaml).await.expect(400);
    assert_eq!(from_json.faults(), from_yaml.faults());
    assert!(from_json.faults().len() >= 5, "{:?}", from_json.faults());
    let document = from_yaml.json();
    let places: Vec<_> = document["invalid_parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["field"].as_str().unwrap(), fault["line"].as_u64().unwrap()))
        .collect();
    assert!(places.contains(&("labels[\"a\"]", 5)) && places.contains(&("spec.to[0].default.idleTimeout", 10)), "{places:?}");
    assert!(from_json.json()["invalid_parameters"][0].get("line").is_none());
}

#[tokio::test]
async fn paths_and_queries_that_are_no_text() {
    let api = Api::global().await;
    for path in ["/meshes/%FF", "/meshes/%FF/meshtimeouts", "/meshes/default/meshtimeouts/%C3%28", "/_kri/%FF"] {
        api.get(path).await.expect(400);
    }
    api.get("/meshes?strict&%FF=1").await.expect(200);
    api.get("/meshes/default/meshtimeouts/%2e%2e%2f").await.expect(404);
}

#[tokio::test]
async fn many_faulty_documents_are_placed_in_one_reading() {
    let api = Api::global().await;
    let one = "type: MeshTimeout\nmesh: default\nname: UPPER\nspec:\n  to:\n  - targetRef: {kind: Mesh}\n    default: {idleTimeout: -1s}\n";
    let text = vec![one; 500].join("---\n");
    let begun = std::time::Instant::now();
    let refused = api.post("/_apply", "application/yaml", &text).await.expect(400).json();
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    let faults = refused["invalid_parameters"].as_array().unwrap();
    let last = faults.iter().rfind(|fault| fault["field"] == "[499].name").unwrap();
    assert_eq!(last["line"], 499 * 8 + 3);
}
