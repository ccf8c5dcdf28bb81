//! Questions to zones and an operator's word: who may, and how failures are told.

use async_trait::async_trait;
use atoll_api::{LinkError, Links, Question, Word};
use atoll_model::{Kind, Name};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Api, Names};

#[async_trait]
impl Links for Names {
    async fn ask(&self, zone: &Name, question: Question) -> Result<Value, LinkError> {
        match &**zone {
            "gcp" => Ok(json!({"asked": question.path()})),
            "away" => Err(LinkError::NotConnected("zone away has no link".to_owned())),
            "slow" => Err(LinkError::Timeout("zone slow did not answer".to_owned())),
            "old" => Err(LinkError::Failed("zone old: no such question".to_owned())),
            _ => Err(LinkError::UnknownZone(zone.clone())),
        }
    }

    async fn say(&self, zone: Option<&Name>, word: Word) -> Result<Value, LinkError> {
        match word {
            Word::Keep(Kind::Mesh) => Err(LinkError::Nothing("nothing of Mesh is held".to_owned())),
            Word::Keep(_) => Err(LinkError::NotHere("not here".to_owned())),
            Word::Release(_) | Word::Follow => Ok(json!({"zone": zone, "word": format!("{word:?}")})),
        }
    }
}

#[tokio::test]
async fn a_zone_is_asked_and_its_silence_has_a_status() {
    let api = Api::global().await;
    assert_eq!(api.get("/zones/gcp/_probe").await.expect(200).json(), json!({"asked": "probe/ingresses"}));
    assert_eq!(api.get("/zones/gcp/_names").await.expect(200).json(), json!({"asked": "names"}));
    for (zone, status, part) in [
        ("nope", 404, "no zone nope"),
        ("away", 503, "no link"),
        ("slow", 504, "did not answer"),
        ("old", 502, "no such question"),
    ] {
        let problem = api.get(&format!("/zones/{zone}/_probe")).await.expect(status).json();
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
}

#[tokio::test]
async fn an_operator_s_word_names_its_kind() {
    let api = Api::global().await;
    let said = async |path: &str| api.call(Method::POST, path, &[], "").await;
    let released = said("/zones/gcp/_release?kind=MeshService").await.expect(200).json();
    assert_eq!(released, json!({"zone": "gcp", "word": "Release(MeshService)"}));
    assert_eq!(said("/_link/release?kind=Mesh").await.expect(200).json(), json!({"zone": null, "word": "Release(Mesh)"}));
    assert_eq!(said("/_link/follow").await.expect(200).json()["word"], "Follow");
    said("/_link/keep?kind=Mesh").await.expect(409);
    said("/_link/keep?kind=MeshService").await.expect(405);
    for path in ["/zones/gcp/_release", "/zones/gcp/_release?kind=Pod", "/_link/release"] {
        let problem = said(path).await.expect(400).json();
        assert!(problem["detail"].as_str().unwrap().starts_with("kind: "), "{problem}");
    }
    api.get("/_link/follow").await.expect(405);
}

#[tokio::test]
async fn nobody_else_may() {
    let api = Api::global().await;
    for (method, path) in [
        (Method::GET, "/zones/gcp/_probe"),
        (Method::GET, "/zones/gcp/_names"),
        (Method::POST, "/zones/gcp/_release?kind=Mesh"),
        (Method::POST, "/_link/release?kind=Mesh"),
        (Method::POST, "/_link/keep?kind=Mesh"),
        (Method::POST, "/_link/follow"),
    ] {
        api.call(method.clone(), path, &[("authorization", "Bearer reader-token")], "").await.expect(403);
        api.call(method, path, &[("authorization", "")], "").await.expect(401);
    }
}
