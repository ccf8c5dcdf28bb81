//! Socket addresses and durations as Envoy writes them.

use std::{net::SocketAddr, time::Duration};

use atoll_envoy_api::envoy::config::core::v3::{Address, SocketAddress, TcpKeepalive, address, socket_address::PortSpecifier};
use atoll_model::duration::GoDuration;

/// An IP address, or a name, with a port.
pub(crate) fn socket(host: &str, port: u16) -> Address {
    let socket = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

/// An IP address with a port.
pub(crate) fn of(address: SocketAddr) -> Address {
    socket(&address.ip().to_string(), address.port())
}

/// A duration; negative ones are zero.
pub(crate) fn duration(duration: GoDuration) -> prost_types::Duration {
    from_std(duration.to_std())
}

pub(crate) fn from_std(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        // Below 10^9.
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// For every socket of a hop between zones, at both of its ends: a flow is never idle for so long that a cloud forgets it, and
/// where one is dropped without a word, that is known after half a minute.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive { keepalive_time: Some(15), keepalive_interval: Some(5), keepalive_probes: Some(3) }
}
