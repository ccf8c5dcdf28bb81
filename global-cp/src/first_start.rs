//! What the very first start makes: Mesh `default` and Kuma's default HostnameGenerators. No policies.

use atoll_model::{Kind, Labels, Name, Owner, ResourceKey, resource::canonical_json};
use atoll_store::{Actor, Store, StoreError, Write, WriteBatch};
use serde_json::{Value, json};

/// The row that says that it was done: what an operator deletes later stays deleted.
const DONE_ROW: &str = "first-start/defaults";

/// Makes the defaults, once in the life of the store.
pub(crate) async fn make_defaults(store: &Store) -> Result<(), StoreError> {
    if store.blob(DONE_ROW).await?.is_some() {
        return Ok(());
    }
    for (key, spec) in defaults() {
        let write = Write::create(key, Labels::new(), canonical_json(&spec));
        match store.commit(WriteBatch::one(Actor::plane(), write)).await {
            // Another instance starts for the first time, too.
            Ok(_) | Err(StoreError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    store.put_blob_if_absent(DONE_ROW, b"1").await?;
    Ok(())
}

fn defaults() -> Vec<(ResourceKey, Value)> {
    let mesh = ResourceKey::new(Kind::Mesh, Name::none(), "default", Owner::Global);
    let generators = generators()
        .into_iter()
        .map(|(name, spec)| (ResourceKey::new(Kind::HostnameGenerator, Name::none(), name, Owner::Global), spec));
    std::iter::once((mesh, json!({}))).chain(generators).collect()
}

/// Kuma's generators of global. Their `origin: global` is meant as the receiving zone sees it: all that came by global.
fn generators() -> Vec<(&'static str, Value)> {
    let generator = |selector: &str, labels: Value, template: &str| json!({"selector": {selector: {"matchLabels": labels}}, "template": template});
    vec![
        (
            "synced-mesh-multi-zone-service",
            generator("meshMultiZoneService", json!({"kuma.io/origin": "global"}), "{{ .DisplayName }}.mzsvc.mesh.local"),
        ),
        (
            "synced-kube-mesh-service",
            generator(
                "meshService",
                json!({
                    "kuma.io/origin": "global", "kuma.io/env": "kubernetes", "k8s.kuma.io/is-headless-service": "false",
                }),
                "{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
            ),
        ),
        (
            "synced-headless-kube-mesh-service",
            generator(
                "meshService",
                json!({
                    "kuma.io/origin": "global", "kuma.io/env": "kubernetes", "k8s.kuma.io/is-headless-service": "true",
                }),
                "{{ label \"statefulset.kubernetes.io/pod-name\" }}.{{ label \"k8s.kuma.io/service-name\" }}\
                 .{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
            ),
        ),
        (
            "synced-universal-mesh-service",
            generator(
                "meshService",
                json!({"kuma.io/origin": "global", "kuma.io/env": "universal"}),
                "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local",
            ),
        ),
        (
            "synced-mesh-external-service",
            generator("meshExternalService", json!({"kuma.io/origin": "global"}), "{{ .DisplayName }}.extsvc.mesh.local"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        for (key, spec) in defaults() {
            let checked = (key.kind.descriptor().check)(&spec);
            assert_eq!((checked.violations, checked.unknown), (vec![], vec![]), "{key}");
        }
    }
}
