//! The DNS server, UDP and TCP.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Edns, Message, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    table::Table,
    upstream::{NoAnswer, Transport, Upstream},
};

/// How long a connection may be idle.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that wait for a slow TCP client.
const TCP_BUFFER: usize = 32;
/// The largest datagram that we send: it passes every network whole.
const UDP_MAX: u16 = 1232;

/// How long a client may remember that a name of the mesh does not exist: it may exist soon.
const ABSENT_SECONDS: u32 = 5;

/// Why DNS cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum DnsFault {
    /// The port is taken, or not this machine's.
    #[error("DNS: cannot listen at {0}: {1}. Choose another --dns-port or --dns-addr, or --dns-enabled=false")]
    Listen(SocketAddr, io::Error),
}

/// Questions by their outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    outcome: &'static str,
}

/// Counts questions.
pub type Questions = Family<Outcome, Counter>;

/// A bound server.
#[derive(Debug)]
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl DnsServer {
    /// Listens at `address`, UDP and TCP; port 0 takes one that is free for both.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, DnsFault> {
        let fault = |error| DnsFault::Listen(address, error);
        let mut tries = if address.port() == 0 { 10 } else { 1 };
        loop {
            let tcp = TcpListener::bind(address).await.map_err(fault)?;
            let bound = tcp.local_addr().map_err(fault)?;
            tries -= 1;
            match UdpSocket::bind(bound).await {
                Ok(udp) => return Ok(Self { udp, tcp, address: bound }),
                Err(_) if tries > 0 => {}
                Err(error) => return Err(fault(error)),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled.
    pub async fn serve(
        self,
        table: watch::Receiver<Arc<Table>>,
        upstream: Upstream,
        questions: Questions,
        stop: CancellationToken,
    ) {
        let mut server = Server::new(Answerer { table, upstream, questions });
        server.register_socket(self.udp);
        server.register_listener(self.tcp, TCP_TIMEOUT, TCP_BUFFER);
        tokio::select! {
            ended = server.block_until_done() => if let Err(error) = ended {
                warn!(%error, "DNS ended");
            },
            () = stop.cancelled() => {}
        }
    }
}

struct Answerer {
    table: watch::Receiver<Arc<Table>>,
    upstream: Upstream,
    questions: Questions,
}

/// An answer before it is encoded.
struct Reply {
    message: Message,
    outcome: &'static str,
}

#[async_trait::async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let Reply { message, outcome } = self.reply(request).await;
        self.questions.get_or_create(&Outcome { outcome }).inc();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        let edns = request.edns.as_ref().map(|asked| edns(asked, message.edns.as_ref()));
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let Message { metadata, answers, authorities, additionals, .. } = &message;
        let mut metadata = *metadata;
        metadata.id = request.metadata.id;
        let response = builder.build(metadata, answers, authorities, [], additionals);
        match handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                debug!(%error, "an answer could not be sent");
                let header = hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() };
                header.into()
            }
        }
    }
}

impl Answerer {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return code(request, ResponseCode::NotImp, "refused");
        }
        let Ok(info) = request.request_info() else { return code(request, ResponseCode::FormErr, "refused") };
        let (name, class, kind) = (Name::from(info.query.name().clone()), info.query.query_class(), info.query.query_type());
        let table = self.table.borrow().clone();
        match table.get(&name.to_ascii()) {
            Some(addresses) if class == DNSClass::IN => {
                let mut reply = code(request, ResponseCode::NoError, "mesh");
                reply.message.metadata.authoritative = true;
                let records = addresses.iter().filter_map(|address| data(*address, kind));
                let asked = info.query.original().name();
                reply.message.answers = records.map(|data| Record::from_rdata(asked.clone(), table.ttl_seconds, data)).collect();
                reply
            }
            Some(_) | None => {
                let reply = self.forward(request).await;
                match table.domain_of(&name.to_ascii()) {
                    Some(domain) if says_nothing(&reply) => absent(request, domain),
                    Some(_) | None => reply,
                }
            }
        }
    }

    async fn forward(&self, request: &Request) -> Reply {
        let transport = if request.protocol() == Protocol::Udp { Transport::Udp } else { Transport::Tcp };
        match self.upstream.ask(request.as_slice(), transport).await {
            Ok(message) => Reply { message, outcome: "forwarded" },
            Err(NoAnswer::NoServer) => code(request, ResponseCode::NXDomain, "unknown"),
            Err(NoAnswer::Silence) => code(request, ResponseCode::ServFail, "upstream_failed"),
        }
    }
}

/// Whether the machine's resolver does not have the name, or cannot say. An answer without records is an answer.
fn says_nothing(reply: &Reply) -> bool {
    let code = reply.message.metadata.response_code;
    matches!(code, ResponseCode::NXDomain | ResponseCode::ServFail | ResponseCode::Refused)
}

/// That a name of the mesh does not exist. The SOA record says for how long that holds; the outside's may say a day.
fn absent(request: &Request, domain: &str) -> Reply {
    let mut reply = code(request, ResponseCode::NXDomain, "absent");
    if let (Ok(domain), Ok(mailbox)) = (Name::from_ascii(domain), Name::from_ascii(format!("hostmaster.{domain}"))) {
        let (domain, mailbox) = (fqdn(domain), fqdn(mailbox));
        let soa = rdata::SOA::new(domain.clone(), mailbox, 1, 3600, 600, 86_400, ABSENT_SECONDS);
        reply.message.authorities = vec![Record::from_rdata(domain, ABSENT_SECONDS, RData::SOA(soa))];
    }
    reply
}

fn fqdn(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

/// The record data of an address, if that is of the kind that was asked for.
fn data(address: std::net::IpAddr, kind: RecordType) -> Option<RData> {
    use std::net::IpAddr::{V4, V6};
    match (address, kind) {
        (V4(address), RecordType::A | RecordType::ANY) => Some(RData::A(rdata::A(address))),
        (V6(address), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(rdata::AAAA(address))),
        (V4(_) | V6(_), _) => None,
    }
}

/// An answer without records.
fn code(request: &Request, code: ResponseCode, outcome: &'static str) -> Reply {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    Reply { message, outcome }
}

/// Our EDNS for a client that has it: as large as both of us like, with the upstream's flags.
fn edns(asked: &Edns, upstream: Option<&Edns>) -> Edns {
    let mut edns = upstream.cloned().unwrap_or_default();
    edns.set_max_payload(asked.max_payload().clamp(512, UDP_MAX));
    edns.set_version(0);
    edns
}
