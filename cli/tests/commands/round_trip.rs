//! What `get -o yaml` prints can be applied again, of every kind: what planes compute in it changes nothing.

use std::collections::BTreeSet;

use atoll_model::Kind;

use crate::{TIMEOUT, scene::Scene};

/// One document of each kind that people write on global.
const ON_GLOBAL: &str = "
type: Mesh
name: shop
labels: {team: a}
---
type: Zone
name: gcp
enabled: true
---
type: HostnameGenerator
name: services
spec:
  selector: {meshService: {matchLabels: {team: a}}}
  template: '{{ .DisplayName }}.shop.mesh'
---
type: MeshIdentity
mesh: shop
name: identity
spec:
  selector: {dataplane: {matchLabels: {}}}
  spiffeID: {trustDomain: '{{ .Mesh }}.{{ .Zone }}.mesh.local'}
  provider: {type: Bundled, bundled: {meshTrustCreation: Enabled, insecureAllowSelfSigned: true, autogenerate: {enabled: true}}}
---
type: MeshTrafficPermission
mesh: shop
name: all
spec:
  rules:
  - default: {allow: [{spiffeID: {type: Prefix, value: 'spiffe://shop'}}]}
---
type: MeshTLS
mesh: shop
name: all
spec:
  rules:
  - default: {mode: Strict}
---
type: MeshExternalService
mesh: shop
name: github
spec:
  match: {type: HostnameGenerator, port: 443, protocol: tcp}
  endpoints: [{address: github.com, port: 443}]
---
type: MeshMultiZoneService
mesh: shop
name: api
spec:
  selector: {meshService: {matchLabels: {kuma.io/display-name: api}}}
  ports: [{port: 8443, appProtocol: tcp}]
---
type: MeshLoadBalancingStrategy
mesh: shop
name: near
spec:
  to:
  - targetRef: {kind: Mesh}
    default:
      localityAwareness: {localZone: {affinityTags: [{key: rack, weight: 9}]}}
      loadBalancer: {type: LeastRequest, leastRequest: {choiceCount: 3}}
---
type: MeshPassthrough
mesh: shop
name: some
spec:
  targetRef: {kind: Mesh}
  default:
    passthroughMode: Matched
    appendMatch: [{type: Domain, value: example.com, protocol: tls, port: 443}]
---
type: Secret
mesh: shop
name: key
data: aGVsbG8=
---
type: GlobalSecret
name: key
data: aGVsbG8=
---
type: AccessRole
name: reader
rules: [{types: ['*'], access: [GET]}]
---
type: AccessRoleBinding
name: readers
subjects: [{type: Group, name: team-a}]
roles: [reader]
---
";

/// What only zones write.
const ON_ZONE: &str = "
type: Dataplane
mesh: default
name: web-1
labels: {kuma.io/workload: web, app: web}
networking:
  address: 10.0.0.1
  inbound: [{port: 8080, name: http, protocol: http}]
---
type: MeshService
mesh: default
name: by-hand
labels: {team: a}
spec:
  selector: {dataplaneLabels: {matchLabels: {app: web}}}
  ports: [{port: 80, targetPort: 8080, appProtocol: http}]
---
type: MeshZoneAddress
mesh: default
name: ingress
spec: {address: 192.0.2.1, port: 10001}
---
type: Workload
mesh: default
name: web
spec: {}
---
";

/// Applies the documents, reads each kind back as YAML, and applies that.
async fn check(scene: &Scene, documents: &str) -> BTreeSet<Kind> {
    let file = scene.write("given.yaml", documents);
    scene.ok(&["apply", "-f", &file]).await;
    let kinds: BTreeSet<Kind> = documents.lines().filter_map(|line| line.strip_prefix("type: ")?.parse().ok()).collect();
    for kind in &kinds {
        let read = scene.ok(&["get", kind.descriptor().path, "-A", "-o", "yaml"]).await;
        assert!(read.starts_with(&format!("type: {kind}\n")) && read.contains("creationTime:"), "{read}");
        let file = scene.write("read.yaml", &read);
        let said = scene.say(&["apply", "-f", &file]).await;
        assert!(said.is(0), "{}{}\n{read}", said.out, said.err);
        let changed: Vec<&str> = said.out.lines().filter(|line| !line.contains(" unchanged ")).collect();
        assert!(changed.is_empty(), "{changed:?}\n{read}");
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_can_be_applied_as_it_was_read() {
    let scene = Scene::global().await;
    let mut tried = check(&scene, &format!("{ON_GLOBAL}{}", TIMEOUT.replace("mesh: default", "mesh: shop"))).await;
    let scene = Scene::zone().await;
    tried.extend(check(&scene, ON_ZONE).await);
    let untried: Vec<&Kind> = Kind::ALL.iter().filter(|kind| !tried.contains(kind)).collect();
    assert_eq!(untried, [&Kind::MeshTrust, &Kind::VipAllocation], "these two are made by planes");
}
