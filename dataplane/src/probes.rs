//! Asking the application behind each inbound whether it can serve: by a TCP connection (`serviceProbe.tcp` of the document), or
//! by a URL (`--service-probe`), which also tells what stands behind a gateway.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use atoll_model::{
    duration::GoDuration,
    kinds::{
        Dataplane,
        dataplane::{Inbound, Networking},
    },
};
use atoll_runtime::tasks::Tasks;
use reqwest::{Client, Url, redirect};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{args::ServiceProbe, redirect::rules::UNREDIRECTED};

/// Section → whether the application behind it answers. A section is absent until it was asked for the first time.
pub type Health = BTreeMap<String, bool>;

/// What is asked cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFault {
    /// There is no such inbound.
    #[error("--service-probe {0:?}: the Dataplane document has no such inbound; it has {1}")]
    NoInbound(String, String),
    /// Two for one.
    #[error("--service-probe {0:?} is given twice")]
    Twice(String),
    /// The library says no.
    #[error("--service-probe: {0}")]
    Client(#[from] reqwest::Error),
}

/// How the applications of a proxy are probed.
#[derive(Debug)]
pub struct Probes(Vec<Probe>);

/// How one inbound is probed.
#[derive(Debug)]
struct Probe {
    section: String,
    question: Question,
    interval: Duration,
    timeout: Duration,
    unhealthy_after: u32,
    healthy_after: u32,
}

#[derive(Debug)]
enum Question {
    /// A connection there, from an address if it matters.
    Tcp { address: String, from: Option<Ipv4Addr> },
    /// An answer below 400.
    Http { client: Client, url: Url },
}

