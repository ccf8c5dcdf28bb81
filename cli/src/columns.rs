//! The columns that are useful per kind.

use atoll_model::{Kind, Scope, Timestamp, labels};
use serde_json::Value;

use crate::output::{Listing, Table};

/// A table of resources of one kind; of zones: of their overviews. `now` is for ages.
pub fn table(kind: Kind, format: Listing, items: &[Value], now: Timestamp) -> Table {
    let columns = of(kind, format);
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.row(columns.iter().map(|(_, cell)| cell(item, now)));
    }
    table
}

/// The headings, and the cells of one resource.
pub fn row(kind: Kind, format: Listing, item: &Value, now: Timestamp) -> (Vec<&'static str>, Vec<String>) {
    of(kind, format).into_iter().map(|(heading, cell)| (heading, cell(item, now))).unzip()
}

type Cell = fn(&Value, Timestamp) -> String;

fn of(kind: Kind, format: Listing) -> Vec<(&'static str, Cell)> {
    let mut columns: Vec<(&'static str, Cell)> = Vec::new();
    if kind.descriptor().scope == Scope::Mesh {
        columns.push(("MESH", |item, _| text(&item["mesh"])));
    }
    columns.push(("NAME", |item, _| text(&item["name"])));
    columns.extend_from_slice(own(kind));
    if kind.descriptor().travel.up {
        columns.push(("ZONE", |item, _| text(&item["labels"]["kuma.io/zone"])));
    }
    columns.push(("AGE", |item, now| age(&item["creationTime"], now)));
    if format == Listing::Wide {
        columns.push(("CHANGED", |item, now| age(&item["modificationTime"], now)));
        columns.push(("LABELS", |item, _| own_labels(&item["labels"])));
        columns.push(("KRI", |item, _| text(&item["kri"])));
    }
    columns
}

/// The labels that people or planes gave; not those that every resource has.
fn own_labels(all: &Value) -> String {
    let given = all.as_object().into_iter().flatten().filter(|(key, _)| !labels::COMPUTED.contains(&key.as_str()));
    let pairs: Vec<String> = given.map(|(key, value)| format!("{key}={}", text(value))).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(",") }
}

/// What only this kind has.
fn own(kind: Kind) -> &'static [(&'static str, Cell)] {
    match kind {
        Kind::Mesh => &[],
        Kind::Zone => &[
            ("ENABLED", |item, _| yes(item["zone"]["enabled"] != false && item["enabled"] != false)),
            ("ONLINE", |item, _| {
                // Only overviews tell; the events of a watch have none.
                if item["zoneInsight"].is_null() { "-".to_owned() } else { yes(item["zoneInsight"]["online"] == true) }
            }),
            ("SYNC", |item, _| sync(&item["zoneInsight"]["sync"])),
        ],
        Kind::Dataplane => &[
            ("ADDRESS", |item, _| text(&item["networking"]["address"])),
            ("INBOUNDS", |item, _| listed(&item["networking"]["inbound"], inbound)),
            ("LISTENERS", |item, _| {
                listed(&item["networking"]["listeners"], |one| format!("{}:{}", text(&one["type"]), one["port"]))
            }),
        ],
        Kind::MeshService => &[
            ("PORTS", |item, _| {
                listed(&item["spec"]["ports"], |port| format!("{}/{}", port["port"], text(&port["appProtocol"])))
            }),
            ("STATE", |item, _| text(&item["spec"]["state"])),
            ("VIP", |item, _| listed(&item["status"]["vips"], |vip| text(&vip["ip"]))),
            ("HOSTNAMES", |item, _| listed(&item["status"]["addresses"], |address| text(&address["hostname"]))),
        ],
        Kind::MeshZoneAddress => &[("ADDRESS", |item, _| format!("{}:{}", text(&item["spec"]["address"]), item["spec"]["port"]))],
        Kind::HostnameGenerator => &[("TEMPLATE", |item, _| text(&item["spec"]["template"]))],
        Kind::MeshIdentity => &[("PROVIDER", |item, _| text(&item["spec"]["provider"]["type"]))],
        Kind::MeshTrust => &[
            ("TRUST DOMAIN", |item, _| text(&item["spec"]["trustDomain"])),
            ("CAS", |item, _| item["spec"]["caBundles"].as_array().map_or(0, Vec::len).to_string()),
        ],
        Kind::MeshTrafficPermission
        | Kind::MeshTimeout
        | Kind::MeshTls
        | Kind::MeshLoadBalancingStrategy
        | Kind::MeshPassthrough => &[("TARGET", |item, _| target(&item["spec"]["targetRef"]))],
        Kind::MeshExternalService => &[
            ("PORT", |item, _| format!("{}/{}", item["spec"]["match"]["port"], text(&item["spec"]["match"]["protocol"]))),
            ("ENDPOINTS", |item, _| {
                listed(&item["spec"]["endpoints"], |one| format!("{}:{}", text(&one["address"]), one["port"]))
            }),
        ],
        Kind::MeshMultiZoneService => &[
            ("PORTS", |item, _| {
                listed(&item["spec"]["ports"], |port| format!("{}/{}", port["port"], text(&port["appProtocol"])))
            }),
            ("SERVICES", |item, _| {
                listed(&item["status"]["meshServices"], |one| format!("{}.{}", text(&one["name"]), text(&one["zone"])))
            }),
            ("VIP", |item, _| listed(&item["status"]["vips"], |vip| text(&vip["ip"]))),
            ("HOSTNAMES", |item, _| listed(&item["status"]["addresses"], |address| text(&address["hostname"]))),
        ],
        Kind::Workload | Kind::Secret | Kind::GlobalSecret | Kind::AccessRole | Kind::AccessRoleBinding => &[],
        Kind::VipAllocation => &[
            ("SERVICE", |item, _| format!("{}/{}", text(&item["spec"]["serviceKind"]), text(&item["spec"]["serviceName"]))),
            ("IP", |item, _| text(&item["spec"]["ip"])),
        ],
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn yes(it_is: bool) -> String {
    if it_is { "yes" } else { "no" }.to_owned()
}

fn listed(list: &Value, show: fn(&Value) -> String) -> String {
    let items: Vec<String> = list.as_array().into_iter().flatten().map(show).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

fn inbound(inbound: &Value) -> String {
    let state = inbound["state"].as_str().filter(|state| *state != "Ready").map(|state| format!(" ({state})"));
    format!("{}/{}{}", inbound["port"], inbound["protocol"].as_str().unwrap_or("tcp"), state.unwrap_or_default())
}

fn target(target: &Value) -> String {
    let kind = target["kind"].as_str().unwrap_or("Mesh");
    let labels = target["labels"].as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)));
    let labels: Vec<String> = labels.collect();
    if labels.is_empty() { kind.to_owned() } else { format!("{kind}[{}]", labels.join(",")) }
}

