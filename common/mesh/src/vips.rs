//! Virtual addresses of services: one table for all meshes of a zone.
//!
//! A stored VipAllocation row decides. A service without one gets an address at once, from a hash of its key, so that a lost
//! store gives the same address; the plan then stores it. The address of a service that is gone stays reserved by its row.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use atoll_model::{Kind, Owner, Resource, ResourceKey, Timestamp, kinds::VipAllocation};
use ipnet::Ipv4Net;
use xxhash_rust::xxh3::xxh3_64;

/// One stored row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) resource: Arc<Resource>,
    pub(crate) ip: Ipv4Addr,
}

pub(crate) struct Vips {
    /// By kind of service.
    networks: BTreeMap<Kind, Ipv4Net>,
    /// The row of each service.
    rows: BTreeMap<ResourceKey, Row>,
    /// The service of each row.
    services: BTreeMap<ResourceKey, ResourceKey>,
    /// Who has a row for an address; the oldest has it.
    by_ip: BTreeMap<Ipv4Addr, BTreeSet<(Timestamp, ResourceKey)>>,
    /// Addresses in force, by service.
    held: BTreeMap<ResourceKey, Ipv4Addr>,
    taken: BTreeMap<Ipv4Addr, ResourceKey>,
    /// Rows that belong to no service: written by nobody that knows the rules.
    pub(crate) stray: BTreeMap<ResourceKey, Arc<Resource>>,
    /// Services whose row must be looked at by the plan.
    pub(crate) todo: BTreeSet<ResourceKey>,
}

/// The row of a service: its name is made of the service's kind, name and owner.
pub(crate) fn row_key(service: &ResourceKey, owner: Owner) -> ResourceKey {
    let service_owner = match service.owner {
        Owner::Global => "global".to_owned(),
        Owner::Zone(uid) => uid.to_string(),
    };
    let name = format!("{}.{}.{service_owner}", service.kind.descriptor().short, service.name);
    ResourceKey::new(Kind::VipAllocation, service.mesh.clone(), name, owner)
}

/// The spec of a service's row.
pub(crate) fn row_spec(service: &ResourceKey, ip: IpAddr) -> VipAllocation {
    VipAllocation {
        service_kind: service.kind,
        service_name: service.name.to_string(),
        service_owner: service.owner.to_string(),
        ip,
    }
}

/// The service of a row; `None` unless the row is its canonical one.
fn service_of(resource: &Resource) -> Option<(ResourceKey, Ipv4Addr)> {
    let spec: VipAllocation = resource.parse().ok()?;
    let IpAddr::V4(ip) = spec.ip else { return None };
    let owner = spec.service_owner.parse().ok()?;
    let service = ResourceKey::new(spec.service_kind, resource.key.mesh.clone(), spec.service_name, owner);
    (row_key(&service, resource.key.owner) == resource.key).then_some((service, ip))
}

