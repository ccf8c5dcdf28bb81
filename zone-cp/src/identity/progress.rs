//! Who must have a CA before it issues, and what this zone says of that: the computed part of its MeshTrusts.
//!
//! A zone's MeshTrust lists the CAs that all of its proxies acknowledged. It goes to every zone as it is, so each zone sees in the
//! others' MeshTrusts who trusts its new CA, without any question being asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_mesh::{MeshSnapshot, Planned};
use atoll_model::{
    Kind, Name, Owner, ResourceKey, Timestamp, ZoneUid,
    kinds::{
        MeshTrust, Zone,
        mesh_trust::{CaRotation, CaStage},
    },
    labels::MANAGED_BY,
    resource::canonical_json,
};
use atoll_store::TableSnapshot;
use atoll_trust::ca::WorkloadCa;
use chrono::SecondsFormat;
use serde::Serialize;

use super::{
    acknowledgements::{Acknowledgements, short},
    cas::{CaState, Cas},
    identities::TRUST_GENERATOR,
    rotation::{Circumstances, waits_for},
    wanted::Wanted,
};

/// How many of its own proxies a zone names.
const NAMED: usize = 3;

type Waits<'a> = Box<dyn Fn(&WorkloadCa) -> Vec<String> + 'a>;

/// Everybody who has to do with the CAs of one MeshIdentity.
pub(super) struct Peers<'a> {
    wanted: &'a Wanted,
    distrusting: Waits<'a>,
    behind: Waits<'a>,
}

impl<'a> Peers<'a> {
    pub(super) fn new(
        acknowledgements: &'a Acknowledgements,
        table: &'a TableSnapshot,
        meshes: &'a BTreeMap<Name, Arc<MeshSnapshot>>,
        wanted: &'a Wanted,
        own: ZoneUid,
    ) -> Self {
        let mesh = meshes.get(&wanted.identity.mesh);
        let distrusting = move |ca: &WorkloadCa| {
            let mut waits = zones_without(table, &wanted.identity.mesh, own, &short(&ca.pin()));
            if let Some(mesh) = mesh {
                let published = || acknowledgements.pins(mesh).contains(&short(&ca.pin()));
                if wanted.publish && !published() {
                    waits.push("this zone's MeshTrust".to_owned());
                }
                waits.extend(named(&acknowledgements.distrusting(mesh, ca.cert_pem())));
            }
            waits
        };
        let behind = move |ca: &WorkloadCa| {
            let proxies = mesh.map(|mesh| acknowledgements.without_certificate(mesh, &wanted.identity, &ca.pin()));
            named(&proxies.unwrap_or_default())
        };
        Self { wanted, distrusting: Box::new(distrusting), behind: Box::new(behind) }
    }

    pub(super) fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            domain: &self.wanted.domain,
            asked: self.wanted.rotate.as_deref(),
            force: self.wanted.force,
            leaf_life: self.wanted.leaf_life,
            distrusting: &*self.distrusting,
            behind: &*self.behind,
        }
    }
}

fn named(proxies: &[Name]) -> Vec<String> {
    proxies.iter().take(NAMED).map(|name| format!("dataplane {name}")).collect()
}

/// The other zones with an identity in the mesh whose proxies did not all acknowledge a CA.
fn zones_without(table: &TableSnapshot, mesh: &Name, own: ZoneUid, pin: &str) -> Vec<String> {
    let mut zones: BTreeMap<ZoneUid, bool> = BTreeMap::new();
    for trust in table.list(Kind::MeshTrust, Some(mesh)).filter(|trust| is_generated(trust)) {
        if let Owner::Zone(uid) = trust.key.owner
            && uid != own
        {
            let lists = trust.parse::<MeshTrust>().is_ok_and(|trust| trust.acknowledged.iter().any(|held| held == pin));
            *zones.entry(uid).or_default() |= lists;
        }
    }
    let missing = zones.into_iter().filter(|(_, trusts)| !trusts);
    missing.map(|(uid, _)| format!("zone {}", name_of(table, uid))).collect()
}

fn is_generated(trust: &atoll_model::Resource) -> bool {
    trust.labels.get(MANAGED_BY).is_some_and(|by| by == TRUST_GENERATOR)
}

fn name_of(table: &TableSnapshot, uid: ZoneUid) -> String {
    let is_it = |zone: &&Arc<atoll_model::Resource>| zone.parse::<Zone>().is_ok_and(|zone| zone.uid == Some(uid));
    table.list(Kind::Zone, None).find(is_it).map_or_else(|| uid.to_string(), |zone| zone.key.name.to_string())
}

/// How far the CAs of one MeshIdentity are.
pub(super) fn stages(cas: &Cas, at: &Circumstances<'_>, now: Timestamp) -> CaRotation {
    let stage = |held: &super::cas::Held| CaStage {
        pin: short(&held.ca.pin()),
        state: match held.state {
            CaState::Prepared => "Prepared",
            CaState::Active => "Active",
            CaState::Retired => "Retired",
        }
        .to_owned(),
        not_after: held.ca.not_after().to_rfc3339_opts(SecondsFormat::Secs, true),
    };
    CaRotation { cas: cas.held().iter().map(stage).collect(), waiting_for: waits_for(cas.held(), at, now) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Computed<'a> {
    acknowledged: &'a BTreeSet<String>,
    rotation: &'a CaRotation,
}

/// What to write into the computed parts of this zone's MeshTrusts.
pub(super) fn plan(
    acknowledgements: &Acknowledgements,
    table: &TableSnapshot,
    meshes: &BTreeMap<Name, Arc<MeshSnapshot>>,
    own: ZoneUid,
    stages: BTreeMap<(Name, Name), CaRotation>,
) -> Vec<Planned> {
    let (mut planned, mut awaited) = (Vec::new(), false);
    for ((mesh, name), rotation) in stages {
        let snapshot = meshes.get(&mesh);
        let key = ResourceKey::new(Kind::MeshTrust, mesh, name, Owner::Zone(own));
        let Some(held) = table.get(&key).filter(|held| is_generated(held)) else { continue };
        let said = held.parse::<MeshTrust>().map(|trust| trust.acknowledged).unwrap_or_default();
        let acknowledged = acknowledged(acknowledgements, snapshot, said);
        awaited |= snapshot.is_some_and(|mesh| *acknowledgements.pins(mesh) != acknowledged) || rotation.cas.len() > 1;
        let computed = canonical_json(&Computed { acknowledged: &acknowledged, rotation: &rotation });
        if held.computed.as_ref() != Some(&computed) {
            planned.push(Planned::PutComputed { key, computed: Some(computed) });
        }
    }
    acknowledgements.set_awaited(awaited);
    planned
}

/// What this zone says that it trusts: what it said before, as long as it is in the bundle, and what everybody has by now. Who comes
/// later is given the whole bundle at once, so nothing is taken back for a newcomer's sake.
fn acknowledged(acknowledgements: &Acknowledgements, mesh: Option<&Arc<MeshSnapshot>>, said: Vec<String>) -> BTreeSet<String> {
    let Some(mesh) = mesh else { return said.into_iter().collect() };
    let trusted = acknowledgements.pins(mesh);
    let kept: BTreeSet<String> = said.into_iter().filter(|pin| trusted.contains(pin)).collect();
    if kept == *trusted {
        return kept;
    }
    &kept | &acknowledgements.trusted_by_all(mesh)
}
