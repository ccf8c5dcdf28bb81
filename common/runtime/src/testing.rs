//! Ports for tests and benches: programs that are told their address must find it free.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{Mutex, PoisonError},
};

/// Below Linux' ephemeral ports (32768 and up by default), so that no outgoing connection and no bind to port 0 takes
/// one between the claim and the use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where a claim is kept: an address of the loopback network at which nobody serves. The kernel hands it out once on a
/// machine, and takes it back when the process ends, however it ends.
const CLAIMS: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

static CLAIMED: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

/// An address on loopback that nobody uses, over TCP or UDP, and that no other caller on this machine gets while this
/// process lives.
///
/// # Errors
/// If there is none.
pub fn free_address() -> io::Result<SocketAddr> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = rand::random_range(PORTS);
    let port = (first..PORTS.end).chain(PORTS.start..first).find_map(|port| {
        let claim = TcpListener::bind((CLAIMS, port)).ok()?;
        let at = (Ipv4Addr::LOCALHOST, port);
        let unused = TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok();
        unused.then(|| claimed.push(claim))?;
        Some(port)
    });
    let port = port.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port is left"))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        let given: BTreeSet<SocketAddr> = (0..500).map(|_| free_address().unwrap()).collect();
        assert_eq!(given.len(), 500);
        assert!(given.iter().all(|address| TcpListener::bind(address).is_ok()));
    }
}