impl Vips {
    /// As [`Vips::new`], with the same networks.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.networks.clone())
    }

    pub(crate) fn new(networks: impl IntoIterator<Item = (Kind, Ipv4Net)>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            rows: BTreeMap::new(),
            services: BTreeMap::new(),
            by_ip: BTreeMap::new(),
            held: BTreeMap::new(),
            taken: BTreeMap::new(),
            stray: BTreeMap::new(),
            todo: BTreeSet::new(),
        }
    }

    pub(crate) fn row(&self, service: &ResourceKey) -> Option<&Row> {
        self.rows.get(service)
    }

    /// Takes an own row; returns the services whose address may differ.
    pub(crate) fn put_row(&mut self, resource: &Arc<Resource>) -> BTreeSet<ResourceKey> {
        let mut touched = self.delete_row(&resource.key);
        match service_of(resource) {
            None => {
                self.stray.insert(resource.key.clone(), Arc::clone(resource));
            }
            Some((service, ip)) => {
                if self.networks.get(&service.kind).is_some_and(|network| network.contains(&ip)) {
                    self.by_ip.entry(ip).or_default().insert((resource.created, service.clone()));
                    self.touch(ip, &mut touched);
                }
                self.services.insert(resource.key.clone(), service.clone());
                self.rows.insert(service.clone(), Row { resource: Arc::clone(resource), ip });
                touched.insert(service);
            }
        }
        self.todo.extend(touched.iter().cloned());
        touched
    }

    /// Takes the end of an own row; returns the services whose address may differ.
    pub(crate) fn delete_row(&mut self, key: &ResourceKey) -> BTreeSet<ResourceKey> {
        let mut touched = BTreeSet::new();
        self.stray.remove(key);
        let Some(service) = self.services.remove(key) else { return touched };
        if let Some(row) = self.rows.remove(&service) {
            self.touch(row.ip, &mut touched);
            if let Some(claimants) = self.by_ip.get_mut(&row.ip) {
                claimants.remove(&(row.resource.created, service.clone()));
                if claimants.is_empty() {
                    self.by_ip.remove(&row.ip);
                }
            }
        }
        touched.insert(service);
        self.todo.extend(touched.iter().cloned());
        touched
    }

    /// The address of a service that is there, allocated now if need be; `None` when there is none left.
    pub(crate) fn address(&mut self, service: &ResourceKey) -> Option<Ipv4Addr> {
        let ip = self.stored(service).or_else(|| self.kept(service)).or_else(|| self.free(service));
        if self.held.get(service) != ip.as_ref() {
            self.release(service);
            if let Some(ip) = ip {
                self.held.insert(service.clone(), ip);
                self.taken.insert(ip, service.clone());
            }
        }
        ip
    }

    /// Forgets the address of a service that is gone; a row keeps it reserved.
    pub(crate) fn release(&mut self, service: &ResourceKey) {
        self.todo.insert(service.clone());
        if let Some(ip) = self.held.remove(service)
            && self.taken.get(&ip) == Some(service)
        {
            self.taken.remove(&ip);
        }
    }

    /// The address in force.
    pub(crate) fn held(&self, service: &ResourceKey) -> Option<Ipv4Addr> {
        self.held.get(service).copied()
    }

    fn touch(&self, ip: Ipv4Addr, touched: &mut BTreeSet<ResourceKey>) {
        touched.extend(self.taken.get(&ip).cloned());
        touched.extend(self.by_ip.get(&ip).into_iter().flatten().map(|(_, service)| service.clone()));
    }

    /// What the service's row says, if no older row says the same.
    fn stored(&self, service: &ResourceKey) -> Option<Ipv4Addr> {
        let ip = self.rows.get(service)?.ip;
        let (_, first) = self.by_ip.get(&ip)?.first()?;
        (first == service).then_some(ip)
    }

    /// What was allocated before and not stored yet, unless a row took it.
    fn kept(&self, service: &ResourceKey) -> Option<Ipv4Addr> {
        let ip = self.held.get(service)?;
        (self.taken.get(ip) == Some(service) && !self.by_ip.contains_key(ip)).then_some(*ip)
    }

    /// The first free address at or after the hash of the service's key. Network and broadcast address are never given.
    fn free(&self, service: &ResourceKey) -> Option<Ipv4Addr> {
        let network = self.networks.get(&service.kind)?;
        let size = u64::from(u32::MAX >> network.prefix_len().min(31)) + 1;
        let usable = size.saturating_sub(2).max(1);
        let first = u64::from(u32::from(network.network())) + u64::from(size > 2);
        let start = xxh3_64(service.to_string().as_bytes()) % usable;
        (0..usable).find_map(|step| {
            let ip = Ipv4Addr::from(u32::try_from(first + (start + step) % usable).ok()?);
            (!self.taken.contains_key(&ip) && !self.by_ip.contains_key(&ip)).then_some(ip)
        })
    }
}
