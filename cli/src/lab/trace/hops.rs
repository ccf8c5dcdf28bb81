//! The trace as people read it.

use std::fmt::Write;

use serde_json::Value;

use super::{Seen, Trace};
use crate::lab::{
    documents::gateway_sni,
    member::{GCP, service},
};

/// All hops.
pub fn show(trace: &Trace) -> String {
    let mut text = String::new();
    let zone = &trace.zone;
    let sent = &trace.sent;
    let [connected, handshaken, first, last] = sent.milliseconds;
    hop(
        &mut text,
        1,
        &format!("client {} → {}", sent.local, sent.address),
        &[
            ("asks for", format!("https://{}/, request {}", sent.host, sent.id)),
            ("TLS", format!("{}, SNI {}", sent.tls, sent.host)),
            ("certificate", sent.certificate.clone()),
            ("answer", format!("{}, via {}, {} bytes", sent.status, sent.via, sent.body.len())),
            ("time", format!("connected {connected:.1} ms, TLS {handshaken:.1} ms, first byte {first:.1} ms, all {last:.1} ms")),
        ],
    );
    hop(
        &mut text,
        2,
        &format!("{zone} sidecar, inbound {}", sent.address),
        &inbound(&trace.sidecar, "passed through: TLS without the mesh's ALPN"),
    );
    hop(&mut text, 3, &format!("{zone} gateway"), &gateway(&trace.first, Some(&trace.resolved)));
    hop(
        &mut text,
        4,
        &format!("{zone} sidecar, outbound {}", value(&trace.first, "upstream")),
        &outbound(&trace.sidecar, &trace.far),
    );
    hop(&mut text, 5, &format!("{GCP} ingress {}", listener(&trace.ingress)), &ingress(&trace.ingress));
    hop(&mut text, 6, &format!("{GCP} sidecar, inbound"), &inbound(&trace.far, &mesh_inbound(trace)));
    hop(&mut text, 7, &format!("{GCP} gateway"), &gateway(&trace.last, None));
    hop(
        &mut text,
        8,
        &format!("{} {}", service(GCP).unwrap_or("backend"), value(&trace.last, "upstream")),
        &[("answer", sent.body.trim().to_owned())],
    );
    text
}

fn hop(text: &mut String, number: u8, title: &str, lines: &[(&str, String)]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{number}  {title}");
    for (what, line) in lines.iter().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(text, "     {what:<12} {line}");
    }
}

fn value(line: &Value, name: &str) -> String {
    match &line[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn gateway(line: &Value, resolved: Option<&str>) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        (
            "took",
            format!(
                "{} {} {}, {}, SNI {}, from {}",
                value(line, "method"),
                value(line, "host"),
                value(line, "path"),
                value(line, "tls_version"),
                value(line, "sni"),
                value(line, "peer")
            ),
        ),
        ("own names", value(line, "own_names")),
        ("via", value(line, "via")),
    ];
    if let Some(resolved) = resolved {
        lines.push(("resolved", resolved.to_owned()));
    }
    let upstream = match value(line, "upstream_tls").as_str() {
        "" => format!("{}, plain HTTP", value(line, "upstream")),
        tls => format!(
            "{}, {tls}, verified {}, issued by {}",
            value(line, "upstream"),
            value(line, "upstream_names"),
            value(line, "upstream_issuer")
        ),
    };
    lines.push(("upstream", upstream));
    lines.push((
        "bytes",
        format!(
            "{} of the request, {} of the answer, {} on the wire",
            value(line, "bytes_received"),
            value(line, "bytes_sent"),
            value(line, "wire_sent")
        ),
    ));
    let handshake = match value(line, "handshake_ms") {
        none if none.is_empty() => String::new(),
        some => format!(", TLS {some} ms"),
    };
    lines.push((
        "time",
        format!(
            "{} ms, of which connect {} ms{handshake}, first byte {} ms",
            value(line, "duration_ms"),
            value(line, "connect_ms"),
            value(line, "first_byte_ms")
        ),
    ));
    lines
}

