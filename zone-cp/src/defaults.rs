//! What a zone makes for itself at its first start: Kuma's `local-*` HostnameGenerators; stand-alone also the default Mesh.

use atoll_model::{Kind, Labels, Name, ResourceKey, labels::Viewpoint, resource::canonical_json};
use atoll_store::{Actor, Store, StoreError, Write, WriteBatch};
use serde_json::{Value, json};

/// Name of the blob that says that it was done: what an operator deleted stays deleted.
const DONE: &str = "first-start/defaults";

/// Makes the defaults, once in the life of the zone's store.
///
/// # Errors
/// When the store cannot be read or written.
pub(crate) async fn make(store: &Store, viewpoint: &Viewpoint) -> Result<(), StoreError> {
    if store.blob(DONE).await?.is_some() {
        return Ok(());
    }
    for (kind, name, spec) in defaults(viewpoint) {
        let key = ResourceKey::new(kind, Name::none(), name, viewpoint.owner());
        match store.commit(WriteBatch::one(Actor::plane(), Write::create(key, Labels::new(), canonical_json(&spec)))).await {
            Ok(_) | Err(StoreError::AlreadyExists(_)) => {}
            Err(error) => return Err(error),
        }
    }
    store.put_blob(DONE, b"1").await
}

fn defaults(viewpoint: &Viewpoint) -> Vec<(Kind, &'static str, Value)> {
    let generator = |selector: &str, template: &str| json!({ "selector": { selector: { "matchLabels": { "kuma.io/origin": "zone" } } }, "template": template });
    let mut made = vec![
        (Kind::HostnameGenerator, "local-universal-mesh-service", generator("meshService", "{{ .DisplayName }}.svc.mesh.local")),
        (
            Kind::HostnameGenerator,
            "local-mesh-external-service",
            generator("meshExternalService", "{{ .DisplayName }}.extsvc.mesh.local"),
        ),
    ];
    match viewpoint {
        Viewpoint::Zone { federated: false, .. } => made.push((Kind::Mesh, "default", json!({}))),
        Viewpoint::Zone { federated: true, .. } | Viewpoint::Global => {}
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        for (kind, name, spec) in defaults(&Viewpoint::Global) {
            let checked = (kind.descriptor().check)(&spec);
            assert_eq!((checked.violations, checked.unknown), (Vec::new(), Vec::new()), "{name}");
        }
    }
}
