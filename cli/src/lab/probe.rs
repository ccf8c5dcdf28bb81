//! Clients of the lab's gateways: what a person does with `curl --cacert --resolve`.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use reqwest::{Certificate, Client, Response};

/// A client outside the mesh, which verifies the gateway's certificate and opens a connection for each request.
#[derive(Clone, Debug)]
pub struct Outside {
    client: Client,
    url: String,
}

/// What it got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status of the answer.
    pub status: u16,
    /// Gateways that handed the answer on, the nearest to the service first.
    pub via: Vec<String>,
    /// The body.
    pub body: String,
}

impl Outside {
    /// Asks `host` at `address`, whatever its name resolves to.
    pub fn new(ca: &Path, host: &str, address: SocketAddr) -> Result<Self> {
        let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let client = Client::builder()
            .tls_certs_only(Certificate::from_pem_bundle(&pem)?)
            .resolve(host, address)
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()?;
        Ok(Self { client, url: format!("https://{host}:{}", address.port()) })
    }

    /// One request on a connection of its own.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let asked = async {
            let response = self.open(path).await?;
            let status = response.status().as_u16();
            let via = response.headers().get_all("via").iter().filter_map(|value| value.to_str().ok());
            let via = via.flat_map(|value| value.split(',')).map(|part| part.trim().to_owned()).collect();
            Ok(Answer { status, via, body: response.text().await? })
        };
        tokio::time::timeout(Duration::from_secs(10), asked).await.context("no answer within 10 s")?
    }

    /// A request whose answer is read by the caller.
    pub async fn open(&self, path: &str) -> Result<Response> {
        Ok(self.client.get(format!("{}{path}", self.url)).send().await?)
    }

    /// The same with headers.
    pub async fn open_with(&self, path: &str, name: &str, value: &str) -> Result<Response> {
        Ok(self.client.get(format!("{}{path}", self.url)).header(name, value).send().await?)
    }
}

/// The certificate that the server at `address` shows for `name`, after it was verified.
pub async fn certificate(ca: &Path, name: &str, address: SocketAddr) -> Result<Vec<u8>> {
    let roots = atoll_runtime::tls::roots_from_pem(&std::fs::read_to_string(ca)?)?;
    let config = atoll_runtime::tls::client_config(roots, None, &[b"http/1.1"])?;
    let stream = atoll_runtime::tls::connect(&address.to_string(), name, config).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.first().map(|der| der.to_vec()).context("no certificate was shown")
}
