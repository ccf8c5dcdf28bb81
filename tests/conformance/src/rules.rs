//! `rules/` and `matchers/`: selection, order and merge of policies.
//!
//! The kinds of policies that are there are judged, as planes on Universal see them: answers that only Kubernetes gives, and
//! cases about other kinds, are skipped.
#![allow(clippy::unwrap_used)] // a case that is not as the others are fails where it stands: see `guarded`

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use atoll_model::{
    ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, Timestamp, labels as known,
    policies::mesh_timeout::Timeouts, resource::canonical_json,
};
use atoll_policy::{Policy, PolicySet, PolicySpec, SelectedPolicies, ServiceFacts};
use serde_json::{Map, Value, json};

use crate::{
    cases,
    plane::uid,
    report::{Outcome, Report},
};

/// What the golden files compare, and what we say.
enum Verdict {
    Judged { expected: Value, actual: Value },
    Skipped(&'static str),
}

const ONLY_KUBERNETES: &str = "only Kubernetes gives this answer";
const OTHER_KINDS: &str = "about kinds of policies that are not there";

pub(crate) fn judge(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    for name in ["rules", "matchers"] {
        let corpus = folder.join(name);
        for case in cases::list(&corpus)? {
            for path in case["expect"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                report.add(name, None, path, &Outcome::or_failed(read_and_judge(&corpus, &case, path)));
            }
        }
    }
    Ok(())
}

fn read_and_judge(corpus: &Path, case: &Value, path: &str) -> anyhow::Result<Outcome> {
    let mut inputs = BTreeMap::new();
    for (input, path) in case["inputs"].as_object().into_iter().flatten() {
        inputs.insert(input.clone(), cases::documents(&corpus.join(path.as_str().unwrap_or_default()))?);
    }
    let golden = cases::documents(&corpus.join(path))?.into_iter().next().unwrap_or_default();
    Ok(guarded(path, &inputs, golden))
}

/// A case that has no place where the others have one fails, and the next is judged.
fn guarded(path: &str, inputs: &BTreeMap<String, Vec<Value>>, golden: Value) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| judge_one(path, inputs, golden))) {
        Ok(Verdict::Skipped(why)) => Outcome::Skipped(why.to_owned()),
        Ok(Verdict::Judged { expected, actual }) => {
            Outcome::of((expected != actual).then(|| format!("expected {expected:#}\nactual {actual:#}")))
        }
        Err(_) => Outcome::Failed("the case is not as the others are".to_owned()),
    }
}

fn judge_one(path: &str, inputs: &BTreeMap<String, Vec<Value>>, golden: Value) -> Verdict {
    if path.contains("k8s") {
        return Verdict::Skipped(ONLY_KUBERNETES);
    }
    if path.contains("/inboundrules/") {
        inbound_order(&inputs["input"], golden)
    } else if path.contains("/outbound/testdata/sort/") {
        outgoing_order(&inputs["input"], golden)
    } else if path.contains("/resourcerules/") {
        outgoing_rules(path, &inputs["input"], golden)
    } else if path.contains("/fromrules/") {
        inbound_rules(&inputs["dataplane"][0], &inputs["policies"], golden)
    } else if path.contains("/dataplane-kind/") || path.contains("/dataplanepolicies/") {
        selection(path, &inputs["dataplane"][0], &inputs["policies"], golden)
    } else {
        Verdict::Skipped("merges `to` entries without a destination to resolve them to")
    }
}

/// A zone, whichever.
fn zone() -> Owner {
    Owner::Zone(uid("zone-1"))
}

fn resource(kind: Kind, name: &str, owner: Owner, labels: &Labels, spec: &Value) -> Resource {
    let mut resource = Resource {
        key: ResourceKey::new(kind, "default", name, owner),
        revision: Revision(1),
        version: 1,
        generation: 1,
        labels: labels.clone(),
        spec: canonical_json(spec),
        computed: None,
        hash: ContentHash::default(),
        created: Timestamp::default(),
        modified: Timestamp::default(),
    };
    resource.hash = ContentHash::of(&resource.labels, &resource.document());
    resource
}

