//! The machine's own resolver: asked for every name that is not the mesh's.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, MessageType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// The most servers that are tried for one question.
const TRIES: usize = 2;
/// Where a DNS server is, unless said otherwise.
const PORT: u16 = 53;

/// Which servers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
}

/// What the user named is no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--dns-upstream {0:?} is no address, address:port, or none")]
pub struct UpstreamFault(pub String);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No server is configured.
    #[error("no name server is configured")]
    NoServer,
    /// None of them answered.
    #[error("no name server answered")]
    Silence,
}

/// How a question came, and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A connection.
    Tcp,
}

impl Upstream {
    /// What the user named (`none`: nobody), or else the servers of a resolv.conf. Servers in `own` are left out: this program
    /// must not ask itself.
    ///
    /// # Errors
    /// When a text is no address.
    pub fn new(named: &[String], resolv_conf: &str, own: Option<SocketAddr>) -> Result<Self, UpstreamFault> {
        let mut servers = Vec::new();
        for text in named.iter().filter(|text| *text != "none") {
            servers.push(address(text).ok_or_else(|| UpstreamFault(text.clone()))?);
        }
        if named.is_empty() {
            servers = name_servers(resolv_conf);
        }
        servers.retain(|server| Some(*server) != own);
        Ok(Self { servers })
    }

    /// Asks the servers in their order; the first answer counts. `question` is a message as it came.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Result<Message, NoAnswer> {
        if self.servers.is_empty() {
            return Err(NoAnswer::NoServer);
        }
        for server in self.servers.iter().take(TRIES) {
            match tokio::time::timeout(TIMEOUT, exchange(*server, question, transport)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server failed"),
                Err(_) => tracing::debug!(%server, "a name server did not answer"),
            }
        }
        Err(NoAnswer::Silence)
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, PORT)))
}

/// The servers of a resolv.conf.
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // `fe80::1%eth0`: the scope is of no use without the interface's number.
        Some(SocketAddr::new(address.split('%').next()?.parse().ok()?, PORT))
    };
    resolv_conf.lines().filter_map(server).collect()
}

async fn exchange(server: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Message> {
    // Its own id and, over UDP, its own port: an answer that nobody asked for must guess both.
    let id: u16 = rand::random();
    let mut question = question.to_vec();
    question.get_mut(..2).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&id.to_be_bytes());
    match transport {
        Transport::Udp => over_udp(server, &question, id).await,
        Transport::Tcp => over_tcp(server, &question, id).await,
    }
}

async fn over_udp(server: SocketAddr, question: &[u8], id: u16) -> io::Result<Message> {
    let local = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer(&buffer[..length], id) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8], id: u16) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer(bytes: &[u8], id: u16) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    (message.metadata.id == id && message.metadata.message_type == MessageType::Response).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: &[&str], resolv_conf: &str) -> Vec<String> {
        let named: Vec<String> = named.iter().map(|text| (*text).to_owned()).collect();
        let upstream = Upstream::new(&named, resolv_conf, Some("127.0.0.53:53".parse().unwrap())).unwrap();
        upstream.servers.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn servers_come_from_the_command_line_or_from_resolv_conf() {
        let file = "# a comment\nsearch x\nnameserver 10.0.0.1\nnameserver 127.0.0.53\n nameserver fe80::1%eth0\nnameserver x\n";
        assert_eq!(check(&[], file), ["10.0.0.1:53", "[fe80::1]:53"], "and never this program itself");
        assert_eq!(check(&["10.0.0.2", "10.0.0.3:5353", "::1"], file), ["10.0.0.2:53", "10.0.0.3:5353", "[::1]:53"]);
        assert_eq!(check(&["none"], file), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert_eq!(Upstream::new(&["x".to_owned()], "", None), Err(UpstreamFault("x".to_owned())));
    }
}
