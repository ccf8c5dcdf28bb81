//! Every operation × every role, over HTTP, against the table in `matrix.txt`. An operation without a row fails.

use std::{collections::BTreeMap, path::Path};

use atoll_api::routes::{Route, Shape, table};
use atoll_model::{Kind, Owner, ResourceKey, Scope, Style};
use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Api, zone_uid};

/// The roles of the table's columns, in their order. `admin` is a member of mesh-system:admin, `nobody` has a token and no role,
/// `stranger` has no token.
const ROLES: [&str; 8] = ["admin", "editor", "reader", "zone-operator", "issuer", "auditor", "nobody", "stranger"];

/// Where an operation is tried: at what the editor and the zone operator hold rights on, and elsewhere.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    called: &'static str,
    mesh: &'static str,
    zone: &'static str,
    name: &'static str,
}

const HERE: Place = Place { called: "here", mesh: "default", zone: "gcp", name: "x" };
const THERE: Place = Place { called: "there", mesh: "other", zone: "away", name: "y" };

fn rules(role: &str) -> Value {
    match role {
        "editor" => json!([
            {"types": ["*"], "mesh": "default", "access": ["READ", "CREATE", "UPDATE", "DELETE"]},
            {"mesh": "default", "access": ["GENERATE_DATAPLANE_TOKEN"]},
        ]),
        "reader" => json!([{"types": ["*"], "access": ["READ", "VIEW"]}]),
        "zone-operator" => json!([
            {"types": ["*"], "zone": "gcp", "access": ["READ"]},
            {"zone": "gcp", "access": ["DEBUG", "RELEASE", "GENERATE_ZONE_TOKEN"]},
        ]),
        "issuer" => json!([{"access": ["ISSUE_TOKEN", "REVOKE"]}]),
        "auditor" => json!([{"access": ["AUDIT"]}]),
        other => panic!("{other}"),
    }
}

async fn scene() -> Api {
    let api = Api::global().await;
    api.give(ResourceKey::new(Kind::Mesh, "", "other", Owner::Global), json!({})).await;
    for place in [HERE, THERE] {
        api.give_zone(place.zone).await;
        for kind in Kind::ALL.iter().filter(|kind| !matches!(kind, Kind::Mesh | Kind::Zone)) {
            let row = kind.descriptor();
            let owner = if row.global_writes { Owner::Global } else { Owner::Zone(zone_uid(place.zone)) };
            let mesh = if row.scope == Scope::Mesh { place.mesh } else { "" };
            api.give(ResourceKey::new(*kind, mesh, place.name, owner), json!({})).await;
        }
    }
    for role in ["editor", "reader", "zone-operator", "issuer", "auditor"] {
        let path = format!("/access-roles/{role}");
        api.put(&path, json!({"type": "AccessRole", "name": role, "rules": rules(role)})).await.expect(201);
        let binding = json!({
            "type": "AccessRoleBinding", "name": role, "subjects": [{"type": "User", "name": role}], "roles": [role]
        });
        api.put(&format!("/access-role-bindings/{role}"), binding).await.expect(201);
    }
    api
}

fn name_of(kind: Option<Kind>, path: &str, place: Place) -> &'static str {
    match kind {
        Some(Kind::Zone) => place.zone,
        Some(Kind::Mesh) => place.mesh,
        _ if path.starts_with("/zones/") => place.zone,
        _ => place.name,
    }
}

fn kind_of(route: &Route) -> Option<Kind> {
    match route.operation.subject {
        atoll_api::access::Subject::Kind(kind) => Some(kind),
        _ => None,
    }
}

/// The request; nothing that it does lasts.
fn request(route: &Route, place: Place, kri: &str) -> (String, Value) {
    let kind = kind_of(route);
    let name = if route.shape == Shape::ByKri { kri } else { name_of(kind, &route.path, place) };
    let path = route.path.replace("{mesh}", place.mesh).replace("{kind}", "dataplanes").replace("{name}", name);
    let document = |kind: Kind, name: &str| {
        let row = kind.descriptor();
        let mut document = json!({"type": kind.name(), "name": name});
        if row.scope == Scope::Mesh {
            document["mesh"] = json!(place.mesh);
        }
        if row.style == Style::Spec {
            document["spec"] = json!({});
        }
        document
    };
    let dry = |path: String| format!("{path}?dry_run=true");
    match (route.shape, route.path.as_str()) {
        (Shape::Put(kind), _) => (dry(path), document(kind, name)),
        (Shape::Delete(_), _) => (dry(path), Value::Null),
        (Shape::Apply, _) => (dry(path), json!([document(Kind::MeshTimeout, place.name)])),
        (_, "/tokens/user") => (path, json!({"name": "zed", "validFor": "1h"})),
        (_, "/tokens/dataplane") => (path, json!({"mesh": place.mesh})),
        (_, "/tokens/zone") => (path, json!({"zone": place.zone})),
        (Shape::Revoke, _) => (path, json!({"jti": "x"})),
        (Shape::Word { has_kind: true, .. }, _) => (format!("{path}?kind=Mesh"), Value::Null),
        (_, _) => (path, Value::Null),
    }
}

