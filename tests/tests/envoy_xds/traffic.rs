//! Applications: one that echoes, and clients of it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::plane::DEADLINE;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An address that nobody uses.
pub(crate) fn free() -> SocketAddr {
    atoll_runtime::testing::free_address().expect("a port")
}

/// Answers what it is told.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(repeat(stream));
        }
    });
    address
}

/// Says one letter over TLS to whoever connects.
pub(crate) async fn saying(letter: char, config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                stream.write_all(&[letter as u8]).await?;
                stream.shutdown().await
            });
        }
    });
    address
}

/// The letter that is said at an address to somebody at `from`; none if nobody is there.
pub(crate) async fn heard(from: [u8; 4], at: SocketAddr) -> Option<char> {
    let exchange = async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        Ok::<_, std::io::Error>(char::from(socket.connect(at).await?.read_u8().await?))
    };
    timeout(DEADLINE, exchange).await.ok()?.ok()
}

/// Answers what it is told, over TLS.
pub(crate) async fn tls_echo(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    repeat(stream).await;
                }
            });
        }
    });
    address
}

/// Answers every HTTP request with 200.
pub(crate) async fn http() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn repeat(mut stream: impl Stream) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// A connection to something that echoes.
pub(crate) struct Connection(Box<dyn Stream>);

impl Connection {
    pub(crate) async fn plain(to: SocketAddr) -> std::io::Result<Self> {
        Ok(Self(Box::new(TcpStream::connect(to).await?)))
    }

    pub(crate) async fn tls(to: SocketAddr, config: Arc<ClientConfig>, sni: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::try_from(sni.to_owned()).expect("a name");
        Ok(Self(Box::new(TlsConnector::from(config).connect(name, stream).await?)))
    }

    /// Whether the other side answers.
    pub(crate) async fn works(&mut self) -> bool {
        let exchange = async {
            self.0.write_all(b"hello").await?;
            self.0.flush().await?;
            let mut answer = [0; 5];
            self.0.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(&answer == b"hello")
        };
        timeout(DEADLINE, exchange).await.is_ok_and(|answered| answered.unwrap_or(false))
    }

    /// Sends an HTTP request without a body; its status, and the connection can be used again.
    pub(crate) async fn get(&mut self) -> Option<u16> {
        let exchange = async {
            self.0.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
            self.0.flush().await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            self.0.read_exact(&mut body).await?;
            Ok::<_, std::io::Error>(head.get(9..12).and_then(|code| code.parse().ok()))
        };
        timeout(DEADLINE, exchange).await.ok()?.ok()?
    }

    /// Whether the connection ends within this time.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        let mut buffer = [0; 16];
        timeout(limit, self.0.read(&mut buffer)).await.is_ok_and(|read| !matches!(read, Ok(1..)))
    }
}

/// Whether one new plain connection works.
pub(crate) async fn plain_works(to: SocketAddr) -> bool {
    match Connection::plain(to).await {
        Ok(mut connection) => connection.works().await,
        Err(_) => false,
    }
}

/// Whether one new TLS connection works.
pub(crate) async fn tls_works(to: SocketAddr, config: &Arc<ClientConfig>, sni: &str) -> bool {
    match Connection::tls(to, Arc::clone(config), sni).await {
        Ok(mut connection) => connection.works().await,
        Err(_) => false,
    }
}

/// The timer of an idle socket that is kept alive.
pub(crate) const KEEP_ALIVE: u8 = 2;

/// The kernel's timers of both ends of every open connection to an address of this machine.
pub(crate) fn timers(to: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = to.ip() else { panic!("an IPv4 address") };
    let address = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = fields.filter(|fields| fields[3] == "01" && (fields[1] == address || fields[2] == address));
    open.filter_map(|fields| fields[5].split(':').next()?.parse().ok()).collect()
}
