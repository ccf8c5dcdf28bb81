//! Client certificates in place of tokens, on a zone's REST.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::plane::{config, https_as, try_start};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_opens_what_the_zones_own_roles_give() {
    atoll_runtime::tls::install_provider();
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let people = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca = folder.path().join("people.pem");
    std::fs::write(&ca, people.pem()).unwrap();
    let flags = ["--rest-client-ca-file", ca.to_str().unwrap()];
    let zone = try_start(config(&folder.path().join("data"), &flags)).await.unwrap_or_else(|error| panic!("{error:?}"));
    let role = json!({"type": "AccessRole", "name": "r", "rules": [{"types": ["Mesh"], "access": ["READ"]}]});
    zone.put("/access-roles/r", role).await;
    let subjects = json!([{"type": "Group", "name": "readers"}]);
    let binding = json!({"type": "AccessRoleBinding", "name": "r", "subjects": subjects, "roles": ["r"]});
    zone.put("/access-role-bindings/r", binding).await;

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ann");
    params.distinguished_name.push(DnType::OrganizationName, "readers");
    let chain = params.signed_by(&key, &people).unwrap().pem();
    let ann = https_as(&zone.operator.ca, &chain, &key.serialize_pem());
    let url = format!("https://{}", zone.running.addresses.rest_tls);
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let who: Value = ann.get(format!("{url}/who-am-i")).send().await.unwrap().json().await.unwrap();
    assert_eq!(who["name"], json!("cert:ann"), "{who}");
    assert_eq!(status(ann.get(format!("{url}/meshes"))).await, 200);
    assert_eq!(status(ann.get(format!("{url}/config"))).await, 403);
    assert_eq!(status(ann.get(format!("{url}/config")).bearer_auth(&zone.operator.token)).await, 200);
    assert_eq!(status(ann.get(format!("{url}/meshes")).bearer_auth("x")).await, 401);
}
