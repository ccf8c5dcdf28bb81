//! Clients that write with a key per write, and repeat what was not answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::{Ack, Ledger};
use crate::rest::Rest;

const WRITERS: usize = 8;
/// Resources of each writer: it updates them in turn.
const NAMES: u64 = 20;
/// A write that is not answered by then is an outage that nobody planned.
const PATIENCE: Duration = Duration::from_secs(60);

/// All clients.
pub(super) struct Writers {
    instances: [Rest; 2],
    acknowledged: AtomicU64,
}

impl Writers {
    pub(super) fn new(instances: [&Rest; 2]) -> Self {
        Self { instances: instances.map(Rest::clone), acknowledged: AtomicU64::new(0) }
    }

    /// Writes until it is told to stop; gives what was acknowledged.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<Ledger> {
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (all, stop) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move { all.write(writer, stop).await });
        }
        let mut ledger = Ledger::default();
        while let Some(acks) = tasks.join_next().await {
            ledger.add(acks??);
        }
        Ok(ledger)
    }

    /// Waits until so many more writes are acknowledged.
    pub(super) async fn progress(&self, more: u64) -> Result<()> {
        let (goal, begin) = (self.acknowledged.load(Ordering::Relaxed) + more, Instant::now());
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            ensure!(begin.elapsed() < PATIENCE, "no {more} writes were acknowledged within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn write(&self, writer: usize, stop: CancellationToken) -> Result<Vec<Ack>> {
        let mut acks = Vec::new();
        for number in 0.. {
            if stop.is_cancelled() {
                break;
            }
            let ack = self.put(writer, number).await?;
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            acks.push(ack);
        }
        Ok(acks)
    }

    /// Repeats one write, under its key, until it is answered.
    async fn put(&self, writer: usize, number: u64) -> Result<Ack> {
        let name = format!("w{writer}-{}", number % NAMES);
        let (path, key) = (path(&name), format!("w{writer}-{number}"));
        let begin = Instant::now();
        for tries in 1.. {
            let at = (writer + number as usize + tries) % 2;
            let request = self.instances[at].request(http::Method::PUT, &path).header("Idempotency-Key", &key);
            if let Ok(answer) = request.json(&document(&name, number)).timeout(Duration::from_secs(10)).send().await {
                let status = answer.status();
                if status.is_success() {
                    let revision = revision(&answer)?;
                    let paired = self.read_other(1 - at, &path, revision, number).await?;
                    return Ok(Ack { name, number, revision, repeated: tries > 1, paired });
                }
                let text = answer.text().await.unwrap_or_default();
                ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "PUT {path} with {key}: {status}: {text}");
            }
            ensure!(begin.elapsed() < PATIENCE, "PUT {path} with {key} was not answered within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("unreachable: the loop has no end")
    }

    /// Reads what was just written at the other instance, which must not be older; whether that one answered.
    async fn read_other(&self, at: usize, path: &str, revision: u64, number: u64) -> Result<bool> {
        let path = format!("{path}?min-revision={revision}");
        let request = self.instances[at].request(http::Method::GET, &path).timeout(Duration::from_secs(5));
        let Ok(answer) = request.send().await else { return Ok(false) };
        if !answer.status().is_success() {
            let status = answer.status();
            ensure!(status.is_server_error(), "GET {path}: {status}");
            return Ok(false);
        }
        let Ok(document) = answer.json::<Value>().await else { return Ok(false) };
        let seen = value(&document).with_context(|| format!("GET {path}: {document}"))?;
        ensure!(seen == number, "GET {path} gave value {seen}, {number} was acknowledged before");
        Ok(true)
    }

    /// 64 updates with one precondition, on both instances at once, in rounds: one must win each.
    pub(super) async fn contend(self: &Arc<Self>, rounds: usize) -> Result<usize> {
        let path = path("contended");
        let first = self.instances[0].request(http::Method::PUT, &path).json(&document("contended", 0)).send().await?;
        ensure!(first.status().is_success(), "PUT {path}: {}", first.status());
        let (mut etag, mut refused) = (etag(&first)?, 0);
        for round in 1..=rounds {
            let mut tasks = JoinSet::new();
            for client in 0..64 {
                let number = (round * 64 + client) as u64;
                let request = self.instances[client % 2].request(http::Method::PUT, &path);
                let request = request.header("If-Match", &etag).json(&document("contended", number));
                tasks.spawn(async move { request.send().await });
            }
            let mut winners = Vec::new();
            while let Some(answer) = tasks.join_next().await {
                let answer = answer??;
                match answer.status() {
                    StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => refused += 1,
                    status if status.is_success() => winners.push(self::etag(&answer)?),
                    status => bail!("round {round}: {status}"),
                }
            }
            ensure!(winners.len() == 1, "round {round}: {} of 64 updates with one precondition won", winners.len());
            etag = winners.remove(0);
        }
        Ok(refused)
    }
}

pub(super) fn path(name: &str) -> String {
    format!("/meshes/default/meshtimeouts/{name}")
}

const BASE: u64 = 1_000;

fn document(name: &str, number: u64) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": "default", "name": name,
        "spec": { "to": [{ "targetRef": { "kind": "Mesh" }, "default": { "connectionTimeout": format!("{}ms", BASE + number) } }] },
    })
}

/// The number that a document carries.
pub(super) fn value(document: &Value) -> Option<u64> {
    let text = document["spec"]["to"][0]["default"]["connectionTimeout"].as_str()?;
    text.strip_suffix("ms")?.parse::<u64>().ok()?.checked_sub(BASE)
}

fn revision(answer: &reqwest::Response) -> Result<u64> {
    let header = answer.headers().get("atoll-revision").context("an answer lacks Atoll-Revision")?;
    Ok(header.to_str()?.parse()?)
}

fn etag(answer: &reqwest::Response) -> Result<String> {
    Ok(answer.headers().get("etag").context("an answer lacks ETag")?.to_str()?.to_owned())
}
