//! Lists: of a mesh, across meshes, in pages, by name and label.

use serde_json::{Value, json};

use crate::support::{Api, timeout};

async fn filled() -> Api {
    let api = Api::global().await;
    api.put("/meshes/other", json!({"type": "Mesh", "name": "other"})).await.expect(201);
    for (mesh, name, team) in [("default", "a", "x"), ("default", "b", "y"), ("default", "cab", "x"), ("other", "a", "x")] {
        let mut document = timeout(name, mesh);
        document["labels"] = json!({"team": team});
        api.put(&format!("/meshes/{mesh}/meshtimeouts/{name}"), document).await.expect(201);
    }
    api
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| format!("{}/{}", item["mesh"].as_str().unwrap_or("-"), item["name"].as_str().unwrap())).collect()
}

async fn check(api: &Api, path: &str, total: u64, expected: &[&str]) {
    let list = api.get(path).await.expect(200).json();
    assert_eq!(
        (list["total"].as_u64(), names(&list)),
        (Some(total), expected.iter().map(|n| (*n).to_owned()).collect()),
        "{path}"
    );
}

#[tokio::test]
async fn lists_are_of_a_mesh_or_of_all_in_order() {
    let api = filled().await;
    check(&api, "/meshes/default/meshtimeouts", 3, &["default/a", "default/b", "default/cab"]).await;
    check(&api, "/meshtimeouts", 4, &["default/a", "default/b", "default/cab", "other/a"]).await;
    check(&api, "/meshes", 2, &["-/default", "-/other"]).await;
    check(&api, "/meshes/other/meshtlses", 0, &[]).await;
}

#[tokio::test]
async fn lists_are_filtered_by_name_and_label() {
    let api = filled().await;
    check(&api, "/meshtimeouts?name=a", 3, &["default/a", "default/cab", "other/a"]).await;
    check(&api, "/meshtimeouts?filter[labels.team]=x&name=ca", 1, &["default/cab"]).await;
    check(&api, "/meshtimeouts?filter%5Blabels.kuma.io%2Fmesh%5D=other", 1, &["other/a"]).await;
    let answer = api.get("/meshes/default/meshtimeouts?filter[labels.team][eq]=x").await.expect(400);
    let field = "/meshes/{mesh}/meshtimeouts.filter[labels.team][eq]".to_owned();
    assert_eq!(answer.faults(), [(field, "advanced filters are not supported".to_owned())]);
    assert_eq!(answer.json()["title"], "Could not retrieve resources");
}

#[tokio::test]
async fn pages_hang_together_while_others_write() {
    let api = filled().await;
    let first = api.get("/meshtimeouts?size=2&name=a&filter[labels.team]=x").await.expect(200).json();
    assert_eq!((names(&first), first["total"].as_u64()), (vec!["default/a".to_owned(), "default/cab".to_owned()], Some(3)));
    let next = first["next"].as_str().unwrap();
    assert!(next.starts_with("http://cp.test:5681/meshtimeouts?size=2&name=a&"), "{next}");
    // The item where the page ended goes, one before it comes: the second page is still what follows.
    api.delete("/meshes/default/meshtimeouts/cab").await.expect(200);
    api.put("/meshes/default/meshtimeouts/aa", timeout("aa", "default")).await.expect(201);
    let second = api.get(next.strip_prefix("http://cp.test:5681").unwrap()).await.expect(200).json();
    assert_eq!((names(&second), &second["next"]), (vec!["other/a".to_owned()], &json!(null)));
}

#[tokio::test]
async fn sizes_are_limited() {
    let api = filled().await;
    for size in ["0", "-1", "x", "1001"] {
        let answer = api.get(&format!("/meshes?size={size}")).await.expect(400);
        assert_eq!((answer.fields(), answer.json()["detail"].as_str()), (vec!["size".to_owned()], Some("Invalid page size")));
    }
    check(&api, "/meshes?size=1000", 2, &["-/default", "-/other"]).await;
    check(&api, "/meshes?size=1&offset=1", 2, &["-/other"]).await;
    api.get("/meshes?offset=kzzz").await.expect(400);
}
