//! Where a proxy binds the destinations of its mesh.
//!
//! With redirection, applications dial a service's virtual address (VIP) and the proxy listens at the VIP itself. Where several
//! proxies share one machine without redirection (`--bind-outbounds CIDR`), two of them must not listen at the same address
//! (the kernel would share its connections between them), so each proxy has a range of its own, and its DNS answers with
//! addresses of that range.
//!
//! Rule: a VIP gets the address with the VIP's low bits (16, or what the range leaves). If that one is taken, reserved, or the
//! range's first or last, the next free one, around the range. VIPs that appear together are taken in their order; a VIP keeps
//! its address while the proxy lives, also while the VIP is gone, and an address of a VIP that is gone is given away only when
//! no other is left. So the result follows from the order in which VIPs appeared, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use super::names::NameTable;

/// The most low bits of a VIP that choose its address.
const LOW_BITS: u32 = 16;

/// Gives each VIP its address in one proxy's range. One per proxy, kept while the proxy lives.
#[derive(Clone, Debug, Default)]
pub struct Binder {
    range: Option<Range>,
    reserved: BTreeSet<IpAddr>,
    by_vip: BTreeMap<IpAddr, IpAddr>,
    /// Addresses by which VIP holds them.
    holders: BTreeMap<IpAddr, IpAddr>,
}

/// What one proxy listens at for its outbounds, and what its DNS says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// (VIP, port) → where the proxy listens. Empty without a range: it listens at the VIP.
    pub sockets: BTreeMap<(IpAddr, u16), SocketAddr>,
    /// Name → what DNS answers.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// VIPs without an address, because the range is full: they are not served by this proxy, nor are their names.
    pub unbound: BTreeSet<IpAddr>,
}

impl Bound {
    /// The table for the proxy's DNS; `shapes` are those of the mesh's names.
    pub fn table(&self, ttl_seconds: u32, shapes: &Arc<BTreeSet<String>>) -> NameTable {
        NameTable { records: self.names.clone(), ttl_seconds, shapes: Arc::clone(shapes) }
    }
}

impl Binder {
    /// Binds within `range`, never at one of the `reserved` addresses (the proxy's own); without a range at the VIPs themselves.
    pub fn new(range: Option<IpNet>, reserved: impl IntoIterator<Item = IpAddr>) -> Self {
        let reserved = reserved.into_iter().collect();
        Self { range: range.map(Range::new), reserved, ..Self::default() }
    }

    /// Binds what a mesh has now: each service's VIP with its ports, and the VIP of each name.
    pub fn bind<'a>(
        &mut self,
        services: impl IntoIterator<Item = (IpAddr, u16)>,
        names: impl IntoIterator<Item = (&'a str, IpAddr)>,
    ) -> Bound {
        let sockets: BTreeSet<(IpAddr, u16)> = services.into_iter().collect();
        let names: BTreeMap<&str, IpAddr> = names.into_iter().collect();
        let vips: BTreeSet<IpAddr> = sockets.iter().map(|(vip, _)| *vip).chain(names.values().copied()).collect();
        let unbound = vips.iter().copied().filter(|vip| self.address(*vip, &vips).is_none()).collect();
        Bound {
            sockets: match self.range {
                None => BTreeMap::new(),
                Some(_) => sockets.into_iter().filter_map(|socket| Some((socket, self.socket(socket)?))).collect(),
            },
            names: names.into_iter().filter_map(|(name, vip)| Some((name.to_lowercase(), vec![self.known(vip)?]))).collect(),
            unbound,
        }
    }

    fn socket(&self, (vip, port): (IpAddr, u16)) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.known(vip)?, port))
    }

    /// The address that a VIP has.
    fn known(&self, vip: IpAddr) -> Option<IpAddr> {
        if self.range.is_none() { Some(vip) } else { self.by_vip.get(&vip).copied() }
    }

    /// The address of a VIP; a new VIP gets one. `live` are the VIPs that must keep theirs.
    fn address(&mut self, vip: IpAddr, live: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let Some(range) = self.range else { return Some(vip) };
        if let Some(address) = self.by_vip.get(&vip) {
            return Some(*address);
        }
        let usable = |address: &IpAddr| !self.reserved.contains(address);
        let never_used = || range.from(vip).filter(usable).find(|address| !self.holders.contains_key(address));
        let given_up = || range.from(vip).filter(usable).find(|address| !live.contains(&self.holders[address]));
        let address = never_used().or_else(given_up)?;
        if let Some(former) = self.holders.insert(address, vip) {
            self.by_vip.remove(&former);
        }
        self.by_vip.insert(vip, address);
        Some(address)
    }
}

/// A range of addresses, as numbers.
#[derive(Clone, Copy, Debug)]
struct Range {
    v4: bool,
    network: u128,
    /// Addresses in it that the low bits of a VIP can choose.
    size: u128,
}

impl Range {
    fn new(range: IpNet) -> Self {
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(LOW_BITS);
        let (v4, network) = match range.network() {
            IpAddr::V4(address) => (true, u128::from(u32::from(address))),
            IpAddr::V6(address) => (false, u128::from(address)),
        };
        Self { v4, network, size: 1 << host_bits }
    }

