//! `kds-full-sync/`: what is where after everything was synchronised, by the one rule of what travels.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use atoll_model::{Kind, Labels, Owner, ResourceKey, Scope, ZoneUid, kri::Kri};
use atoll_sync::{Route, visible_to};
use serde_json::Value;

use crate::{
    cases,
    plane::uid,
    report::{Outcome, Report},
};

const CORPUS: &str = "kds-full-sync";

/// A plane of a case, and what it holds.
struct Place {
    zone: Option<ZoneUid>,
    name: String,
    holds: Vec<(ResourceKey, Labels)>,
}

pub(crate) fn judge(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let corpus = folder.join(CORPUS);
    for case in cases::list(&corpus)? {
        let outcome = Outcome::or_failed(judge_one(&corpus, &case));
        report.add(CORPUS, None, &cases::text(&case, "case"), &outcome);
    }
    Ok(())
}

fn judge_one(corpus: &Path, case: &Value) -> anyhow::Result<Outcome> {
    let planes = case["control_planes"].as_object().cloned().unwrap_or_default();
    let mut places = Vec::new();
    for (name, files) in &planes {
        let zone = (name != "global").then(|| uid(name));
        let mut place = Place { zone, name: name.clone(), holds: Vec::new() };
        for document in cases::documents(&corpus.join(cases::text(files, "before")))? {
            match read(&place, &document) {
                Ok(held) => place.holds.push(held),
                Err(reason) => return Ok(Outcome::Skipped(reason)),
            }
        }
        places.push(place);
    }
    let enabled: BTreeSet<ZoneUid> = places.iter().filter_map(|place| place.zone).collect();
    let names: BTreeMap<ZoneUid, &str> = places.iter().filter_map(|place| Some((place.zone?, place.name.as_str()))).collect();
    for place in &places {
        let actual = after(place, &places, &enabled, &names);
        let golden = cases::documents(&corpus.join(cases::text(&planes[&place.name], "after")))?;
        let expected = expected(place, &golden);
        if actual != expected {
            return Ok(Outcome::Failed(format!("at {}\nexpected {expected:?}\ngot {actual:?}", place.name)));
        }
    }
    Ok(Outcome::Passed)
}

fn read(place: &Place, document: &Value) -> Result<(ResourceKey, Labels), String> {
    let name = cases::text(document, "type");
    let kind: Kind = name.parse().map_err(|_| format!("there is no kind {name}"))?;
    let owner = place.zone.map_or(Owner::Global, Owner::Zone);
    let labels = document["labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    Ok((ResourceKey::new(kind, cases::text(document, "mesh"), cases::text(document, "name"), owner), labels))
}

/// What a plane holds in the end: its own, and what the rule lets reach it, over global.
fn after(place: &Place, places: &[Place], enabled: &BTreeSet<ZoneUid>, names: &BTreeMap<ZoneUid, &str>) -> BTreeSet<String> {
    let all = places.iter().flat_map(|from| from.holds.iter().map(move |held| (from, held)));
    let reached = all.filter(|(from, (key, labels))| {
        let up = from.zone.is_none_or(|zone| visible_to(key, labels, Route::Up(zone), enabled));
        let down = |zone| visible_to(key, labels, Route::Down(zone), enabled);
        from.zone == place.zone || up && place.zone.is_none_or(down)
    });
    reached.map(|(_, (key, _))| kri(key, names)).collect()
}

fn kri(key: &ResourceKey, names: &BTreeMap<ZoneUid, &str>) -> String {
    let zone = match key.owner {
        Owner::Global => "",
        Owner::Zone(uid) => names.get(&uid).copied().unwrap_or_default(),
    };
    let (mesh, name) = (key.mesh.to_string(), key.name.to_string());
    Kri { kind: key.kind, mesh, zone: zone.to_owned(), name, section: String::new() }.to_string()
}

/// The KRIs of the expected resources. Zones and insights are made by the planes, not by synchronisation; an empty zone in
/// the KRI of a zone's own resource means that zone.
fn expected(place: &Place, golden: &[Value]) -> BTreeSet<String> {
    let synchronised = golden.iter().filter_map(|document| {
        let kind: Kind = document["type"].as_str()?.parse().ok()?;
        let mut kri: Kri = document["kri"].as_str()?.parse().ok()?;
        let own = document["labels"]["kuma.io/origin"] != "global" && kind.descriptor().scope == Scope::Mesh;
        if kri.zone.is_empty() && own && place.zone.is_some() {
            kri.zone.clone_from(&place.name);
        }
        (kind != Kind::Zone).then(|| kri.to_string())
    });
    synchronised.collect()
}
