//! `/_audit`: who asked for what, and what became of it.

use std::fmt::Write as _;

use atoll_model::Timestamp;
use atoll_store::{AuditEntry, AuditFilter};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    Plane, Problem, negotiate, present,
    problem::title,
    query::{self, Ask},
};

/// Rows of a page, at most: one more tells whether there is a next one.
const PAGE_MAX: usize = 999;

/// A page of the audit, newest first.
pub(crate) async fn audit(plane: Plane, ask: Ask) -> Result<Response, Problem> {
    let size = query::size(&ask.query)?.min(PAGE_MAX);
    let filter = AuditFilter { limit: u32::try_from(size + 1).unwrap_or(u32::MAX), ..filter(&ask)? };
    let mut entries = plane.store.audit(&filter).await.map_err(|error| Problem::from_store(title::LIST, &error))?;
    let has_more = entries.len() > size;
    entries.truncate(size);
    let last = entries.last().filter(|_| has_more);
    let next = last.map(|last| ask.with_parameter("before", &last.position.to_string()));
    let items: Vec<Value> = entries.iter().map(shown).collect();
    Ok(negotiate::json(StatusCode::OK, &json!({"items": items, "next": next})))
}

fn filter(ask: &Ask) -> Result<AuditFilter, Problem> {
    let text = |name: &str| ask.query.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let wrong = |name: &str, reason: &str| query::parameter(name, reason.to_owned());
    let parsed = |name: &str, reason: &str| -> Result<Option<u64>, Problem> {
        text(name).map(|text| text.parse().map_err(|_| wrong(name, reason))).transpose()
    };
    let since = text("since").map(|text| text.parse::<Timestamp>().map_err(|_| wrong("since", "must be a time of RFC 3339")));
    let decision = text("decision").map(|text| text.parse().map_err(|_| wrong("decision", "must be allowed or denied")));
    Ok(AuditFilter {
        subject: text("subject"),
        verb: text("verb"),
        object: text("object"),
        decision: decision.transpose()?,
        request_id: text("request"),
        since: since.transpose()?,
        before: parsed("before", "must be what `next` of an earlier answer says")?,
        limit: 0,
    })
}

fn shown(entry: &AuditEntry) -> Value {
    let (record, link) = (&entry.record, &entry.link);
    json!({
        "position": entry.position,
        "time": present::time(record.at),
        "revision": record.revision,
        "requestId": record.request_id,
        "subject": record.subject,
        "method": record.method.name(),
        "address": record.address,
        "verb": record.verb,
        "object": record.object,
        "before": record.before.map(hex),
        "after": record.after.map(hex),
        "decision": record.decision.to_string(),
        "reason": record.reason,
        "chain": {"id": link.chain, "sequence": link.sequence, "previous": hex(link.previous), "hash": hex(link.hash)},
    })
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
