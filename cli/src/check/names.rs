//! The names of all zones, compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Point;

/// Lines for one zone that say the same of many names; beyond them there is a number.
const LINES_MAX: usize = 20;

/// A name of a mesh.
type Key<'a> = (&'a str, &'a str);

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leads<'a> {
    service: &'a str,
    zone: &'a str,
    by: By,
}

/// Who should have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A generator of one zone made it: that zone alone.
    Zone,
    /// A generator of global: every zone.
    Everywhere,
    /// A generator of global for services that come from elsewhere: all but the service's own zone.
    Elsewhere,
    /// A generator of global for each zone's own services.
    Home,
}

impl By {
    /// `generators` are global's.
    fn of(generator: &Value, generators: &[Value]) -> Self {
        let known = generators.iter().find(|known| generator.is_string() && known["name"] == *generator);
        let Some(known) = known else { return Self::Zone };
        // Each zone presents its own services with `zone`, and all others with `global`.
        match known["spec"]["selector"]["meshService"]["matchLabels"]["kuma.io/origin"].as_str() {
            None => Self::Everywhere,
            Some("global") => Self::Elsewhere,
            Some(_) => Self::Home,
        }
    }
}

/// Judges what the zones said. `zones` and `generators` are what global knows.
pub(super) fn judge(said: &BTreeMap<String, Value>, zones: &[Value], generators: &[Value]) -> Vec<Point> {
    let names: BTreeMap<&str, BTreeMap<Key<'_>, Leads<'_>>> =
        said.iter().map(|(zone, answer)| (zone.as_str(), read(answer, generators))).collect();
    let disabled: BTreeSet<&str> =
        zones.iter().filter(|zone| zone["zone"]["enabled"] == false).filter_map(|zone| zone["name"].as_str()).collect();
    let mut points = Vec::new();
    for (zone, answer) in said {
        points.push(count(zone, answer, &names[zone.as_str()]));
        let missing = missing(zone, answer, &names, &disabled);
        points.extend(shortened(missing, |more| {
            Point::fail(format!("zone {zone} names"), format!("{more} more names are missing"))
        }));
        let notes = without(zone, answer);
        points.extend(shortened(notes, |more| Point::note(format!("zone {zone} names"), format!("{more} more have no name"))));
    }
    let different = different(&names);
    points.extend(shortened(different, |more| Point::note("names", format!("{more} more names lead to different services"))));
    points
}

fn read<'a>(answer: &'a Value, generators: &[Value]) -> BTreeMap<Key<'a>, Leads<'a>> {
    let mut names = BTreeMap::new();
    for mesh in answer["meshes"].as_array().into_iter().flatten() {
        for name in mesh["names"].as_array().into_iter().flatten() {
            let (Some(of), Some(hostname)) = (mesh["mesh"].as_str(), name["hostname"].as_str()) else { continue };
            let (service, zone) = (name["service"].as_str().unwrap_or("?"), name["zone"].as_str().unwrap_or("?"));
            names.insert((of, hostname), Leads { service, zone, by: By::of(&name["generator"], generators) });
        }
    }
    names
}

/// How many names a zone has, and how many proxies to use them.
fn count(zone: &str, answer: &Value, names: &BTreeMap<Key<'_>, Leads<'_>>) -> Point {
    let meshes = answer["meshes"].as_array().into_iter().flatten();
    let (mut known, mut runners, mut refusing) = (0, 0, 0);
    for mesh in meshes {
        let proxies = &mesh["proxies"];
        known += proxies["known"].as_u64().unwrap_or(0);
        runners += proxies["runners"].as_u64().unwrap_or(0);
        refusing += proxies["refusing"].as_u64().unwrap_or(0);
    }
    let what = format!("zone {zone} names");
    let mut detail = format!("{} names, for {runners} of {known} proxies", names.len());
    if refusing == 0 {
        return Point::ok(what, detail);
    }
    detail.push_str(&format!("; {refusing} refuse configuration: `atoll get dataplanes -A` with a context of {zone}"));
    Point::fail(what, detail)
}

