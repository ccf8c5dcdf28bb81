//! Dials the ingresses of other zones and looks who answers: connect, send a client's hello, read the certificate, go.

use std::time::{Duration, Instant};

use atoll_model::{Name, Revision, Timestamp, sni::ALPN, spiffe::SpiffeId};
use atoll_runtime::tls;
use atoll_trust::x509::{self, Facts};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::targets::{Expected, Target};

/// How long a connection may take to open, and then the certificate to come.
const STEP: Duration = Duration::from_secs(2);
/// How long a whole round may take: less than global waits for an answer.
const ROUND: Duration = Duration::from_millis(7500);
/// How many are dialled at the same time.
const AT_ONCE: usize = 64;
/// How many are dialled at all; what is beyond is named as not tried.
const TARGETS_MAX: usize = 1024;

/// What became of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// The expected certificate was shown.
    Reachable,
    /// The connection opened, and there is no service to ask for.
    Opened,
    /// Its host name has no address here.
    Unresolved,
    /// The connection was refused, or cannot be routed.
    Refused,
    /// Nothing came within the time.
    Silent,
    /// The connection was closed, or broke, before a certificate was shown.
    Closed,
    /// Somebody else's certificate was shown.
    OtherCertificate,
    /// There was no time for it.
    Untried,
}

/// A target with what was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// What was dialled.
    pub target: Target,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What was seen: an identity, or an error.
    pub seen: String,
}

/// Dials all targets and says what was seen, as JSON.
pub async fn answer(zone: &Name, revision: Revision, targets: Vec<Target>, now: Timestamp) -> Value {
    let probes: Vec<Value> = all(targets, now).await.iter().map(Probe::shown).collect();
    json!({ "zone": zone, "revision": revision, "probes": probes })
}

/// Dials all targets, some at a time, within the time of a round; in the order in which they came.
pub async fn all(targets: Vec<Target>, now: Timestamp) -> Vec<Probe> {
    let untried = |target| Probe { target, outcome: Outcome::Untried, took: Duration::ZERO, seen: String::new() };
    let deadline = Instant::now() + ROUND;
    let probes = targets.into_iter().enumerate().map(|(place, target)| async move {
        let left = deadline.saturating_duration_since(Instant::now());
        if place >= TARGETS_MAX || left.is_zero() {
            return untried(target);
        }
        let late = target.clone();
        tokio::time::timeout(left, one(target, now)).await.unwrap_or_else(|_| untried(late))
    });
    stream::iter(probes).buffered(AT_ONCE).collect().await
}

async fn one(target: Target, now: Timestamp) -> Probe {
    let start = Instant::now();
    let (outcome, seen) = dial(&target, now).await;
    Probe { target, outcome, took: start.elapsed(), seen }
}

async fn dial(target: &Target, now: Timestamp) -> (Outcome, String) {
    let Some(address) = target.address else { return (Outcome::Unresolved, String::new()) };
    let mut stream = match tokio::time::timeout(STEP, TcpStream::connect(address)).await {
        Err(_) => return (Outcome::Silent, format!("no connection within {} s", STEP.as_secs())),
        Ok(Err(error)) => return (Outcome::Refused, error.to_string()),
        Ok(Ok(stream)) => stream,
    };
    let Some(expected) = &target.expected else { return (Outcome::Opened, String::new()) };
    match tokio::time::timeout(STEP, tls::shown(&mut stream, &expected.sni, &[ALPN.as_bytes()])).await {
        Err(_) => (Outcome::Silent, format!("connected, then no certificate within {} s", STEP.as_secs())),
        Ok(Err(error)) => (Outcome::Closed, error.to_string()),
        Ok(Ok(chain)) => match judge(expected, chain.first().map(AsRef::as_ref).unwrap_or_default(), now) {
            Ok(id) => (Outcome::Reachable, id),
            Err(why) => (Outcome::OtherCertificate, why),
        },
    }
}

/// Whose certificate it is, if that is who must answer.
///
/// # Errors
/// Who it is instead, or what is wrong with the certificate.
pub fn judge(expected: &Expected, der: &[u8], now: Timestamp) -> Result<String, String> {
    let facts = Facts::of_der(der).map_err(|error| error.to_string())?;
    let uri = facts.only_uri().ok_or_else(|| format!("names {:?} {:?}, not one SPIFFE id", facts.uris, facts.other_names))?;
    let id: SpiffeId = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
    let cas = expected.trust.get(id.trust_domain.as_str());
    let cas = cas.ok_or_else(|| format!("{id}, and that trust domain is not the service's"))?;
    if !x509::is_signed_by(der, cas) {
        return Err(format!("{id}, signed by no CA that its MeshTrust names"));
    }
    if now < facts.not_before || facts.not_after <= now {
        return Err(format!("{id}, valid from {} to {} only", facts.not_before, facts.not_after));
    }
    if expected.identities.is_empty() || expected.identities.contains(&id) {
        Ok(id.to_string())
    } else {
        Err(format!("{id}, and the service has other identities"))
    }
}

impl Probe {
    /// Whether the other zone can be reached there, as far as could be seen.
    pub fn is_reachable(&self) -> bool {
        matches!(self.outcome, Outcome::Reachable | Outcome::Opened)
    }

    fn shown(&self) -> Value {
        let target = &self.target;
        json!({
            "mesh": target.mesh,
            "zone": target.zone,
            "address": host_port(&target.host, target.port),
            "dialled": target.address,
            "service": target.expected.as_ref().map(|expected| &expected.service),
            "sni": target.expected.as_ref().map(|expected| &expected.sni),
            "outcome": self.outcome,
            "reachable": self.is_reachable(),
            "ms": (self.took.as_secs_f64() * 10_000.0).round() / 10.0,
            "seen": self.seen,
            "advice": self.advice(),
        })
    }

    /// What to do about it.
    fn advice(&self) -> Option<String> {
        let Target { zone, host, port, expected, .. } = &self.target;
        let at = host_port(host, *port);
        let sni = expected.as_ref().map(|expected| expected.sni.as_str()).unwrap_or_default();
        match self.outcome {
            Outcome::Reachable => None,
            Outcome::Opened => Some(format!("nothing serves any service of {zone}, so only the connection was tried")),
            Outcome::Unresolved => {
                Some(format!("this zone's control plane cannot resolve {host}: correct its DNS or the address"))
            }
            Outcome::Refused => {
                Some(format!("does an ingress of {zone} listen at {at}, and is that its address as seen from here?"))
            }
            Outcome::Silent => {
                Some(format!("does the ingress of {zone} at {at} run, and does a firewall on the way let this zone through?"))
            }
            Outcome::Closed => Some(format!(
                "the ingress of {zone} leads nowhere for {sni}: has that service a ready proxy with an identity there, and is {at} \
                 really that ingress?"
            )),
            Outcome::OtherCertificate => Some(format!(
                "is {at} really the ingress of {zone}, and does this zone have {zone}'s newest MeshTrust and MeshService?"
            )),
            Outcome::Untried => Some("there were too many addresses for one round".to_owned()),
        }
    }
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