fn inbound(seen: &Seen, how: &str) -> Vec<(&'static str, String)> {
    let cluster = seen.moved.clusters().into_iter().find(|name| name.starts_with("self_inbound")).unwrap_or_default();
    let mut lines = vec![("how", how.to_owned())];
    lines.extend(connections(seen, &cluster));
    lines
}

/// What the far sidecar's counters say of the mesh's TLS and of the permission.
fn mesh_inbound(trace: &Trace) -> String {
    let moved = &trace.far.moved;
    format!(
        "mesh TLS ended as {} (ssl.handshake +{}), caller {}; permission: rbac.allowed +{}",
        trace.far.identity,
        moved.rise("listener.self_inbound", "ssl.handshake"),
        trace.sidecar.identity,
        moved.rise("", "rbac.allowed"),
    )
}

fn outbound(seen: &Seen, far: &Seen) -> Vec<(&'static str, String)> {
    let cluster = seen.moved.clusters().into_iter().find(|name| name.starts_with("kri_")).unwrap_or_default();
    let config = cluster_config(seen, &cluster);
    let tls = &config["transport_socket"]["typed_config"];
    let common = &tls["common_tls_context"];
    let names = common["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"].as_array();
    let names = names.into_iter().flatten().filter_map(|name| name["matcher"]["exact"].as_str()).collect::<Vec<_>>().join(", ");
    let alpn = common["alpn_protocols"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("cluster", cluster.clone()),
        (
            "TLS",
            format!(
                "begun here (ssl.handshake +{}): SNI {}, ALPN {alpn}",
                seen.moved.rise(&format!("cluster.{cluster}."), "ssl.handshake"),
                tls["sni"].as_str().unwrap_or("?")
            ),
        ),
        ("own identity", seen.identity.clone()),
        ("peer", format!("must be {names}; is {}", far.identity)),
    ];
    lines.extend(connections(seen, &cluster));
    lines
}

fn ingress(seen: &Seen) -> Vec<(&'static str, String)> {
    let cluster = seen.moved.clusters().into_iter().find(|name| name.starts_with("kri_")).unwrap_or_default();
    let mut lines = vec![
        (
            "how",
            format!(
                "routed by SNI {} to {cluster}; TLS passed through (ssl.handshake +{})",
                gateway_sni(GCP),
                seen.moved.rise("", "ssl.handshake")
            ),
        ),
        ("own identity", seen.identity.clone()),
    ];
    lines.extend(connections(seen, &cluster));
    lines
}

fn connections(seen: &Seen, cluster: &str) -> Vec<(&'static str, String)> {
    let moved = &seen.moved;
    let of = |end: &str| moved.rise(&format!("cluster.{cluster}."), end);
    let connect = moved.time(cluster, "upstream_cx_connect_ms").map(|time| format!("connected in {time}")).unwrap_or_default();
    let length = moved.time(cluster, "upstream_cx_length_ms").map(|time| format!("open for {time}")).unwrap_or_default();
    vec![
        ("connections", format!("+{} upstream", of("upstream_cx_total"))),
        ("bytes", format!("{} sent, {} received", of("upstream_cx_tx_bytes_total"), of("upstream_cx_rx_bytes_total"))),
        ("time", [connect, length].iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join(", ")),
    ]
}

fn cluster_config(seen: &Seen, name: &str) -> Value {
    let configs = seen.clusters["configs"].as_array();
    let found = configs.into_iter().flatten().map(|config| &config["cluster"]).find(|cluster| cluster["name"] == name);
    found.cloned().unwrap_or_default()
}

/// Where the Envoy's only listener is.
fn listener(seen: &Seen) -> String {
    let all = seen.listeners["listener_statuses"].as_array();
    let addresses = all.into_iter().flatten().filter_map(|status| {
        let address = &status["local_address"]["socket_address"];
        Some(format!("{}:{}", address["address"].as_str()?, address["port_value"]))
    });
    addresses.collect::<Vec<_>>().join(", ")
}