/// Names that another zone has and this one should have, too.
fn missing(
    zone: &str,
    answer: &Value,
    names: &BTreeMap<&str, BTreeMap<Key<'_>, Leads<'_>>>,
    disabled: &BTreeSet<&str>,
) -> Vec<Point> {
    let own = &names[zone];
    let mut points = BTreeMap::new();
    for (other, theirs) in names.iter().filter(|(other, _)| **other != zone) {
        for ((mesh, hostname), leads) in theirs {
            // What a disabled zone has, it has for itself.
            let is_meant = match leads.by {
                By::Zone | By::Home => false,
                By::Everywhere => leads.zone == zone || !disabled.contains(leads.zone),
                By::Elsewhere => leads.zone != zone && !disabled.contains(leads.zone),
            };
            if !is_meant || own.contains_key(&(*mesh, *hostname)) {
                continue;
            }
            let why =
                reason(answer, mesh, leads).unwrap_or_else(|| format!("is {zone} in sync, and has the service come there?"));
            let what = format!("zone {zone} name {hostname}");
            let detail = format!("{other} has it for {} of {}, {zone} has not: {why}", leads.service, leads.zone);
            points.entry((*mesh, *hostname)).or_insert_with(|| Point::fail(what, detail));
        }
    }
    points.into_values().collect()
}

/// Why a zone has no name for a service.
fn reason(answer: &Value, mesh: &str, leads: &Leads<'_>) -> Option<String> {
    let without =
        losers(answer).find(|(of, loser)| *of == mesh && loser["service"] == leads.service && loser["zone"] == leads.zone);
    without.and_then(|(_, loser)| loser["message"].as_str().map(str::to_owned))
}

fn losers(answer: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let meshes = answer["meshes"].as_array().into_iter().flatten();
    meshes.flat_map(|mesh| {
        let of = mesh["mesh"].as_str().unwrap_or_default();
        mesh["without"].as_array().into_iter().flatten().map(move |loser| (of, loser))
    })
}

/// Services that a generator matches and that have no name from it.
fn without(zone: &str, answer: &Value) -> Vec<Point> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let note = |(_, loser): (&str, &Value)| {
        let detail = format!(
            "{} of {} has no name from generator {}: {}",
            text(&loser["service"]),
            text(&loser["zone"]),
            text(&loser["generator"]),
            text(&loser["message"])
        );
        Point::note(format!("zone {zone} {}", text(&loser["reason"]).to_lowercase()), detail)
    };
    losers(answer).map(note).collect()
}

/// Names that lead to one service here and to another there, as a zone's own generator may want it.
fn different(names: &BTreeMap<&str, BTreeMap<Key<'_>, Leads<'_>>>) -> Vec<Point> {
    let mut seen: BTreeMap<Key<'_>, Vec<(&str, Leads<'_>)>> = BTreeMap::new();
    for (zone, of_zone) in names {
        for (key, leads) in of_zone.iter().filter(|(_, leads)| matches!(leads.by, By::Zone | By::Everywhere)) {
            seen.entry(*key).or_default().push((zone, *leads));
        }
    }
    let mut points = Vec::new();
    for ((_, hostname), leads) in seen {
        let places: BTreeSet<_> = leads.iter().map(|(_, leads)| (leads.service, leads.zone)).collect();
        if places.len() > 1 {
            let each = leads.iter().map(|(zone, leads)| format!("to {} of {} in {zone}", leads.service, leads.zone));
            points.push(Point::note(format!("name {hostname}"), format!("leads {}", each.collect::<Vec<_>>().join(", "))));
        }
    }
    points
}

