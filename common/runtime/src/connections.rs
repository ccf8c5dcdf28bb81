//! How many connections there may be at once, in all and from one source.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts connections. Clones count together.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    all: usize,
    per_source: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    sources: BTreeMap<IpAddr, usize>,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Counts>,
    source: IpAddr,
}

impl Connections {
    /// At most `all`, and `per_source` from one address (of IPv6: from one /64).
    pub fn new(all: usize, per_source: usize) -> Self {
        Self(Arc::new(Counts { all, per_source, open: Mutex::default() }))
    }

    /// A place for one more; none when there are as many as there may be.
    pub fn admit(&self, address: IpAddr) -> Option<Slot> {
        let source = source(address);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.sources.get(&source).copied().unwrap_or_default();
        if open.all >= self.0.all || here >= self.0.per_source {
            return None;
        }
        open.all += 1;
        open.sources.insert(source, here + 1);
        Some(Slot { counts: Arc::clone(&self.0), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        match open.sources.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(open.sources.remove(&self.source)),
        }
    }
}

/// Who has one address of IPv6 has its whole /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_source_and_in_all_and_come_back() {
        let connections = Connections::new(3, 2);
        let [a, a2, b, c]: [IpAddr; 4] = ["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let held = [connections.admit(a), connections.admit(a2)];
        assert!(held.iter().all(Option::is_some));
        assert!(connections.admit(a).is_none(), "one /64 is one source");
        let other = connections.admit(b);
        assert!(other.is_some() && connections.admit(c).is_none(), "three in all");
        drop(held);
        assert!(connections.admit(a).is_some() && connections.admit(c).is_some());
    }
}