/// The labels that a plane presents where the document's own say nothing.
#[derive(Clone, Copy)]
enum Plane {
    /// As in the document.
    AsGiven,
    Global,
    Zone(&'static str),
}

fn own_labels(document: &Value) -> Labels {
    serde_json::from_value(document.get("labels").cloned().unwrap_or_else(|| json!({}))).unwrap()
}

fn presented(document: &Value, plane: Plane) -> Labels {
    let mut labels = own_labels(document);
    let name = document["name"].as_str().unwrap();
    let mut set = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    match plane {
        Plane::AsGiven => {}
        Plane::Global => {
            set(known::ORIGIN, "global");
            set(known::DISPLAY_NAME, name);
        }
        Plane::Zone(zone) => {
            set(known::ORIGIN, "zone");
            set(known::ZONE, zone);
            set(known::DISPLAY_NAME, name);
        }
    }
    labels
}

/// The policies of the three kinds; those of zones belong to `owner`.
fn policies(documents: &[Value], plane: Plane, owner: Owner) -> Vec<Arc<Policy>> {
    let mut policies = Vec::new();
    for document in documents {
        let kind: Option<Kind> = document["type"].as_str().and_then(|kind| kind.parse().ok());
        let Some(kind) = kind.filter(|kind| kind.descriptor().policy.is_some()) else { continue };
        let labels = presented(document, plane);
        let of_zone = labels.get(known::ORIGIN).is_some_and(|origin| origin == "zone");
        // Kubernetes stores other names than people give; here there is only the given one.
        let name = labels.get(known::DISPLAY_NAME).map(String::as_str).or(document["name"].as_str()).unwrap();
        let mut resource =
            resource(kind, name, if of_zone { owner } else { Owner::Global }, &own_labels(document), &document["spec"]);
        resource.key.mesh = document["mesh"].as_str().unwrap_or("default").into();
        let zone = labels.get(known::ZONE).cloned().unwrap_or_default();
        policies.push(Arc::new(Policy::parse(&resource, labels, &zone).unwrap()));
    }
    policies
}

/// Selects every one of these policies.
fn select_all(policies: Vec<Arc<Policy>>) -> Arc<SelectedPolicies> {
    let labels: Labels = policies.iter().flat_map(|policy| policy.target.labels.clone()).collect();
    let count = policies.len();
    let selected = PolicySet::new(policies).for_proxy(&labels, zone());
    assert_eq!(selected.policies().len(), count, "some policy does not select");
    selected
}

/// A rule as the golden files of inbounds have it.
fn inbound_view(selected: &SelectedPolicies, kind: Kind, section: &str) -> Vec<Value> {
    let rules = selected.rules(kind, section).into_iter();
    rules
        .map(|rule| json!({"conf": rule.conf, "match": rule.matched, "kri": rule.policy.kri.to_string(), "index": rule.index}))
        .collect()
}

fn golden_inbound(rules: &Value) -> Vec<Value> {
    let view = |rule: &Value| {
        let origin = &rule["origin"];
        json!({"conf": rule["conf"], "match": rule["match"], "kri": origin["Resource"]["kri"], "index": origin["RuleIndex"]})
    };
    rules.as_array().unwrap().iter().map(view).collect()
}

fn inbound_order(input: &[Value], golden: Value) -> Verdict {
    let policies = policies(input, Plane::AsGiven, zone());
    let Some(kind) = policies.first().map(|policy| policy.key.kind) else { return Verdict::Skipped(OTHER_KINDS) };
    let actual = inbound_view(&select_all(policies), kind, "");
    Verdict::Judged { expected: golden_inbound(&golden["rules"]).into(), actual: actual.into() }
}

fn inbound_rules(dataplane: &Value, input: &[Value], golden: Value) -> Verdict {
    let policies = policies(input, Plane::AsGiven, zone());
    let Some(kind) = policies.first().map(|policy| policy.key.kind) else { return Verdict::Skipped(OTHER_KINDS) };
    let selected = PolicySet::new(policies).for_proxy(&own_labels(dataplane), zone());
    let networking = &dataplane["networking"];
    let sections = ["inbound", "listeners"].iter().filter_map(|list| networking[list].as_array()).flatten();
    let mut actual = Map::new();
    for section in sections {
        let port = section["port"].to_string();
        let rules = inbound_view(&selected, kind, section["name"].as_str().unwrap_or(&port));
        if !rules.is_empty() {
            actual.insert(format!("{}:{port}", networking["address"].as_str().unwrap()), rules.into());
        }
    }
    let expected: Map<_, _> = golden["InboundRules"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(inbound, rules)| (inbound.clone(), golden_inbound(rules).into()))
        .collect();
    Verdict::Judged { expected: expected.into(), actual: actual.into() }
}

fn timeout_conf(policy: &Policy, index: usize) -> Timeouts {
    match &policy.spec {
        PolicySpec::Timeout(spec) => spec.to[index].default.clone(),
        PolicySpec::Tls(_) | PolicySpec::Permission(_) | PolicySpec::Strategy(_) | PolicySpec::Passthrough(_) => {
            panic!("has no `to`")
        }
    }
}

fn outgoing_order(input: &[Value], golden: Value) -> Verdict {
    let policies = policies(input, Plane::AsGiven, zone());
    if policies.is_empty() {
        return Verdict::Skipped(OTHER_KINDS);
    }
    let selected = select_all(policies);
    let actual: Vec<_> = selected
        .timeout_entries()
        .map(|(policy, index)| json!([policy.kri.to_string(), index, policy.role as u8, timeout_conf(policy, index)]))
        .collect();
    let role = |entry: &Value| match entry["Meta"]["labels"]["kuma.io/policy-role"].as_str() {
        Some("producer") => 1,
        Some("consumer") => 2,
        Some("workload-owner") => 3,
        _ => 0,
    };
    let expected: Vec<_> = golden
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| json!([entry["Meta"]["kri"], entry["RuleIndex"], role(entry), entry["Entry"]["default"]]))
        .collect();
    Verdict::Judged { expected: expected.into(), actual: actual.into() }
}

