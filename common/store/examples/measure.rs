//! Prints what commits cost on this machine, on a Postgres of its own and on SQLite:
//! `cargo run --release -p atoll-store --example measure`.

use std::{
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use atoll_model::{Kind, Labels, Owner, ResourceKey, Revision};
use atoll_store::{Actor, Once, RemoteBatch, RemoteItem, Store, Write, WriteBatch, testing::TestStore};
use bytes::Bytes;

/// Errors are printed and end the program; nothing else is done with them.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    println!("{:<58} {:>9} {:>9} {:>9}", "", "p50 ms", "p99 ms", "per s");
    fsync()?;
    let postgres = TestStore::postgres().await?;
    let beside = postgres.beside().await?;
    commits("Postgres: one writer, no history", &postgres.store, 1, 2000, Actor::plane()).await?;
    commits("Postgres: one writer, with history and audit", &postgres.store, 1, 2000, person()).await?;
    commits("Postgres: 16 writers, with history and audit", &postgres.store, 16, 1000, person()).await?;
    commits("Postgres: 64 writers, with history and audit", &postgres.store, 64, 400, person()).await?;
    once("Postgres: 64 writers, done once", &postgres.store, 64, 400).await?;
    seen_beside(&postgres.store, &beside.store).await?;
    both_write(&postgres.store, &beside.store).await?;
    import("Postgres: import of 10,000 x 900 bytes, 100 a batch", &postgres.store, 10_000, 100).await?;
    import("Postgres: import of 10,000 x 900 bytes, one batch", &postgres.store, 10_000, 10_000).await?;
    restart("Postgres: start", postgres).await?;

    let sqlite = TestStore::sqlite().await?;
    commits("SQLite: one writer, with history and audit", &sqlite.store, 1, 2000, person()).await?;
    commits("SQLite: 64 writers, with history and audit", &sqlite.store, 64, 400, person()).await?;
    once("SQLite: 64 writers, done once", &sqlite.store, 64, 400).await?;
    remote(&sqlite.store).await?;
    restart("SQLite: start", sqlite).await
}

fn person() -> Actor {
    Actor::recorded("user:ada", None)
}

fn key(name: String) -> ResourceKey {
    ResourceKey::new(Kind::MeshTimeout, "default", name, Owner::Global)
}

fn spec(bytes: usize, n: usize) -> Bytes {
    format!("{{\"n\":{n},\"fill\":\"{}\"}}", "x".repeat(bytes)).into()
}

/// How many, how fast: percentiles of `times`, and the rate over `all`.
fn print(what: &str, mut times: Vec<Duration>, count: usize, all: Duration) {
    times.sort();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default().as_secs_f64() * 1000.0;
    println!("{what:<58} {:>9.3} {:>9.3} {:>9.0}", at(0.5), at(0.99), count as f64 / all.as_secs_f64());
}

fn fsync() -> Result<()> {
    let mut file: File = tempfile::tempfile()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        file.write_all(&[0; 8192])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    print("the disk: write 8 KiB, fdatasync", times, 50, begin.elapsed());
    Ok(())
}

/// Closed loops of writers that each create resources of 600 bytes.
async fn commits(what: &str, store: &Store, writers: usize, each: usize, actor: Actor) -> Result<()> {
    create(what, store, writers, each, actor, false).await
}

/// The same with a key for each request.
async fn once(what: &str, store: &Store, writers: usize, each: usize) -> Result<()> {
    create(what, store, writers, each, person(), true).await
}

async fn create(what: &str, store: &Store, writers: usize, each: usize, actor: Actor, keyed: bool) -> Result<()> {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, actor, what) = (store.clone(), actor.clone(), what.to_owned());
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(each);
                for n in 0..each {
                    let write = Write::create(key(format!("{what} {writer} {n}")), Labels::new(), spec(600, n));
                    let mut batch = WriteBatch::one(actor.clone(), write);
                    batch.once =
                        keyed.then(|| Once { subject: "ada".into(), key: format!("{what}{writer} {n}"), request: [0; 32] });
                    let begin = Instant::now();
                    store.commit(batch).await?;
                    times.push(begin.elapsed());
                }
                Result::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    print(what, times, writers * each, begin.elapsed());
    Ok(())
}

/// From the call of a commit on one process until another one's table has it.
async fn seen_beside(store: &Store, beside: &Store) -> Result<()> {
    let mut table = beside.subscribe();
    let (begin, mut times) = (Instant::now(), Vec::new());
    for n in 0..1000 {
        let begin = Instant::now();
        let write = Write::put(key("seen".to_owned()), Labels::new(), spec(600, n));
        let revision = store.commit(WriteBatch::one(person(), write)).await?.revision;
        table.wait_for(|table| table.revision() >= revision).await?;
        times.push(begin.elapsed());
    }
    print("Postgres: committed here and seen in another process", times, 1000, begin.elapsed());
    Ok(())
}

async fn both_write(store: &Store, beside: &Store) -> Result<()> {
    let (begin, a, b) =
        (Instant::now(), "Postgres: two processes, 32 writers each (a)", "Postgres: two processes, 32 writers each (b)");
    let (one, two) = tokio::join!(commits(a, store, 32, 300, person()), commits(b, beside, 32, 300, person()));
    one.and(two)?;
    println!("{:<58} {:>29.0}", "  together", 2.0 * 32.0 * 300.0 / begin.elapsed().as_secs_f64());
    Ok(())
}

async fn import(what: &str, store: &Store, all: usize, batch: usize) -> Result<()> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    for first in (0..all).step_by(batch) {
        let write = |n| Write::put(key(format!("{what} {n}")), Labels::new(), spec(880, n));
        let batch = WriteBatch::new(person(), (first..first + batch).map(write).collect());
        let begin = Instant::now();
        store.commit(batch).await?;
        times.push(begin.elapsed());
    }
    print(what, times, all, begin.elapsed());
    Ok(())
}

/// A cold sync: 20,000 resources of 900 bytes in batches of 64 KiB.
async fn remote(store: &Store) -> Result<()> {
    let (begin, mut times, mut last) = (Instant::now(), Vec::new(), None);
    for first in (0..20_000).step_by(70) {
        let item = |n| RemoteItem::Put { key: key(format!("remote {n}")), labels: Labels::new(), spec: spec(880, n) };
        let items = (first..(first + 70).min(20_000)).map(item).collect();
        let batch = RemoteBatch { peer: "global".to_owned(), items, cursor: None, actor: Actor::plane() };
        let begin = Instant::now();
        last = Some(store.apply_remote(batch).await?.durable);
        times.push(begin.elapsed());
    }
    print("SQLite: cold sync of 20,000 x 900 bytes, in memory", times, 20_000, begin.elapsed());
    if let Some(durable) = last {
        durable.wait().await?;
    }
    print("SQLite: the same, durable", Vec::new(), 20_000, begin.elapsed());
    Ok(())
}

async fn restart(what: &str, test: TestStore) -> Result<()> {
    let rows = test.store.snapshot().len();
    let begin = Instant::now();
    let test = test.restart().await?;
    let (took, table) = (begin.elapsed(), test.store.snapshot());
    assert!(table.len() == rows && table.revision() > Revision(0), "a restart loses nothing");
    println!("{:<58} {:>9.0} ms for {rows} resources", what, took.as_secs_f64() * 1000.0);
    Ok(())
}
