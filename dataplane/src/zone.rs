//! Dialling the zone's control plane.

use std::{io, time::Duration};

use atoll_runtime::tls;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{
    bootstrap::split_address,
    credentials::{ZONE_SERVER_NAME, ZoneTrust},
};

/// A silent zone is noticed in the sum of both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// What `--cp-address` must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--cp-address {0:?} must be https://host:port")]
pub struct AddressFault(pub String);

/// Why the zone was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// Nobody answers there.
    #[error("the zone's control plane at {0} cannot be reached: {1}")]
    Unreachable(String, String),
    /// Somebody else answers.
    #[error(
        "what answers at {0} is not the zone that --ca-cert-file or the token's pin names ({1}): check --cp-address, or get the \
         token or the CA again"
    )]
    Untrusted(String, String),
}

/// `host:port` of `https://host:port`.
///
/// # Errors
/// When it is something else.
pub fn parse_address(url: &str) -> Result<String, AddressFault> {
    let fault = || AddressFault(url.to_owned());
    let address = url.strip_prefix("https://").ok_or_else(fault)?.trim_end_matches('/');
    split_address(address).ok_or_else(fault)?;
    Ok(address.to_owned())
}

/// Opens a connection; it is the zone's when this returns.
///
/// # Errors
/// When nobody, or somebody else, is there.
pub async fn connect(address: &str, trust: &ZoneTrust) -> Result<Channel, ConnectFault> {
    let stream = tls::connect(address, ZONE_SERVER_NAME, trust.config.clone()).await.map_err(|error| fault(address, &error))?;
    let stream = std::sync::Mutex::new(Some(TokioIo::new(stream)));
    // One connection for one stream: when it breaks, the caller dials again.
    let connector = service_fn(move |_| {
        let stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://zone-cp.atoll.internal")
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| ConnectFault::Unreachable(address.to_owned(), error.to_string()))
}

fn fault(address: &str, error: &io::Error) -> ConnectFault {
    let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match certificate {
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectFault::Untrusted(address.to_owned(), format!("{reason:?}")),
        Some(_) | None => ConnectFault::Unreachable(address.to_owned(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse_address("https://10.0.0.1:5678"), Ok("10.0.0.1:5678".to_owned()));
        assert_eq!(parse_address("https://[::1]:5678/"), Ok("[::1]:5678".to_owned()));
        for bad in ["http://a:1", "a:1", "https://a", "https://a:x", "https://:1"] {
            assert_eq!(parse_address(bad), Err(AddressFault(bad.to_owned())));
        }
    }
}
