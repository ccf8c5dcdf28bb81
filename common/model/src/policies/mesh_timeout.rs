//! MeshTimeout: how long connections and requests may take.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inbound_match::{self, InboundMatch};
use crate::{
    Violation,
    document::{Checked, check_spec},
    duration::GoDuration,
    schema::Schema,
    target_ref::{self, DESTINATIONS, TargetRef},
    violation::Path,
};

/// The spec of a MeshTimeout: either `rules` (incoming) or `to` (outgoing).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTimeout {
    /// Which proxies; absent means the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "target_ref::top_shape")]
    pub target_ref: Option<TargetRef>,
    /// Outgoing traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<To>,
    /// Incoming traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Timeouts towards one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct To {
    /// The destination.
    #[schemars(schema_with = "target_ref::to_shape")]
    pub target_ref: TargetRef,
    /// The timeouts.
    #[serde(default)]
    pub default: Timeouts,
}

/// Timeouts of incoming traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which callers; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<InboundMatch>,
    /// The timeouts.
    #[serde(default)]
    pub default: Timeouts,
}

/// The timeouts of one rule; absent fields leave what a less specific rule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Until a TCP connection stands. Kuma's default: 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_timeout: Option<GoDuration>,
    /// Without bytes on a connection. Kuma's default: 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// Of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTimeouts>,
}

/// Timeouts that only HTTP has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeouts {
    /// A whole request. Kuma's default: 15 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<GoDuration>,
    /// A stream without data. Kuma's default: 30 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout: Option<GoDuration>,
    /// A stream's whole life; 0 means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stream_duration: Option<GoDuration>,
    /// A connection's whole life; 0 means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<GoDuration>,
    /// Until the headers are complete; 0 means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_headers_timeout: Option<GoDuration>,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshTimeout>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshTimeout>(&SCHEMA, spec, |policy, path| {
        let mut faults = target_ref::check_top(policy.target_ref.as_ref(), &path.field("targetRef"), !policy.rules.is_empty());
        if !policy.rules.is_empty() && !policy.to.is_empty() {
            faults.push(path.violation("fields 'to' must be empty when 'rules' is defined"));
        }
        if policy.rules.is_empty() && policy.to.is_empty() {
            faults.push(path.violation("at least one of 'to' or 'rules' has to be defined"));
        }
        for (i, to) in policy.to.iter().enumerate() {
            let path = path.field("to").index(i);
            faults.extend(target_ref::check_to(&to.target_ref, &path.field("targetRef"), &DESTINATIONS));
            faults.extend(check_timeouts(&to.default, &path.field("default")));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            let path = path.field("rules").index(i);
            for (j, matched) in rule.matches.iter().enumerate() {
                let path = path.field("matches").index(j);
                if *matched == InboundMatch::default() {
                    faults.push(path.violation("must specify at least one of 'spiffeID' or 'sni'"));
                }
                faults.extend(inbound_match::check(matched, &path));
            }
            faults.extend(check_timeouts(&rule.default, &path.field("default")));
            faults.extend(check_spiffe_rule(rule, &path.field("default")));
        }
        faults
    })
}

fn check_timeouts(timeouts: &Timeouts, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if timeouts.connection_timeout.is_none() && timeouts.idle_timeout.is_none() && timeouts.http.is_none() {
        return vec![path.violation("at least one timeout should be configured")];
    }
    if timeouts.connection_timeout.is_some_and(|timeout| timeout.0 <= 0) {
        faults.push(path.field("connectionTimeout").violation("must be greater than zero when defined"));
    }
    faults.extend(not_negative(timeouts.idle_timeout, &path.field("idleTimeout")));
    if let Some(http) = &timeouts.http {
        let path = path.field("http");
        let listed = [
            ("requestTimeout", http.request_timeout),
            ("streamIdleTimeout", http.stream_idle_timeout),
            ("maxStreamDuration", http.max_stream_duration),
            ("maxConnectionDuration", http.max_connection_duration),
        ];
        if listed.iter().all(|(_, timeout)| timeout.is_none()) {
            faults.push(path.violation("at least one timeout in this section should be configured"));
        }
        for (name, timeout) in listed.into_iter().chain([("requestHeadersTimeout", http.request_headers_timeout)]) {
            faults.extend(not_negative(timeout, &path.field(name)));
        }
    }
    faults
}

fn not_negative(timeout: Option<GoDuration>, path: &Path) -> Option<Violation> {
    timeout.filter(|timeout| timeout.0 < 0).map(|_| path.violation("must not be negative when defined"))
}

const SOURCE_CONDITIONED: &str =
    "can't be specified when matches contain spiffeID because this field cannot be conditioned on source identity";

/// A rule for some callers can only change what is judged per request.
fn check_spiffe_rule(rule: &Rule, path: &Path) -> Vec<Violation> {
    if !rule.matches.iter().any(|matched| matched.spiffe_id.is_some()) {
        return Vec::new();
    }
    let http = rule.default.http.clone().unwrap_or_default();
    let http_path = path.field("http");
    [
        (path.field("connectionTimeout"), rule.default.connection_timeout),
        (path.field("idleTimeout"), rule.default.idle_timeout),
        (http_path.field("requestHeadersTimeout"), http.request_headers_timeout),
        (http_path.field("maxStreamDuration"), http.max_stream_duration),
        (http_path.field("maxConnectionDuration"), http.max_connection_duration),
    ]
    .into_iter()
    .filter(|(_, timeout)| timeout.is_some())
    .map(|(path, _)| path.violation(SOURCE_CONDITIONED))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(spec: &Value) -> Vec<String> {
        check(spec).violations.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn faults_are_named_by_their_path() {
        assert_eq!(fields(&json!({})), ["spec"]);
        let to = |default: Value| json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": default}]});
        assert_eq!(fields(&to(json!({"connectionTimeout": "2s"}))), Vec::<String>::new());
        assert_eq!(fields(&to(json!({}))), ["spec.to[0].default"]);
        assert_eq!(
            fields(&to(json!({"connectionTimeout": "0s", "idleTimeout": "-1s"}))),
            ["spec.to[0].default.connectionTimeout", "spec.to[0].default.idleTimeout"]
        );
        assert_eq!(fields(&to(json!({"connectionTimeout": "soon"}))), ["spec.to[0].default.connectionTimeout"]);
        assert_eq!(
            fields(&json!({"to": [{"targetRef": {"kind": "MeshService"}, "default": {"idleTimeout": "1s"}}]})),
            ["spec.to[0].targetRef.labels"]
        );
    }

    #[test]
    fn unknown_fields_are_named() {
        let checked = check(&json!({"to": [{"targetRef": {"kind": "Mesh", "x": 1}, "default": {"idleTimeout": "1s"}}]}));
        assert_eq!(checked.unknown, ["spec.to[0].targetRef.x"]);
    }
}
