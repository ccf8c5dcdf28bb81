//! What an Envoy writes of each connection and request that it took: one JSON object a line, on its standard output.
//!
//! Where that output goes is decided beside the Envoy (`atoll-dp run --access-log`). No path is on the wire, so nobody who speaks
//! for a proxy can make its Envoy write somewhere else.
//!
//! Connections are logged by listeners, not by filters: so those are seen too that no filter chain took, such as a server name
//! that a zone ingress does not know. A line is written when the connection or request ends.

use atoll_envoy_api::envoy::{
    config::{
        accesslog::v3::{AccessLog, access_log::ConfigType},
        core::v3::{SubstitutionFormatString, substitution_format_string::Format},
    },
    extensions::access_loggers::stream::v3::{StdoutAccessLog, stdout_access_log::AccessLogFormat},
};
use prost_types::{Struct, Value, value::Kind};

use crate::encoded::pack;

/// Field and command operator of every line. What is not there (no TLS, no upstream) is left out of the line.
const BOTH: &[(&str, &str)] = &[
    ("start", "%START_TIME%"),
    ("connection", "%CONNECTION_ID%"),
    ("duration_ms", "%DURATION%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    // The other end itself, not what a header says of it.
    ("peer", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
    ("local", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("sni", "%REQUESTED_SERVER_NAME%"),
    ("tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("peer_uri", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("own_uri", "%DOWNSTREAM_LOCAL_URI_SAN%"),
    ("tls_failure", "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("chain", "%FILTER_CHAIN_NAME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream", "%UPSTREAM_REMOTE_ADDRESS%"),
    ("upstream_local", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_sni", "%UPSTREAM_SERVER_NAME%"),
    ("upstream_tls_version", "%UPSTREAM_TLS_VERSION%"),
    ("upstream_peer_uri", "%UPSTREAM_PEER_URI_SAN%"),
    ("upstream_own_uri", "%UPSTREAM_LOCAL_URI_SAN%"),
    ("upstream_failure", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("connect_us", "%COMMON_DURATION(US_CX_BEG:US_CX_END:us)%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("termination", "%CONNECTION_TERMINATION_DETAILS%"),
];

const CONNECTION: &[(&str, &str)] = &[("log", "connection"), ("duration_us", "%COMMON_DURATION(DS_CX_BEG:DS_CX_END:us)%")];

/// Without the query: it may hold secrets.
const REQUEST: &[(&str, &str)] = &[
    ("log", "request"),
    ("request_id", "%REQUEST_HEADER(X-REQUEST-ID)%"),
    ("method", "%REQUEST_HEADER(:METHOD)%"),
    ("host", "%REQUEST_HEADER(:AUTHORITY)%"),
    ("path", "%PATH(NQ:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
];

/// For a listener: a line for each connection.
pub(crate) fn connections() -> Vec<AccessLog> {
    vec![log(BOTH.iter().chain(CONNECTION))]
}

/// For an HTTP connection manager: a line for each request.
pub(crate) fn requests() -> Vec<AccessLog> {
    vec![log(BOTH.iter().chain(REQUEST))]
}

fn log<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>) -> AccessLog {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = fields.map(|(name, operator)| ((*name).to_owned(), text(operator))).collect();
    let format = SubstitutionFormatString {
        omit_empty_values: true,
        format: Some(Format::JsonFormat(Struct { fields })),
        ..Default::default()
    };
    let output = StdoutAccessLog { access_log_format: Some(AccessLogFormat::LogFormat(format)) };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: None,
        config_type: Some(ConfigType::TypedConfig(pack(&output))),
    }
}