    /// Every address of the range but its first and last, the one with the VIP's low bits first. A range of one or two
    /// addresses has neither.
    fn from(self, vip: IpAddr) -> impl Iterator<Item = IpAddr> {
        let low = match vip {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let ends = self.size > 2;
        (0..self.size)
            .map(move |step| (low + step) % self.size)
            .filter(move |offset| !ends || (*offset != 0 && *offset != self.size - 1))
            .map(move |offset| self.address(offset))
    }

    fn address(self, offset: u128) -> IpAddr {
        let number = self.network + offset;
        if self.v4 {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)))
        } else {
            IpAddr::V6(Ipv6Addr::from(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn binder(range: &str) -> Binder {
        Binder::new(Some(range.parse().unwrap()), [ip("127.21.0.1")])
    }

    fn addresses(binder: &mut Binder, vips: &[&str]) -> Vec<String> {
        let bound = binder.bind(vips.iter().map(|vip| (ip(vip), 80)), []);
        vips.iter()
            .map(|vip| bound.sockets.get(&(ip(vip), 80)).map_or("-".to_owned(), |socket| socket.ip().to_string()))
            .collect()
    }

    #[test]
    fn the_low_bits_of_the_vip_choose() {
        assert_eq!(addresses(&mut binder("127.21.0.0/16"), &["241.7.3.9", "241.0.255.1"]), ["127.21.3.9", "127.21.255.1"]);
    }

    #[test]
    fn a_collision_takes_the_next_free_one() {
        let found = addresses(&mut binder("127.21.0.0/16"), &["241.1.3.9", "241.2.3.9", "241.3.3.10"]);
        assert_eq!(found, ["127.21.3.9", "127.21.3.10", "127.21.3.11"]);
    }

    #[test]
    fn the_ends_of_the_range_and_the_proxys_own_addresses_are_left_out() {
        let found = addresses(&mut binder("127.21.0.0/16"), &["241.0.0.0", "241.1.0.1", "241.0.255.255"]);
        assert_eq!(found, ["127.21.0.2", "127.21.0.4", "127.21.0.3"], "241.0.255.255 is before 241.1.0.1");
    }

    #[test]
    fn addresses_stay_while_others_come_and_go() {
        let mut binder = binder("127.21.0.0/16");
        assert_eq!(addresses(&mut binder, &["241.9.3.9"]), ["127.21.3.9"]);
        assert_eq!(addresses(&mut binder, &["241.1.3.9", "241.9.3.9"]), ["127.21.3.10", "127.21.3.9"]);
        assert_eq!(
            addresses(&mut binder, &["241.2.3.9"]),
            ["127.21.3.11"],
            "an address of a VIP that may return is not given away"
        );
        assert_eq!(addresses(&mut binder, &["241.1.3.9"]), ["127.21.3.10"]);
    }

    #[test]
    fn a_full_range_gives_away_what_is_gone_and_names_what_it_cannot_bind() {
        let mut binder = binder("127.21.0.0/30");
        assert_eq!(addresses(&mut binder, &["241.0.0.2", "241.0.0.6"]), ["127.21.0.2", "-"]);
        assert_eq!(addresses(&mut binder, &["241.0.0.6"]), ["127.21.0.2"]);
        let bound = binder.bind([(ip("241.0.0.2"), 80), (ip("241.0.0.6"), 80)], [("a", ip("241.0.0.2"))]);
        assert_eq!((bound.unbound, bound.names), ([ip("241.0.0.2")].into(), BTreeMap::new()));
    }

    #[test]
    fn without_a_range_names_give_the_vip() {
        let bound = Binder::new(None, []).bind([(ip("241.0.0.1"), 80)], [("API.gcp.mesh", ip("241.0.0.1"))]);
        let names = BTreeMap::from([("api.gcp.mesh".to_owned(), vec![ip("241.0.0.1")])]);
        assert_eq!(bound, Bound { names, ..Bound::default() });
    }

    proptest! {
        #[test]
        fn no_two_vips_share_an_address_and_none_moves(batches in prop::collection::vec(prop::collection::btree_set(0_u32..400, 0..20), 1..8)) {
            let mut binder = Binder::new(Some("10.0.0.0/22".parse().unwrap()), []);
            let mut seen = BTreeMap::new();
            for batch in batches {
                let vips: Vec<IpAddr> = batch.into_iter().map(|n| IpAddr::V4(Ipv4Addr::from(0xf100_0000 + (n % 7) * 0x10000 + n))).collect();
                let bound = binder.bind(vips.iter().map(|vip| (*vip, 80)), []);
                let used: BTreeSet<_> = bound.sockets.values().collect();
                prop_assert_eq!(used.len(), vips.len());
                for ((vip, _), socket) in bound.sockets {
                    prop_assert_eq!(*seen.entry(vip).or_insert(socket), socket);
                }
            }
        }
    }
}