/// How far a zone is, in words.
pub fn sync(sync: &Value) -> String {
    let revision = &sync["revision"];
    match sync["state"].as_str() {
        Some("InSync") if sync["digestEqual"] == true => format!("in sync at revision {revision}, digest equal"),
        Some("InSync") => format!("in sync at revision {revision}"),
        Some("Behind") => format!("behind: at revision {revision} of {}", sync["head"]),
        Some("Differs") => format!("differs at revision {revision}: {}", listed(&sync["differing"], text)),
        Some("Unknown") => format!("unknown; last at revision {revision} of {}", sync["head"]),
        Some("OtherHistory") => "has another history; an operator must decide".to_owned(),
        Some("Restoring") => "takes its own resources back from global".to_owned(),
        Some(other) => other.to_owned(),
        None => "-".to_owned(),
    }
}

/// How long ago something was, in its largest unit.
pub fn age(created: &Value, now: Timestamp) -> String {
    let Some(created) = created.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else { return "-".to_owned() };
    let seconds = (now - created).num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: Kind, item: Value, expected: &str) {
        let mut out = Vec::new();
        table(kind, Listing::Table, &[item], "2026-01-01T01:00:00Z".parse().unwrap()).print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = text.lines().nth(1).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn rows_say_what_matters() {
        let created = "2026-01-01T00:00:00Z";
        check(Kind::Mesh, json!({"name": "default", "creationTime": created}), "default 60m");
        check(
            Kind::Zone,
            json!({"name": "gcp", "zone": {"enabled": true}, "zoneInsight": {"online": true, "sync": {"state": "InSync", "revision": 7}}}),
            "gcp yes yes in sync at revision 7 -",
        );
        check(
            Kind::MeshService,
            json!({
                "name": "api", "mesh": "default", "labels": {"kuma.io/zone": "gcp"}, "creationTime": created,
                "spec": {"ports": [{"port": 8443, "appProtocol": "tcp"}], "state": "Available"},
                "status": {"vips": [{"ip": "241.0.0.1"}], "addresses": [{"hostname": "api.gcp.mesh"}]},
            }),
            "default api 8443/tcp Available 241.0.0.1 api.gcp.mesh gcp 60m",
        );
        check(
            Kind::MeshTls,
            json!({"name": "a", "mesh": "default", "spec": {"targetRef": {"kind": "Dataplane", "labels": {"app": "x"}}}}),
            "default a Dataplane[app=x] - -",
        );
    }

    #[test]
    fn wide_tables_have_labels_and_kri() {
        let item = json!({
            "type": "MeshTimeout", "mesh": "default", "name": "all", "creationTime": "2026-01-01T00:00:00Z",
            "modificationTime": "2026-01-01T00:59:30Z", "kri": "kri_mt_default___all_",
            "labels": {"team": "shop", "kuma.io/origin": "global", "kuma.io/display-name": "all", "kuma.io/mesh": "default"},
            "spec": {"targetRef": {"kind": "Dataplane", "labels": {"app": "web"}}},
        });
        let short = json!({"mesh": "default", "name": "b", "spec": {}});
        let mut out = Vec::new();
        table(Kind::MeshTimeout, Listing::Wide, &[item, short], "2026-01-01T01:00:00Z".parse().unwrap()).print(&mut out).unwrap();
        let expected = "\
MESH     NAME  TARGET              ZONE  AGE  CHANGED  LABELS     KRI
default  all   Dataplane[app=web]  -     60m  30s      team=shop  kri_mt_default___all_
default  b     Mesh                -     -    -        -          -
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