fn shortened(mut points: Vec<Point>, more: impl Fn(usize) -> Point) -> Vec<Point> {
    let beyond = points.len().saturating_sub(LINES_MAX);
    if beyond > 0 {
        points.truncate(LINES_MAX);
        points.push(more(beyond));
    }
    points
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Verdict;

    fn name(hostname: &str, service: &str, zone: &str, of_global: bool) -> Value {
        made(hostname, service, zone, of_global.then_some("all"))
    }

    fn made(hostname: &str, service: &str, zone: &str, generator: Option<&str>) -> Value {
        json!({"hostname": hostname, "vip": "241.0.0.1", "service": service, "zone": zone, "generator": generator})
    }

    fn says(names: Vec<Value>, without: Vec<Value>) -> Value {
        let proxies = json!({"known": 2, "runners": 2, "envoys": 2, "refusing": 0});
        json!({"meshes": [{"mesh": "default", "names": names, "without": without, "proxies": proxies}]})
    }

    fn judged(azure: Value, gcp: Value, zones: &[Value]) -> Vec<Point> {
        let generator =
            |name: &str, labels: Value| json!({"name": name, "spec": {"selector": {"meshService": {"matchLabels": labels}}}});
        let generators = [
            generator("all", json!({})),
            generator("home", json!({"kuma.io/origin": "zone"})),
            generator("elsewhere", json!({"kuma.io/origin": "global"})),
        ];
        judge(&[("azure".to_owned(), azure), ("gcp".to_owned(), gcp)].into(), zones, &generators)
    }

    fn lines(points: &[Point], verdict: Verdict) -> Vec<String> {
        points.iter().filter(|point| point.verdict == verdict).map(|point| format!("{}: {}", point.what, point.detail)).collect()
    }

    #[test]
    fn a_name_that_one_zone_lacks_fails_with_the_reason() {
        let api = || name("api.gcp.mesh", "api", "gcp", true);
        let points = judged(says(vec![api()], vec![]), says(vec![api()], vec![]), &[]);
        assert_eq!(lines(&points, Verdict::Ok).len(), 2);
        assert!(points[0].detail.contains("1 names, for 2 of 2 proxies"), "{points:?}");

        let points = judged(says(vec![], vec![]), says(vec![api()], vec![]), &[]);
        let failed = lines(&points, Verdict::Fail);
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].starts_with("zone azure name api.gcp.mesh: gcp has it for api of gcp, azure has not"), "{failed:?}");

        let loser =
            json!({"service": "api", "zone": "gcp", "generator": "g", "reason": "NoAddress", "message": "no address left"});
        let points = judged(says(vec![], vec![loser]), says(vec![api()], vec![]), &[]);
        assert!(lines(&points, Verdict::Fail)[0].ends_with("no address left"), "{points:?}");
        assert_eq!(lines(&points, Verdict::Note).len(), 1);
    }

    #[test]
    fn names_of_one_zone_alone_are_no_fault() {
        let own = says(vec![name("only.azure", "api", "gcp", false)], vec![]);
        assert_eq!(lines(&judged(own, says(vec![], vec![]), &[]), Verdict::Fail), Vec::<String>::new());
        let of_disabled = says(vec![name("api.azure", "api", "azure", true)], vec![]);
        let zones = [json!({"name": "azure", "zone": {"enabled": false}})];
        assert_eq!(lines(&judged(of_disabled.clone(), says(vec![], vec![]), &zones), Verdict::Fail), Vec::<String>::new());
        assert_eq!(lines(&judged(of_disabled, says(vec![], vec![]), &[]), Verdict::Fail).len(), 1);
    }

    #[test]
    fn generators_for_own_and_for_foreign_services_give_zones_different_names() {
        let of = |own: &str, other: &str| {
            says(
                vec![made("api.local", "api", own, Some("home")), made(&format!("api.{other}"), "api", other, Some("elsewhere"))],
                vec![],
            )
        };
        let points = judged(of("azure", "gcp"), of("gcp", "azure"), &[]);
        assert_eq!(lines(&points, Verdict::Ok).len(), points.len(), "{points:?}");
        let lacking = says(vec![made("api.local", "api", "gcp", Some("home"))], vec![]);
        let third = says(vec![made("api.gcp", "api", "gcp", Some("elsewhere"))], vec![]);
        let said = [("aws".to_owned(), third), ("azure".to_owned(), says(vec![], vec![])), ("gcp".to_owned(), lacking)];
        let generators =
            [json!({"name": "elsewhere", "spec": {"selector": {"meshService": {"matchLabels": {"kuma.io/origin": "global"}}}}})];
        let failed = lines(&judge(&said.into(), &[], &generators), Verdict::Fail);
        assert_eq!(failed.len(), 1, "azure lacks it, gcp is its home: {failed:?}");
        assert!(failed[0].starts_with("zone azure name api.gcp"), "{failed:?}");
    }

    #[test]
    fn collisions_and_differences_are_noted() {
        let lost =
            json!({"service": "db", "zone": "gcp", "generator": "g", "reason": "Collision", "message": "x belongs to api"});
        let azure = says(vec![name("x", "api", "azure", true)], vec![lost]);
        let points = judged(azure, says(vec![name("x", "db", "gcp", true)], vec![]), &[]);
        let notes = lines(&points, Verdict::Note);
        assert!(notes.iter().any(|note| note.starts_with("zone azure collision: db of gcp")), "{notes:?}");
        assert!(notes.iter().any(|note| note == "name x: leads to api of azure in azure, to db of gcp in gcp"), "{notes:?}");
        assert_eq!(lines(&points, Verdict::Fail), Vec::<String>::new());
    }

    #[test]
    fn many_lines_of_one_sort_are_counted() {
        let names = (0..30).map(|n| name(&format!("{n}.mesh"), "api", "gcp", true)).collect();
        let failed = lines(&judged(says(vec![], vec![]), says(names, vec![]), &[]), Verdict::Fail);
        assert_eq!(failed.len(), LINES_MAX + 1);
        assert!(failed.last().is_some_and(|line| line.contains("10 more")), "{failed:?}");
    }
}