/// What decides whether Kuma lists a destination: some entry aims at exactly it.
fn aims_at(selected: &SelectedPolicies, facts: &ServiceFacts<'_>, level: &str) -> Option<Value> {
    let origins = selected.timeout_origins_to(facts);
    let level_of = |(policy, index): &(Arc<Policy>, usize)| {
        let PolicySpec::Timeout(spec) = &policy.spec else { return "" };
        let target = &spec.to[*index].target_ref;
        match (target.labels.is_empty(), &target.section_name) {
            (true, _) => "mesh",
            (false, None) => "service",
            (false, Some(_)) => "section",
        }
    };
    origins.iter().any(|origin| level_of(origin) == level).then(|| {
        let names: Vec<_> = origins.iter().map(|(policy, index)| json!([policy.key.name, index])).collect();
        json!({"conf": [*selected.timeouts_to(facts)], "origin": names})
    })
}

fn outgoing_rules(path: &str, input: &[Value], golden: Value) -> Verdict {
    let file = path.rsplit('/').next().unwrap();
    let (plane, zone_name) = if file.starts_with("global") { (Plane::Global, "") } else { (Plane::Zone("zone-uni"), "zone-uni") };
    let policies = policies(input, plane, zone());
    if policies.is_empty() {
        return Verdict::Skipped(OTHER_KINDS);
    }
    let selected = select_all(policies);
    let mut actual = Map::new();
    for document in input {
        let name = document["name"].as_str().unwrap();
        let labels = presented(document, plane);
        match document["type"].as_str() {
            Some("Mesh") => {
                let rule = aims_at(&selected, &facts(Kind::Mesh, &labels, "", 0), "mesh");
                actual.extend(rule.map(|rule| (format!("kri_m____{name}_"), rule)));
            }
            Some("MeshService") => {
                let kri = format!("kri_msvc_{}_{zone_name}__{name}_", document["mesh"].as_str().unwrap());
                let rule = aims_at(&selected, &facts(Kind::MeshService, &labels, "", 0), "service");
                actual.extend(rule.map(|rule| (kri.clone(), rule)));
                for port in document["spec"]["ports"].as_array().unwrap() {
                    let number = port["port"].to_string();
                    let section = port["name"].as_str().unwrap_or(&number);
                    let facts = facts(Kind::MeshService, &labels, section, number.parse().unwrap());
                    let rule = aims_at(&selected, &facts, "section");
                    actual.extend(rule.map(|rule| (format!("{kri}{section}"), rule)));
                }
            }
            _ => {}
        }
    }
    Verdict::Judged { expected: golden_outgoing(&golden).into(), actual: actual.into() }
}

fn facts<'a>(kind: Kind, labels: &'a Labels, section: &'a str, port: u16) -> ServiceFacts<'a> {
    ServiceFacts { kind, labels, section, port }
}

/// The rules of meshes and services; those of routes are another kind's.
fn golden_outgoing(golden: &Value) -> Map<String, Value> {
    let rules = golden.as_object().unwrap().iter().filter(|(kri, _)| !kri.starts_with("kri_mhttpr_"));
    let origin = |origin: &Value| {
        let resource = &origin["Resource"];
        let name = resource["Labels"]["kuma.io/display-name"].as_str().or(resource["Name"].as_str());
        json!([name, origin["RuleIndex"]])
    };
    rules
        .map(|(kri, rule)| {
            let origins: Vec<_> = rule["Origin"].as_array().unwrap().iter().map(origin).collect();
            (kri.clone(), json!({"conf": rule["Conf"], "origin": origins}))
        })
        .collect()
}

fn selection(path: &str, dataplane: &Value, input: &[Value], golden: Value) -> Verdict {
    let plane = match path.rsplit('/').next().unwrap() {
        file if file.starts_with("policy-from-global") => Plane::Global,
        "uni-zone.golden.yaml" => Plane::Zone("zone-uni"),
        _ => Plane::AsGiven,
    };
    let policies = policies(input, plane, zone());
    if policies.is_empty() {
        return Verdict::Skipped(OTHER_KINDS);
    }
    let kind = policies[0].key.kind;
    let selected = PolicySet::new(policies).for_proxy(&own_labels(dataplane), zone());
    let of_kind = selected.policies().iter().filter(|policy| policy.key.kind == kind);
    let spec = |policy: &Policy| match &policy.spec {
        PolicySpec::Timeout(spec) => json!(spec),
        PolicySpec::Tls(spec) => json!(spec),
        PolicySpec::Permission(spec) => json!(spec),
        PolicySpec::Strategy(spec) => json!(spec),
        PolicySpec::Passthrough(spec) => json!(spec),
    };
    let actual: Vec<_> = of_kind.map(|policy| json!([policy.key.name, spec(policy)])).collect();
    let name = |item: &Value| item["labels"]["kuma.io/display-name"].as_str().or(item["name"].as_str()).map(str::to_owned);
    let items = golden["items"].as_array().unwrap().iter();
    let expected: Vec<_> = items.map(|item| json!([name(item), item["spec"]])).collect();
    Verdict::Judged { expected: expected.into(), actual: actual.into() }
}
