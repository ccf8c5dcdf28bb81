//! A body names what its path names, as Kuma wants it.

use serde_json::{Value, json};

use crate::support::{Api, timeout};

const PATH: &str = "/meshes/default/dataplanes/web";

fn with(changed: Value) -> Value {
    let mut document = json!({"type": "Dataplane", "mesh": "default", "name": "web", "networking": {"address": "10.0.0.1"}});
    for (field, value) in changed.as_object().unwrap() {
        match value {
            Value::Null => document.as_object_mut().unwrap().remove(field),
            value => document.as_object_mut().unwrap().insert(field.clone(), value.clone()),
        };
    }
    document
}

#[tokio::test]
async fn type_name_and_mesh_are_those_of_the_path() {
    let api = Api::zone("west", false).await;
    let url = |field: &str| (field.to_owned(), format!("{field} from the URL has to be the same as in body"));
    let empty = |field: &str| (field.to_owned(), "cannot be empty".to_owned());
    for (changed, expected) in [
        (json!({"name": "other", "mesh": "other", "type": "Nope"}), vec![url("name"), url("type"), url("mesh")]),
        (
            json!({"name": null, "mesh": null, "type": null}),
            vec![url("name"), url("type"), url("mesh"), empty("name"), empty("mesh")],
        ),
        (json!({"mesh": ""}), vec![url("mesh"), empty("mesh")]),
    ] {
        let answer = api.put(PATH, with(changed.clone())).await.expect(400);
        assert_eq!(answer.json()["title"], "Could not process a resource");
        assert_eq!(answer.faults(), expected, "{changed}");
    }
    // Of a document without name, the fault that it has is enough.
    let answer = api.put(PATH, with(json!({"name": null, "networking": {"address": "0.0.0.0"}}))).await.expect(400);
    assert_eq!(answer.fields(), ["networking.address"]);
    api.put(PATH, with(json!({}))).await.expect(201);
}

#[tokio::test]
async fn new_style_documents_lack_it_by_their_shape() {
    let api = Api::global().await;
    let mut document = timeout("all", "default");
    for field in ["name", "type"] {
        document.as_object_mut().unwrap().remove(field);
    }
    let answer = api.put("/meshes/default/meshtimeouts/all", document.clone()).await.expect(400);
    let missing = ["name in body is required", "type in body is required"].map(|reason| (String::new(), reason.to_owned()));
    assert_eq!(answer.faults(), missing);
    document["type"] = json!("MeshTLS");
    let answer = api.put("/meshes/default/meshtimeouts/all", document).await.expect(400);
    assert_eq!(answer.faults(), [(String::new(), "type in body should be one of [MeshTimeout]".to_owned())]);
}

#[tokio::test]
async fn authors_hear_what_their_service_lacks() {
    let api = Api::zone("west", false).await;
    let spec = json!({"ports": [{"port": 80, "name": "a".repeat(64)}]});
    let document = json!({"type": "MeshService", "mesh": "default", "name": "api", "spec": spec});
    let answer = api.put("/meshes/default/meshservices/api", document).await.expect(201).json();
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(warnings[0].as_str().unwrap().starts_with("MeshService resource 'api' has no selector"), "{answer}");
    let port = warnings.iter().filter_map(Value::as_str).find(|warning| warning.starts_with("Invalid MeshService SNI"));
    assert!(port.unwrap().ends_with("must be no more than 63 characters. This is deprecated."), "{answer}");
}
