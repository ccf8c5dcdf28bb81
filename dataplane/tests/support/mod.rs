//! A zone that a test plays, a real Envoy, and atoll-dp as a user starts it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod load;
pub mod net;
pub mod runner;
pub mod zone;

use std::{future::Future, net::SocketAddr, path::PathBuf, time::Duration};

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Envoy's program: `$ENVOY`, PATH, or the project's cache.
pub fn envoy() -> PathBuf {
    let cached = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/envoy/envoy"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let candidates = named.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("envoy"))).chain([cached]);
    let found = candidates.into_iter().find(|path| path.is_file());
    found.expect("these tests need Envoy: set ENVOY, or put it into PATH or .cache/envoy/").canonicalize().unwrap()
}

/// Waits until `look` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"))
}

/// An address at which nobody listens.
pub fn free_address() -> SocketAddr {
    atoll_runtime::testing::free_address().unwrap()
}

/// Sends a line to a server that sends lines back.
pub async fn echo(address: SocketAddr) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    echo_on(&mut stream, "hello").await
}

/// As [`echo`], on an open connection.
pub async fn echo_on(stream: &mut tokio::net::TcpStream, text: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut answer = vec![0; text.len()];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.ok()?.ok()?;
    String::from_utf8(answer).ok()
}

/// An application that sends back what it gets.
pub async fn application() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}
