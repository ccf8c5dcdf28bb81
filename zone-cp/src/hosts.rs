//! Host names that stand where Envoy needs addresses: zone addresses and dataplanes given by name. Resolved by the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use atoll_runtime::tasks::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long an answer is good (Kuma's cache time).
const AGAIN: Duration = Duration::from_secs(10);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What host names lead to now: the first address in order, or none.
pub(crate) type Addresses = BTreeMap<String, Option<IpAddr>>;

/// Resolves the hosts of `wanted` until `stop` is cancelled, at once when the set changes, and again every 10 s.
pub(crate) fn start(
    mut wanted: watch::Receiver<BTreeSet<String>>,
    tasks: &Tasks,
    stop: CancellationToken,
) -> watch::Receiver<Addresses> {
    let (publish, addresses) = watch::channel(Addresses::new());
    tasks.spawn("hosts", async move {
        loop {
            let hosts = wanted.borrow_and_update().clone();
            let mut found = Addresses::new();
            for host in hosts {
                // A resolver that fails does not take an address away; only an answer does.
                let before = publish.borrow().get(&host).copied().flatten();
                let address = resolve(&host).await.unwrap_or(before);
                found.insert(host, address);
            }
            publish.send_if_modified(|held| {
                let changed = *held != found;
                *held = found;
                changed
            });
            let idle = wanted.borrow().is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if !idle => {}
            }
        }
    });
    addresses
}

/// `None` when nobody answered.
async fn resolve(host: &str) -> Option<Option<IpAddr>> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await.ok()?.ok()?;
    Some(found.map(|socket| socket.ip()).min())
}
