//! Whether zones are there: from the link, never from a connection alone.

use atoll_link::{LinkStatus, Phase};
use atoll_model::Timestamp;
use chrono::{SecondsFormat, TimeDelta};
use serde_json::{Value, json};

/// A zone that was silent for longer is shown as offline, whatever its connection looks like.
pub const SILENCE: TimeDelta = TimeDelta::seconds(15);

/// Whether a zone is there.
pub fn is_online(status: &LinkStatus, now: Timestamp) -> bool {
    match status.phase {
        Phase::Disconnected => false,
        Phase::Connected | Phase::OtherHistory | Phase::Restoring => status.last_seen.is_some_and(|seen| now - seen <= SILENCE),
    }
}

/// `zoneInsight` of a Zone: Kuma's `subscriptions`, and beside them what can be believed, revisions and their age.
pub fn insight(status: &LinkStatus, now: Timestamp) -> Value {
    let online = is_online(status, now);
    let since = status.since.map(text);
    let (connect, disconnect) = match status.phase {
        Phase::Disconnected => (None, since),
        Phase::Connected | Phase::OtherHistory | Phase::Restoring => (since, None),
    };
    let mut subscription = json!({
        "id": status.instance,
        "version": { "kumaCp": { "version": status.software } },
        "authTokenProvided": true,
        "zoneInstanceId": status.instance,
    });
    for (field, time) in [("connectTime", connect), ("disconnectTime", disconnect.filter(|_| !online))] {
        if let Some(time) = time {
            subscription[field] = time.into();
        }
    }
    json!({
        "subscriptions": [subscription],
        "healthCheck": { "time": status.last_seen.map(text) },
        "online": online,
        "phase": format!("{:?}", status.phase),
        "toZone": { "sent": status.sent, "applied": status.applied, "durable": status.durable },
        "fromZone": { "received": status.received, "applied": status.received_applied, "durable": status.received_durable },
        "rejectedByZone": rejected(&status.rejected_by_peer),
        "rejectedHere": rejected(&status.rejected),
        "held": status.held,
        "heldByZone": status.held_by_peer,
        "lastError": status.last_error,
    })
}

fn rejected(all: &[(String, String)]) -> Vec<Value> {
    all.iter().map(|(resource, reason)| json!({ "resource": resource, "reason": reason })).collect()
}

fn text(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn status(phase: Phase, silent: i64) -> LinkStatus {
        let seen = Some(now() - TimeDelta::seconds(silent));
        LinkStatus { phase, last_seen: seen, since: Some(now() - TimeDelta::minutes(1)), ..LinkStatus::default() }
    }

    #[test]
    fn a_silent_zone_is_offline_though_its_stream_is_open() {
        assert!(is_online(&status(Phase::Connected, 15), now()));
        assert!(!is_online(&status(Phase::Connected, 16), now()));
        assert!(!is_online(&status(Phase::Disconnected, 0), now()));
        assert!(!is_online(&LinkStatus::default(), now()));
    }

    #[test]
    fn kumas_clients_see_when_it_came_or_went() {
        let shown = |phase| insight(&status(phase, 1), now())["subscriptions"][0].clone();
        assert_eq!(shown(Phase::Connected)["connectTime"], "2026-03-01T11:59:00.000Z");
        assert_eq!(shown(Phase::Connected)["disconnectTime"], Value::Null);
        assert_eq!(shown(Phase::Disconnected)["disconnectTime"], "2026-03-01T11:59:00.000Z");
    }
}
