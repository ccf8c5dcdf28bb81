//! The plane, its zones and their links.

use serde_json::Value;

use super::Point;
use crate::{client::Client, columns};

pub(super) fn plane(client: &Client, index: &Value, who: &Value) -> Point {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let detail = format!(
        "{} {} ({}) at {}, as {}",
        text(&index["atoll"]["product"]),
        text(&index["atoll"]["version"]),
        text(&index["atoll"]["mode"]),
        client.url(),
        text(&who["name"]),
    );
    Point::ok("control plane", detail)
}

pub(super) fn readiness(not_ready: Option<String>) -> Point {
    match not_ready {
        None => Point::ok("ready", "its store takes writes"),
        Some(why) => Point::fail("ready", why),
    }
}

/// Whether global believes that a zone is there.
pub(super) fn is_online(zone: &Value) -> bool {
    zone["zoneInsight"]["online"] == true
}

/// `address:port` of a MeshZoneAddress.
pub(super) fn host_port(address: &Value) -> String {
    let (host, port) = (address["spec"]["address"].as_str().unwrap_or("?"), &address["spec"]["port"]);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whose a resource is.
pub(super) fn zone_of(resource: &Value) -> &str {
    resource["labels"]["kuma.io/zone"].as_str().unwrap_or_default()
}

/// Each zone: online, in sync, with an address for the others.
pub(super) fn all(zones: &[Value], addresses: &[Value]) -> Vec<Point> {
    if zones.is_empty() {
        return vec![Point::note("zones", "none has joined; `atoll token zone NAME` makes the token by which one joins")];
    }
    zones.iter().flat_map(|zone| of_zone(zone, addresses)).collect()
}

fn of_zone(zone: &Value, addresses: &[Value]) -> Vec<Point> {
    let name = zone["name"].as_str().unwrap_or("?");
    let insight = &zone["zoneInsight"];
    let since = insight["since"].as_str().unwrap_or("?");
    let online = if is_online(zone) {
        format!("since {since}")
    } else {
        format!("offline since {since}; is its zone-cp running, and can it reach this plane's link port?")
    };
    let mut points = vec![Point::holds(is_online(zone), format!("zone {name} online"), online), in_sync(name, &insight["sync"])];
    points.extend(held(name, insight));
    points.push(published(name, addresses));
    points
}

fn in_sync(name: &str, sync: &Value) -> Point {
    let what = format!("zone {name} in sync");
    match sync["state"].as_str() {
        Some("InSync") => Point::ok(what, columns::sync(sync)),
        Some("OtherHistory") => Point::fail(
            what,
            format!(
                "global's history does not continue what the zone holds, as after a restore of global from a backup; if this global \
                 is right: `atoll zone follow` with a context of {name}'s control plane"
            ),
        ),
        _ => Point::fail(what, columns::sync(sync)),
    }
}

/// Deletions that wait for an operator, here and there.
fn held(name: &str, insight: &Value) -> Vec<Point> {
    let here = counts(&insight["held"]).map(|(kind, count)| {
        let detail = format!(
            "global holds back the deletion of {count} {kind} of {name}: too many at once to be believed; if they are meant: \
             `atoll zone release {name} --kind {kind}`"
        );
        Point::fail(format!("zone {name} deletions"), detail)
    });
    let there = counts(&insight["heldByZone"]).map(|(kind, count)| {
        let (keep, context) = (format!("atoll zone keep --kind {kind}"), format!("a context of {name}'s control plane"));
        let detail = if insight["phase"] == "Restoring" {
            format!(
                "{name} restores its own resources, and global's copy lacks {count} {kind}: `{keep}` keeps them, `atoll zone release \
                 --kind {kind}` deletes them, with {context}"
            )
        } else {
            format!(
                "{name} holds back the deletion of {count} {kind} of global: too many at once to be believed; if they are meant: \
                 `atoll zone release --kind {kind}` with {context}"
            )
        };
        Point::fail(format!("zone {name} deletions"), detail)
    });
    here.chain(there).collect()
}

fn counts(held: &Value) -> impl Iterator<Item = (&str, u64)> {
    let all = held.as_object().into_iter().flatten();
    all.filter_map(|(kind, count)| Some((kind.as_str(), count.as_u64().filter(|count| *count > 0)?)))
}

fn published(name: &str, addresses: &[Value]) -> Point {
    let what = format!("zone {name} ingress");
    let mut own: Vec<String> = addresses.iter().filter(|address| zone_of(address) == name).map(host_port).collect();
    own.sort_unstable();
    own.dedup();
    if own.is_empty() {
        Point::note(what, "no ingress is ready: other zones cannot reach its services")
    } else {
        Point::ok(what, format!("published at {}", own.join(", ")))
    }
}

/// The link, as a zone's own plane shows it.
pub(super) fn own_link(zone: &Value) -> Vec<Point> {
    let insight = &zone["zoneInsight"];
    let what = "link to global";
    let phase = insight["phase"].as_str().unwrap_or("?");
    let link = match phase {
        "Connected" => Point::ok(what, format!("all of global's up to revision {}", insight["fromGlobal"]["durable"])),
        "OtherHistory" => Point::fail(
            what,
            "global's history does not continue what this zone holds, as after a restore of global from a backup; if that global is \
             right: `atoll zone follow`",
        ),
        "Restoring" => Point::fail(what, "this zone lost its newest state and takes its own resources back from global"),
        _ => {
            let why = insight["lastError"].as_str().unwrap_or("it was never open");
            Point::fail(what, format!("down ({why}); this zone serves on with what it has"))
        }
    };
    let held = counts(&insight["held"]).map(|(kind, count)| {
        let keep = if phase == "Restoring" { format!(", `atoll zone keep --kind {kind}` keeps them") } else { String::new() };
        let detail = format!("{count} deletions of {kind} are held; `atoll zone release --kind {kind}` does them{keep}");
        Point::fail("held deletions", detail)
    });
    [link].into_iter().chain(held).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Verdict;

    fn verdicts(zone: Value, addresses: &[Value]) -> Vec<Verdict> {
        all(&[zone], addresses).into_iter().map(|point| point.verdict).collect()
    }

    #[test]
    fn a_zone_is_judged_by_its_state_and_not_by_its_connection() {
        let well = json!({"name": "gcp", "zoneInsight": {"online": true, "sync": {"state": "InSync", "revision": 3}}});
        let address = json!({"labels": {"kuma.io/zone": "gcp"}, "spec": {"address": "10.0.0.1", "port": 10001}});
        assert_eq!(verdicts(well.clone(), &[address]), [Verdict::Ok, Verdict::Ok, Verdict::Ok]);
        assert_eq!(verdicts(well, &[]), [Verdict::Ok, Verdict::Ok, Verdict::Note]);
        let behind = json!({"name": "gcp", "zoneInsight": {"online": true, "sync": {"state": "Behind", "revision": 3}}});
        assert_eq!(verdicts(behind, &[]), [Verdict::Ok, Verdict::Fail, Verdict::Note]);
        assert_eq!(verdicts(json!({"name": "gcp", "zoneInsight": {}}), &[])[..2], [Verdict::Fail, Verdict::Fail]);
        assert_eq!(all(&[], &[])[0].verdict, Verdict::Note);
    }

    #[test]
    fn what_waits_for_an_operator_names_the_command() {
        let commands = |insight: Value| -> Vec<String> {
            let points = all(&[json!({"name": "gcp", "zoneInsight": insight})], &[]);
            let failed = points.into_iter().filter(|point| point.verdict == Verdict::Fail);
            failed.map(|point| point.detail).filter(|detail| detail.contains("`atoll zone")).collect()
        };
        let sync = json!({"state": "InSync"});
        let shown = commands(json!({"online": true, "sync": sync, "held": {"MeshService": 40}}));
        assert!(shown[0].contains("`atoll zone release gcp --kind MeshService`") && shown[0].contains("40"), "{shown:?}");
        let shown = commands(json!({"online": true, "sync": sync, "heldByZone": {"MeshTimeout": 12}}));
        assert!(shown[0].contains("`atoll zone release --kind MeshTimeout` with a context of gcp"), "{shown:?}");
        let shown = commands(json!({"online": true, "sync": sync, "phase": "Restoring", "heldByZone": {"MeshService": 3}}));
        assert!(shown[0].contains("`atoll zone keep --kind MeshService`"), "{shown:?}");
        let shown = commands(json!({"online": true, "sync": {"state": "OtherHistory"}}));
        assert!(shown[0].contains("`atoll zone follow`"), "{shown:?}");
        assert_eq!(commands(json!({"online": true, "sync": sync, "held": {}})), Vec::<String>::new());
    }

    #[test]
    fn a_zone_s_own_plane_shows_its_link() {
        let link = |insight: Value| own_link(&json!({"zoneInsight": insight}));
        assert_eq!(link(json!({"phase": "Connected", "fromGlobal": {"durable": 3}}))[0].verdict, Verdict::Ok);
        assert!(link(json!({"phase": "OtherHistory"}))[0].detail.contains("`atoll zone follow`"));
        let held = link(json!({"phase": "Restoring", "held": {"MeshService": 3}}));
        assert!(held[1].detail.contains("atoll zone keep --kind MeshService"), "{held:?}");
        assert!(link(json!({"phase": "Disconnected", "lastError": "refused"}))[0].detail.contains("refused"));
    }
}
