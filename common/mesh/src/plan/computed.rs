//! The computed part of own MeshServices: what other zones need to know, and what must survive a restart.

use atoll_model::{
    kinds::mesh_service::{Identity, IdentityKind, State},
    resource::canonical_json,
};
use serde::Serialize;
use serde_json::Value;

use super::{Plan, Planned};
use crate::{realm::Realm, snapshot::Service};

/// Every field is always written, so that it covers whatever the author put there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Computed {
    identities: Vec<Identity>,
    state: State,
    tls_ready: bool,
}

impl Computed {
    fn of(service: &Service) -> Self {
        let identity = |id: &atoll_model::spiffe::SpiffeId| Identity { kind: IdentityKind::SpiffeID, value: id.to_string() };
        Self {
            identities: service.identities.iter().map(identity).collect(),
            state: if service.available { State::Available } else { State::Unavailable },
            tls_ready: service.tls_ready,
        }
    }
}

impl Realm {
    pub(crate) fn plan_computed(&mut self, plan: &mut Plan) {
        let todo = std::mem::take(&mut self.todo.computed);
        for key in todo {
            if plan.deletes(&key) {
                self.todo.computed.insert(key);
                continue;
            }
            let (Some(service), Some(entry)) = (self.service(&key), self.services.get(&key)) else { continue };
            let wanted = canonical_json(&Computed::of(service));
            if !same_json(entry.resource.computed.as_deref(), &wanted) {
                plan.writes.push(Planned::PutComputed { key: key.clone(), computed: Some(wanted) });
                self.todo.computed.insert(key);
            }
        }
    }
}

fn same_json(stored: Option<&[u8]>, wanted: &[u8]) -> bool {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    stored.is_some_and(|stored| stored == wanted || parse(stored) == parse(wanted))
}
