//! Questions to a sidecar's DNS, and a resolver for foreign names that the checks can watch.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(4);
/// Larger than any answer here.
const DATAGRAM: usize = 4096;

/// What a DNS server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `NXDOMAIN` and the like, as a number.
    pub code: ResponseCode,
    /// The addresses.
    pub addresses: Vec<Ipv4Addr>,
}

impl Said {
    /// Whether the name does not exist.
    pub fn is_nxdomain(&self) -> bool {
        self.code == ResponseCode::NXDomain
    }
}

/// Asks for the IPv4 addresses of a name.
pub async fn ask(server: SocketAddr, name: &str) -> Result<Said> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(format!("{name}."))?, RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    socket.send(&question.to_vec()?).await?;
    let mut buffer = vec![0; DATAGRAM];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = length.with_context(|| format!("the DNS at {server} does not answer"))??;
    let answer = Message::from_vec(&buffer[..length])?;
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(A(address)) => Some(*address),
        _ => None,
    });
    Ok(Said { code: answer.metadata.response_code, addresses: addresses.collect() })
}

/// A resolver that knows one name and counts what it is asked for it.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Where it answers.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
}

impl Resolver {
    /// The only name that it knows.
    pub const NAME: &'static str = "www.elsewhere.example";
    /// Its address.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    /// Answers at a free port of `127.0.0.1` until the process ends.
    pub async fn start() -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let resolver = Self { address: socket.local_addr()?, asked: Arc::default() };
        let asked = resolver.asked.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answer =
                    Message::from_vec(&buffer[..length]).ok().and_then(|question| reply(&question, &asked).to_vec().ok());
                if let Some(answer) = answer {
                    // A lost answer is asked for again.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Ok(resolver)
    }

    /// How often it was asked for its name.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn reply(question: &Message, asked: &AtomicU64) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = ResponseCode::NXDomain;
    for query in &question.queries {
        if query.name().to_ascii().trim_end_matches('.') == Resolver::NAME {
            asked.fetch_add(1, Ordering::Relaxed);
            answer.metadata.response_code = ResponseCode::NoError;
            if query.query_type() == RecordType::A {
                answer.add_answer(Record::from_rdata(query.name().clone(), 5, RData::A(A(Resolver::ADDRESS))));
            }
        }
        answer.add_query(query.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_resolver_knows_one_name() {
        let resolver = Resolver::start().await.unwrap();
        let said = ask(resolver.address, Resolver::NAME).await.unwrap();
        assert_eq!(said.addresses, [Resolver::ADDRESS]);
        assert!(ask(resolver.address, "api-gateway.gcp.mesh.acme.corp").await.unwrap().is_nxdomain());
        assert_eq!(resolver.asked(), 1);
    }
}