impl Probes {
    /// What a document and the command line ask for.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn new(dataplane: &Dataplane, urls: &[ServiceProbe]) -> Result<Self, ProbeFault> {
        let networking = dataplane.networking.as_ref();
        let inbounds = networking.map_or(&[][..], |networking| &networking.inbound);
        let sections: Vec<_> = inbounds.iter().map(Inbound::section).collect();
        for (at, given) in urls.iter().enumerate() {
            if !sections.contains(&given.section) {
                let there = if sections.is_empty() { "none".to_owned() } else { sections.join(", ") };
                return Err(ProbeFault::NoInbound(given.section.clone(), there));
            }
            if urls[..at].iter().any(|earlier| earlier.section == given.section) {
                return Err(ProbeFault::Twice(given.section.clone()));
            }
        }
        let mut probes = Vec::new();
        for inbound in inbounds {
            let url = urls.iter().find(|given| given.section == inbound.section()).map(|given| &given.url);
            let Some(networking) = networking else { continue };
            if let Some(question) = question(networking, inbound, url)? {
                probes.push(probe(inbound, question));
            }
        }
        Ok(Self(probes))
    }

    /// Starts to probe.
    pub fn start(self, tasks: &Tasks, stop: &CancellationToken) -> (watch::Receiver<Health>, usize) {
        let (count, sender) = (self.0.len(), watch::Sender::new(Health::new()));
        let receiver = sender.subscribe();
        for probe in self.0 {
            let (sender, stop) = (sender.clone(), stop.clone());
            tasks.spawn("probe", async move {
                tokio::select! {
                    () = run(probe, &sender) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        (receiver, count)
    }
}

/// Waits until each of `count` applications was asked once, so that a runner that comes back does not withdraw what serves. No
/// longer than one probe may take.
pub async fn asked_once(mut health: watch::Receiver<Health>, count: usize) {
    let _ = health.wait_for(|health| health.len() == count).await;
}

fn question(networking: &Networking, inbound: &Inbound, url: Option<&Url>) -> Result<Option<Question>, ProbeFault> {
    let host = inbound.service_address.as_ref().or(inbound.address.as_ref()).unwrap_or(&networking.address);
    let port = inbound.service_port.filter(|port| *port != 0).unwrap_or(inbound.port);
    let redirected =
        networking.transparent_proxying.as_ref().is_some_and(|to| to.redirect_port_inbound.is_some_and(|to| to != 0));
    if let Some(url) = url {
        return Ok(Some(Question::Http { client: client(url, host, redirected)?, url: url.clone() }));
    }
    let asked = inbound.service_probe.as_ref().is_some_and(|probe| probe.tcp.is_some());
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok(asked.then(|| Question::Tcp { address, from: redirected.then(unredirected).flatten() }))
}

/// A connection for each question: one that is kept says nothing of new ones.
fn client(url: &Url, application: &str, redirected: bool) -> Result<Client, ProbeFault> {
    let mut builder = Client::builder()
        .danger_accept_invalid_certs(true)
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy();
    if let (Some(name), Ok(ip)) = (url.domain(), application.parse::<IpAddr>()) {
        builder = builder.resolve(name, SocketAddr::new(ip, 0));
    }
    let to = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let to = to.or_else(|| application.parse().ok());
    if redirected && to.is_some_and(|to| to.is_ipv4()) {
        builder = builder.local_address(unredirected().map(IpAddr::from));
    }
    Ok(builder.build()?)
}

/// On a host that redirects, a question from any other address would be answered by the proxy, which always takes connections.
fn unredirected() -> Option<Ipv4Addr> {
    UNREDIRECTED.parse().ok()
}

fn probe(inbound: &Inbound, question: Question) -> Probe {
    let set = inbound.service_probe.clone().unwrap_or_default();
    let time = |set: Option<GoDuration>, otherwise: u64| {
        set.and_then(|duration| u64::try_from(duration.0).ok()).map_or(Duration::from_secs(otherwise), Duration::from_nanos)
    };
    Probe {
        section: inbound.section(),
        question,
        interval: time(set.interval, 1),
        timeout: time(set.timeout, 2),
        unhealthy_after: set.unhealthy_threshold.unwrap_or(1),
        healthy_after: set.healthy_threshold.unwrap_or(1),
    }
}

/// The first answer counts at once; after it, changes need as many as the thresholds say.
async fn run(probe: Probe, health: &watch::Sender<Health>) {
    let mut known: Option<bool> = None;
    let mut against = 0;
    loop {
        let answer = match tokio::time::timeout(probe.timeout, probe.question.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        };
        let answered = answer.is_ok();
        against = if known == Some(answered) { 0 } else { against + 1 };
        let needed = if answered { probe.healthy_after } else { probe.unhealthy_after };
        if known != Some(answered) && (known.is_none() || against >= needed) {
            (known, against) = (Some(answered), 0);
            let reason = answer.err().unwrap_or_default();
            let word = if answered { "can serve" } else { "cannot serve: " };
            info!(section = probe.section, "the application behind {} {word}{reason}", probe.section);
            health.send_modify(|health| {
                health.insert(probe.section.clone(), answered);
            });
        }
        tokio::time::sleep(probe.interval).await;
    }
}

impl Question {
    async fn ask(&self) -> Result<(), String> {
        match self {
            Self::Tcp { address, from } => connect(address, *from).await.map_err(|error| error.to_string()),
            Self::Http { client, url } => match client.get(url.clone()).send().await {
                Ok(answer) if answer.status().as_u16() < 400 => Ok(()),
                Ok(answer) => Err(format!("{url} says {}", answer.status())),
                Err(error) => Err(format!("{url} does not answer: {}", error.without_url())),
            },
        }
    }
}

async fn connect(address: &str, from: Option<Ipv4Addr>) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host(address).await? {
        let connected = match (address, from) {
            (SocketAddr::V4(_), Some(from)) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((from, 0).into())?;
                socket.connect(address).await
            }
            (_, _) => TcpStream::connect(address).await,
        };
        match connected {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn dataplane(address: &str, port: u16) -> Dataplane {
        let probe = json!({"interval": "10ms", "timeout": "1s", "unhealthyThreshold": 2, "tcp": {}});
        let inbound = json!({"port": 80, "name": "http", "serviceAddress": address, "servicePort": port, "serviceProbe": probe});
        serde_json::from_value(json!({"networking": {"address": "127.0.0.1", "inbound": [inbound, {"port": 81}]}})).unwrap()
    }

    async fn becomes(health: &mut watch::Receiver<Health>, healthy: bool) {
        let expected = Health::from([("http".to_owned(), healthy)]);
        let wait = health.wait_for(|health| *health == expected);
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time").unwrap();
    }

    #[tokio::test]
    async fn an_application_that_comes_and_goes_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let (mut health, count) = Probes::new(&dataplane("127.0.0.1", address.port()), &[]).unwrap().start(&tasks, &stop);
        asked_once(health.clone(), count).await;
        becomes(&mut health, true).await;
        drop(listener);
        becomes(&mut health, false).await;
        let _listener = TcpListener::bind(address).await.unwrap();
        becomes(&mut health, true).await;
        stop.cancel();
    }

    #[tokio::test]
    async fn a_url_tells_what_stands_behind_a_gateway() {
        atoll_runtime::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, asked) = (watch::Sender::new("200 OK"), Arc::new(std::sync::Mutex::new(String::new())));
        let (says, heard) = (status.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 1024];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                *heard.lock().unwrap() = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", *says.borrow());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let urls = [format!("http=http://api.mesh:{}/healthz", address.port()).parse().unwrap()];
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let (mut health, _) = Probes::new(&dataplane("127.0.0.1", 1), &urls).unwrap().start(&tasks, &stop);
        becomes(&mut health, true).await;
        let text = asked.lock().unwrap().clone();
        assert!(text.starts_with("GET /healthz ") && text.contains(&format!("host: api.mesh:{}", address.port())), "{text}");
        status.send_replace("503 Service Unavailable");
        becomes(&mut health, false).await;
        status.send_replace("302 Found");
        becomes(&mut health, true).await;
        stop.cancel();
    }

    #[test]
    fn only_inbounds_that_ask_are_probed() {
        let probes = Probes::new(&dataplane("::1", 8080), &[]).unwrap().0;
        assert_eq!(probes.len(), 1);
        assert!(matches!(&probes[0].question, Question::Tcp { address, from: None } if address == "[::1]:8080"));
    }

    #[test]
    fn a_host_that_redirects_is_asked_from_where_it_does_not() {
        let mut dataplane = dataplane("10.0.0.1", 8080);
        let redirect = json!({"redirectPortInbound": 15006, "redirectPortOutbound": 15001});
        dataplane.networking.as_mut().unwrap().transparent_proxying = serde_json::from_value(redirect).unwrap();
        let probes = Probes::new(&dataplane, &[]).unwrap().0;
        assert!(matches!(&probes[0].question, Question::Tcp { from: Some(from), .. } if from.to_string() == "127.0.0.6"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |urls: &[&str], word: &str| {
            let urls: Vec<_> = urls.iter().map(|url| url.parse().unwrap()).collect();
            let fault = Probes::new(&dataplane("127.0.0.1", 1), &urls).unwrap_err().to_string();
            assert!(fault.contains(word), "{fault}");
        };
        check(&["https=http://a/"], "it has http, 81");
        check(&["http=http://a/", "http=http://b/"], "twice");
    }
}
