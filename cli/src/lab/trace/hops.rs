//! The trace as people read it.

use std::fmt::Write;

use serde_json::Value;

use super::{Trace, text as word};
use crate::lab::member::{GCP, service};

/// All hops.
pub fn show(trace: &Trace) -> String {
    let mut text = String::new();
    let Trace { zone, sent, inbound, first, resolved, outbound, ingress, far, alpn, last } = trace;
    let [connected, handshaken, first_byte, all] = sent.milliseconds;
    hop(
        &mut text,
        1,
        &format!("client {} → {}", sent.local, sent.address),
        &[
            ("asks for", format!("https://{}/, request {}", sent.host, sent.id)),
            ("TLS", format!("{}, SNI {}", sent.tls, sent.host)),
            ("certificate", sent.certificate.clone()),
            ("answer", format!("{}, via {}, {} bytes", sent.status, sent.via, sent.body.len())),
            (
                "time",
                format!("connected {connected:.1} ms, TLS {handshaken:.1} ms, first byte {first_byte:.1} ms, all {all:.1} ms"),
            ),
        ],
    );
    let passed = format!("passed through, SNI {} (chain {})", word(inbound, "sni"), word(inbound, "chain"));
    hop(&mut text, 2, &title(zone, "sidecar, inbound", inbound), &connection(inbound, vec![("TLS", passed)]));
    hop(&mut text, 3, &format!("{zone} gateway"), &gateway(first, Some(resolved)));
    hop(&mut text, 4, &title(zone, "sidecar, outbound", outbound), &connection(outbound, begun(outbound)));
    let passed = format!("passed through, routed by SNI {}", word(ingress, "sni"));
    hop(&mut text, 5, &title(GCP, "ingress", ingress), &connection(ingress, vec![("TLS", passed)]));
    hop(&mut text, 6, &title(GCP, "sidecar, inbound", far), &connection(far, ended(far, alpn)));
    hop(&mut text, 7, &format!("{GCP} gateway"), &gateway(last, None));
    let backend = format!("{} {}", service(GCP).unwrap_or("backend"), value(last, "upstream"));
    hop(&mut text, 8, &backend, &[("answer", sent.body.trim().to_owned())]);
    let _ = writeln!(
        text,
        "Bytes and times of 2, 4, 5 and 6 are of whole connections, which carried this request and no other; 5 counts TLS records,\n\
         4 and 6 what is in them. Read from the programs' access logs, but for ALPN: that is what 6's chain takes and nothing else."
    );
    text
}

fn title(zone: &str, what: &str, line: &Value) -> String {
    format!("{zone} {what} {} ← {}", word(line, "local"), word(line, "peer"))
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

/// Where the mesh's TLS begins.
fn begun(line: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("TLS", format!("begun here: {}, SNI {}", word(line, "upstream_tls_version"), word(line, "upstream_sni"))),
        ("own identity", word(line, "upstream_own_uri").to_owned()),
        ("peer", word(line, "upstream_peer_uri").to_owned()),
    ]
}

/// Where the mesh's TLS ends.
fn ended(line: &Value, alpn: &str) -> Vec<(&'static str, String)> {
    let (version, sni, chain) = (word(line, "tls_version"), word(line, "sni"), word(line, "chain"));
    vec![
        ("TLS", format!("ended here: {version}, SNI {sni}, ALPN {alpn} (chain {chain})")),
        ("own identity", word(line, "own_uri").to_owned()),
        ("peer", word(line, "peer_uri").to_owned()),
    ]
}

fn connection(line: &Value, mut lines: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    let milliseconds = |name: &str| line[name].as_f64().unwrap_or_default() / 1000.0;
    lines.push((
        "upstream",
        format!("{} from {}, cluster {}", word(line, "upstream"), word(line, "upstream_local"), word(line, "upstream_cluster")),
    ));
    lines.push(("bytes", format!("{} received, {} sent", value(line, "bytes_received"), value(line, "bytes_sent"))));
    lines.push((
        "time",
        format!("open for {:.2} ms, connected upstream in {:.2} ms", milliseconds("duration_us"), milliseconds("connect_us")),
    ));
    let ends: Vec<_> = ["termination", "tls_failure", "upstream_failure"].map(|name| word(line, name)).into();
    lines.push(("end", ends.into_iter().filter(|end| !end.is_empty()).collect::<Vec<_>>().join(", ")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_is_shown_as_its_line_has_it() {
        let line = json!({
            "upstream": "127.33.0.1:10001", "upstream_local": "127.0.0.1:4", "upstream_cluster": "kri_a", "bytes_received": 79,
            "bytes_sent": 135, "duration_us": 2548, "connect_us": 71, "termination": "idle",
        });
        let expected = [
            ("upstream", "127.33.0.1:10001 from 127.0.0.1:4, cluster kri_a"),
            ("bytes", "79 received, 135 sent"),
            ("time", "open for 2.55 ms, connected upstream in 0.07 ms"),
            ("end", "idle"),
        ];
        assert_eq!(connection(&line, Vec::new()), expected.map(|(what, line)| (what, line.to_owned())));
    }
}
