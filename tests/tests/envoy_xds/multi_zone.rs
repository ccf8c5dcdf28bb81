//! One name for the gateways of two zones: the near one first, the far one when there is no near one.

use std::net::SocketAddr;

use crate::{
    AZURE, GCP, Gateway, allow,
    envoy::Envoy,
    pki,
    plane::Plane,
    resources,
    traffic::{Connection, free, plain_works},
};

const NAME: &str = "
services:
  - name: api-gateway
    vip: 243.0.0.1
";

/// A sidecar in azure that calls the gateways of both zones by one name.
fn web(near: &[SocketAddr], far: &[SocketAddr], listen: SocketAddr) -> String {
    let list = |all: &[SocketAddr]| all.iter().map(|at| format!("\"{at}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "zone: azure
proxy:
  name: web
  identity: spiffe://{AZURE}/workload/web
  networking: {{address: 127.0.0.1, gateway: {{}}}}{NAME}    identities: [spiffe://{AZURE}/workload/api-gateway, spiffe://{GCP}/workload/api-gateway]
    ports: [{{port: 8443, name: main, endpoints: [{}], far: {{gcp: [{}]}}}}]
bound: {{\"243.0.0.1:8443\": \"{listen}\"}}
",
        list(near),
        list(far)
    )
}

/// The ingress of gcp. What it is asked for by the shared name it gives to its own zone.
fn ingress(at: SocketAddr, gateway: SocketAddr, back: SocketAddr) -> String {
    format!(
        "zone: gcp
proxy:
  name: ingress
  networking: {{address: 127.0.0.1, listeners: [{{type: ZoneIngress, address: {}, port: {}}}]}}{NAME}    ports: [{{port: 8443, name: main, endpoints: [\"{gateway}\"], far: {{azure: [\"{back}\"]}}}}]
",
        at.ip(),
        at.port()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_leads_to_this_zone_and_to_the_other_when_there_is_nothing_here() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let (server, caller) = (pki::leaf(&gcp, "/workload/api-gateway"), pki::leaf(&azure, "/workload/web"));
    let near = crate::traffic::tls_echo(pki::server(&pki::leaf(&azure, "/workload/api-gateway"))).await;
    let (gateway, at, listen, nobody) = (Gateway::new().await, free(), free(), free());
    let allowed = allow(&[&format!("spiffe://{AZURE}/workload/web")]);
    let set = |near: &[SocketAddr], far: &[SocketAddr]| resources(&web(near, far, listen), Some((&caller, &bundles)));

    let plane = Plane::start().await;
    let (_a, _b, _c) =
        tokio::join!(Envoy::start("gateway", &plane), Envoy::start("ingress", &plane), Envoy::start("web", &plane));
    plane.apply("gateway", resources(&gateway.yaml(&allowed, 0), Some((&server, &bundles)))).await;
    plane.apply("ingress", resources(&ingress(at, gateway.listen, nobody), None)).await;

    // Whoever is in the other zone is not asked while there is somebody here.
    plane.apply("web", set(&[near], &[nobody])).await;
    for _ in 0..20 {
        assert!(plain_works(listen).await);
    }
    let mut open = Connection::plain(listen).await.unwrap();
    assert!(open.works().await);

    // The near one is withdrawn: the next connection crosses, the open one stays where it is.
    plane.apply("web", set(&[], &[at])).await;
    assert!(plain_works(listen).await && open.works().await);

    // And back.
    plane.apply("web", set(&[near], &[nobody])).await;
    assert!(plain_works(listen).await);
}