/// `A`: allowed, `D`: told that they may not, `H`: as if it were not there, `N`: not done on this plane, `U`: told to say who they are.
fn letter(status: u16) -> char {
    match status {
        401 => 'U',
        403 => 'D',
        404 => 'H',
        405 => 'N',
        ..500 | 503 => 'A',
        other => panic!("{other}"),
    }
}

async fn decisions(api: &Api, method: &Method, path: &str, body: &Value) -> String {
    let mut letters = String::new();
    for role in ROLES {
        let token = match role {
            "admin" => "Bearer admin-token".to_owned(),
            role => format!("Bearer user:{role}"),
        };
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let headers = if role == "stranger" { &headers[1..] } else { &headers[..] };
        let mut request = http::Request::builder().method(method.clone()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let answer = api.send(request.body(body).unwrap()).await;
        letters.push(letter(answer.status.as_u16()));
        letters.push(' ');
    }
    letters.trim_end().to_owned()
}

async fn kri(api: &Api, place: Place) -> String {
    let path = format!("/meshes/{}/meshtimeouts/{}", place.mesh, place.name);
    api.get(&path).await.expect(200).json()["kri"].as_str().unwrap().to_owned()
}

/// The decisions by operation and place.
async fn found() -> BTreeMap<String, String> {
    let api = scene().await;
    let mut rows = BTreeMap::new();
    for route in table() {
        let has_places =
            route.path.contains('{') || ["/_apply", "/tokens/dataplane", "/tokens/zone"].contains(&route.path.as_str());
        let places: &[Place] = if has_places { &[HERE, THERE] } else { &[HERE] };
        for place in places {
            let (path, body) = request(&route, *place, &kri(&api, *place).await);
            let letters = decisions(&api, &route.method, &path, &body).await;
            assert!(
                letters.starts_with(['A', 'N']),
                "{} {path}: an administrator may everything, and what is asked for is there",
                route.method
            );
            rows.insert(format!("{:<40} {:<5}", route.id, if has_places { place.called } else { "" }), letters);
        }
    }
    rows
}

#[tokio::test]
async fn every_operation_decides_as_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/matrix.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let found = found().await;
    if std::env::var_os("UPDATE").is_some() {
        let head: String = text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let rows: String = found.iter().map(|(operation, letters)| format!("{operation} {letters}\n")).collect();
        std::fs::write(&path, head + &rows).unwrap();
        return;
    }
    let wanted: BTreeMap<String, String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (operation, letters) = line.split_at(46);
            (operation.trim_end().to_owned(), letters.trim().to_owned())
        })
        .collect();
    let found: BTreeMap<String, String> = found.into_iter().map(|(row, letters)| (row.trim_end().to_owned(), letters)).collect();
    let without: Vec<_> = found.keys().filter(|row| !wanted.contains_key(*row)).collect();
    assert!(without.is_empty(), "operations without a row in matrix.txt: {without:#?}");
    let gone: Vec<_> = wanted.keys().filter(|row| !found.contains_key(*row)).collect();
    assert!(gone.is_empty(), "rows of matrix.txt without an operation: {gone:#?}");
    let wrong: Vec<_> = found.iter().filter(|(row, letters)| wanted[*row] != **letters).collect();
    let wrong: Vec<_> =
        wrong.into_iter().map(|(row, letters)| format!("{row}: {} wanted, {letters} found", wanted[row])).collect();
    assert!(wrong.is_empty(), "{ROLES:?}\n{wrong:#?}");
}

/// What may stand in a cell, whatever the table says: strangers get in nowhere but at what is open to all.
#[test]
fn the_table_lets_no_stranger_in() {
    let text = include_str!("matrix.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (operation, letters) = line.split_at(46);
        let letters: Vec<&str> = letters.split_whitespace().collect();
        assert_eq!(letters.len(), ROLES.len(), "{line}");
        let open = ["index", "healthy", "ready"].contains(&operation.trim());
        assert_eq!(letters[7], if open { "A" } else { "U" }, "{line}");
        // And read what says nothing of this plane: the documentation.
        let known = open || ["whoAmI", "resourceTypes", "openapi"].contains(&operation.trim()) || operation.starts_with("docs");
        assert!(known || letters[6] != "A", "who has no role may only ask who they are, and read: {line}");
    }
}
