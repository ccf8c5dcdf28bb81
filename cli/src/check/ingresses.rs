//! Whether each zone reaches the ingresses of the others: a line for each address.

use serde_json::Value;

use super::{
    Point,
    zones::{host_port, zone_of},
};

/// What `from` saw. `zones` and `addresses` are what global knows: an address that `from` does not know is a fault, too.
pub(super) fn judge(from: &str, answer: &Value, zones: &[Value], addresses: &[Value]) -> Vec<Point> {
    let probes = answer["probes"].as_array().cloned().unwrap_or_default();
    let mut points: Vec<Point> = probes.iter().map(|probe| point(from, probe)).collect();
    let is_enabled = |zone: &str| zones.iter().any(|known| known["name"] == zone && known["zone"]["enabled"] != false);
    let others = addresses.iter().filter(|address| zone_of(address) != from && is_enabled(zone_of(address)));
    let mut unknown: Vec<Point> = others
        .filter(|address| !probes.iter().any(|probe| is_of(probe, address)))
        .map(|address| {
            let what = title(from, zone_of(address), &host_port(address), &address["mesh"]);
            Point::fail(what, format!("{from} does not know this address of {}; is {from} in sync?", zone_of(address)))
        })
        .collect();
    points.append(&mut unknown);
    points
}

fn is_of(probe: &Value, address: &Value) -> bool {
    probe["mesh"] == address["mesh"] && probe["zone"] == zone_of(address) && probe["address"] == host_port(address).as_str()
}

fn title(from: &str, to: &str, address: &str, mesh: &Value) -> String {
    let mesh = mesh.as_str().filter(|mesh| *mesh != "default").map(|mesh| format!(" (mesh {mesh})")).unwrap_or_default();
    format!("zone {from} → {to} {address}{mesh}")
}

fn point(from: &str, probe: &Value) -> Point {
    let text = |field: &str| probe[field].as_str().unwrap_or_default();
    let what = title(from, text("zone"), text("address"), &probe["mesh"]);
    let ms = probe["ms"].as_f64().unwrap_or_default();
    let (seen, advice) = (text("seen"), text("advice"));
    match text("outcome") {
        "Reachable" => Point::ok(what, format!("{ms} ms, {} answers as {seen}", text("service"))),
        "Opened" => Point::note(what, format!("{ms} ms to connect; {advice}")),
        "Untried" => Point::note(what, advice),
        outcome => {
            let seen = if seen.is_empty() { String::new() } else { format!(" ({seen})") };
            Point::fail(what, format!("{} after {ms} ms{seen}; {advice}", outcome.to_lowercase()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Verdict;

    fn probe(outcome: &str, address: &str) -> Value {
        json!({
            "mesh": "default", "zone": "gcp", "address": address, "service": "api", "sni": "sni.x", "outcome": outcome,
            "ms": 1.5, "seen": "spiffe://gcp/api", "advice": "look there",
        })
    }

    #[test]
    fn each_address_has_a_line() {
        let answer = json!({"probes": [
            probe("Reachable", "10.0.0.1:1"), probe("Silent", "10.0.0.2:1"), probe("Opened", "10.0.0.3:1"), probe("New", "10.0.0.4:1"),
        ]});
        let points = judge("azure", &answer, &[], &[]);
        let verdicts: Vec<_> = points.iter().map(|point| point.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Fail, Verdict::Note, Verdict::Fail]);
        assert_eq!(points[0].what, "zone azure → gcp 10.0.0.1:1");
        assert_eq!(points[0].detail, "1.5 ms, api answers as spiffe://gcp/api");
        assert_eq!(points[1].detail, "silent after 1.5 ms (spiffe://gcp/api); look there");
    }

    #[test]
    fn an_address_that_the_zone_does_not_know_fails() {
        let address = |zone: &str, host: &str| json!({"mesh": "default", "labels": {"kuma.io/zone": zone}, "spec": {"address": host, "port": 1}});
        let zones = [json!({"name": "gcp"}), json!({"name": "aws", "zone": {"enabled": false}}), json!({"name": "azure"})];
        let answer = json!({"probes": [probe("Reachable", "10.0.0.1:1")]});
        let known = [address("gcp", "10.0.0.1"), address("azure", "10.9.0.1"), address("aws", "10.8.0.1")];
        assert_eq!(
            judge("azure", &answer, &zones, &known).len(),
            1,
            "its own, and those of a zone that is disabled, do not count"
        );
        let points = judge("azure", &answer, &zones, &[address("gcp", "10.0.0.7")]);
        assert_eq!((points[1].verdict, points[1].what.as_str()), (Verdict::Fail, "zone azure → gcp 10.0.0.7:1"));
    }
}
