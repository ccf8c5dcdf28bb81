//! MeshTimeout: absent fields get the defaults that hold without any policy. Inbounds wait longer than outbounds, so that it is
//! the caller's timeout that is seen.

use atoll_model::{duration::GoDuration, policies::mesh_timeout::Timeouts};

/// Timeouts with nothing absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) connect: GoDuration,
    pub(crate) idle: GoDuration,
    pub(crate) request: GoDuration,
    pub(crate) stream_idle: GoDuration,
    pub(crate) max_stream: GoDuration,
    pub(crate) max_connection: GoDuration,
    pub(crate) request_headers: GoDuration,
}

/// Towards destinations, without any policy.
pub(crate) const OUTBOUND: Effective = Effective {
    connect: GoDuration::from_secs(5),
    idle: GoDuration::from_secs(3_600),
    request: GoDuration::from_secs(15),
    stream_idle: GoDuration::from_secs(1_800),
    max_stream: GoDuration(0),
    max_connection: GoDuration(0),
    request_headers: GoDuration(0),
};

/// From callers, without any policy.
pub(crate) const INBOUND: Effective = Effective {
    connect: GoDuration::from_secs(10),
    idle: GoDuration::from_secs(7_200),
    request: GoDuration(0),
    stream_idle: GoDuration::from_secs(3_600),
    ..OUTBOUND
};

/// Towards a destination.
pub(crate) fn outbound(timeouts: &Timeouts) -> Effective {
    over(timeouts, OUTBOUND)
}

/// From callers.
pub(crate) fn inbound(timeouts: &Timeouts) -> Effective {
    over(timeouts, INBOUND)
}

fn over(timeouts: &Timeouts, default: Effective) -> Effective {
    let http = timeouts.http.clone().unwrap_or_default();
    Effective {
        connect: timeouts.connection_timeout.unwrap_or(default.connect),
        idle: timeouts.idle_timeout.unwrap_or(default.idle),
        request: http.request_timeout.unwrap_or(default.request),
        stream_idle: http.stream_idle_timeout.unwrap_or(default.stream_idle),
        max_stream: http.max_stream_duration.unwrap_or(default.max_stream),
        max_connection: http.max_connection_duration.unwrap_or(default.max_connection),
        request_headers: http.request_headers_timeout.unwrap_or(default.request_headers),
    }
}
