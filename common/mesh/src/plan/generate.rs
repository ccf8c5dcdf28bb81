//! MeshServices from Dataplanes: one for each workload.

use std::collections::BTreeSet;

use atoll_model::{
    Labels, Resource, Timestamp,
    condition::Condition,
    kinds::{
        MeshService,
        dataplane::{Inbound, InboundState},
        hostname_generator::LabelSelector,
        mesh_service::{Port, Selector, TargetPort},
    },
    labels, names,
    resource::canonical_json,
};

use super::{Grace, Plan, Planned, SERVICE_GENERATOR, grace, is_managed_by, with_grace, without_grace};
use crate::{
    context::Context,
    realm::{Realm, fault},
};

/// The ports that one Dataplane gives its workload's service.
struct Contribution {
    dataplane: String,
    ports: Vec<Port>,
}

/// What is stored under the name of a workload.
enum Stored<'a> {
    Nothing,
    /// An operator's, or one that cannot be read: it is left alone.
    Foreign,
    Generated(&'a Resource, &'a MeshService),
}

impl Realm {
    pub(crate) fn plan_workloads(&mut self, context: &Context, now: Timestamp, plan: &mut Plan) {
        let todo = std::mem::take(&mut self.todo.workloads);
        for workload in todo {
            if self.plan_workload(context, &workload, now, plan) {
                self.todo.workloads.insert(workload);
            }
        }
    }

    /// Plans the service of a workload; whether it must be looked at again.
    fn plan_workload(&self, context: &Context, workload: &str, now: Timestamp, plan: &mut Plan) -> bool {
        if !names::is_rfc1035_label(workload) {
            return false;
        }
        let contributions = self.contributions(workload);
        let stored = self.stored_service(context, workload);
        let key = self.own_service_key(context, workload);
        match (contributions.is_empty(), stored) {
            (_, Stored::Foreign) | (true, Stored::Nothing) => false,
            (false, Stored::Nothing) => {
                let labels = Labels::from([(labels::MANAGED_BY.to_owned(), SERVICE_GENERATOR.to_owned())]);
                let spec = canonical_json(&generated(workload, choose(&contributions, None)));
                plan.writes.push(Planned::Put { key, labels, spec, version: None });
                true
            }
            (false, Stored::Generated(resource, spec)) => {
                let wanted = generated(workload, choose(&contributions, Some(&spec.ports)));
                let labels = without_grace(&resource.labels);
                let done = (&wanted.selector, &wanted.ports) == (&spec.selector, &spec.ports) && labels == resource.labels;
                if !done {
                    let version = Some(resource.version);
                    plan.writes.push(Planned::Put { key, labels, spec: canonical_json(&wanted), version });
                }
                !done
            }
            (true, Stored::Generated(resource, _)) => {
                plan_end(resource, now, plan);
                true
            }
        }
    }

    /// Whether the Dataplanes of a workload disagree with what its service says.
    pub(crate) fn port_conflict(&self, context: &Context, workload: &str) -> Option<Condition> {
        let contributions = self.contributions(workload);
        let existing = match self.stored_service(context, workload) {
            Stored::Foreign => return None,
            Stored::Nothing => None,
            Stored::Generated(_, spec) => Some(&spec.ports),
        };
        let chosen = normal(choose(&contributions, existing));
        let others = contributions.iter().filter(|contribution| normal(&contribution.ports) != chosen);
        let names: Vec<_> = others.map(|contribution| contribution.dataplane.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let message = format!("these Dataplanes have other ports than the service: {}", names.join(", "));
        Some(fault("PortsAgree", "Conflict", message))
    }

    /// What the Dataplanes of a workload say, oldest first.
    fn contributions(&self, workload: &str) -> Vec<Contribution> {
        let wanted = Labels::from([(labels::WORKLOAD.to_owned(), workload.to_owned())]);
        let mut dataplanes = self.dataplanes.with_labels(&wanted);
        dataplanes.sort_by_key(|dataplane| (dataplane.resource.created, dataplane.resource.key.name.clone()));
        let contributions = dataplanes.into_iter().map(|dataplane| Contribution {
            dataplane: dataplane.resource.key.name.to_string(),
            ports: ports(dataplane.networking().map(|networking| networking.inbound.as_slice()).unwrap_or_default()),
        });
        contributions.filter(|contribution| !contribution.ports.is_empty()).collect()
    }

    fn stored_service(&self, context: &Context, workload: &str) -> Stored<'_> {
        match self.services.get(&self.own_service_key(context, workload)) {
            None => Stored::Nothing,
            Some(entry) => match &entry.spec {
                Some(spec) if is_managed_by(&entry.resource.labels, SERVICE_GENERATOR) => {
                    Stored::Generated(&entry.resource, spec)
                }
                Some(_) | None => Stored::Foreign,
            },
        }
    }
}

/// The last Dataplane is gone: the grace period begins, runs, or is over.
fn plan_end(resource: &Resource, now: Timestamp, plan: &mut Plan) {
    let (key, version) = (resource.key.clone(), Some(resource.version));
    match grace(&resource.labels, now) {
        Grace::Absent => {
            let labels = with_grace(&resource.labels, now);
            plan.writes.push(Planned::Put { key, labels, spec: resource.spec.clone(), version });
        }
        Grace::Until(end) => plan.wake_at(end),
        Grace::Over => plan.writes.push(Planned::Delete { key, version }),
    }
}

/// The existing ports while a Dataplane agrees with them, else those of the oldest.
fn choose<'a>(contributions: &'a [Contribution], existing: Option<&'a Vec<Port>>) -> &'a [Port] {
    let agreed =
        existing.filter(|existing| contributions.iter().any(|contribution| normal(&contribution.ports) == normal(existing)));
    match (agreed, contributions.first()) {
        (Some(existing), _) => existing,
        (None, Some(oldest)) => &oldest.ports,
        (None, None) => &[],
    }
}

/// Ports without their order, which means nothing.
fn normal(ports: &[Port]) -> BTreeSet<(u16, String, String)> {
    ports.iter().map(|port| (port.port, port.section(), port.app_protocol.clone())).collect()
}

fn generated(workload: &str, ports: &[Port]) -> MeshService {
    let match_labels = Labels::from([(labels::WORKLOAD.to_owned(), workload.to_owned())]);
    let selector = Selector { dataplane_labels: Some(LabelSelector { match_labels }), dataplane_ref: None };
    MeshService { selector, ports: ports.to_vec(), ..MeshService::default() }
}

/// One port for each inbound that has a listener.
fn ports(inbounds: &[Inbound]) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for inbound in inbounds.iter().filter(|inbound| inbound.state != Some(InboundState::Ignored)) {
        let Ok(number) = u16::try_from(inbound.port) else { continue };
        let port = Port {
            port: number,
            name: Some(inbound.section()),
            target_port: Some(TargetPort::Number(number)),
            app_protocol: inbound.protocol().to_owned(),
        };
        let same = |other: &Port| other.port == port.port && other.app_protocol == port.app_protocol;
        if !ports.iter().any(same) {
            ports.push(port);
        }
    }
    ports
}
