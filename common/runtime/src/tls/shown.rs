//! What certificate a server shows for a server name: for probes, which judge it themselves and send nothing of their own.
//!
//! rustls takes no server name whose last label is a number, and those of the mesh end in a port. So it is given another name
//! of the same length, with a letter in the place of the digit, and the digit is put back twice: in what is sent, and in what
//! is hashed, so that both ends see one handshake.

use std::{
    borrow::Cow,
    io,
    sync::{Arc, LazyLock},
};

use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Tls13CipherSuite,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        hash::{Context, Hash, HashAlgorithm, Output},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The most that a server may send before it has shown its certificate.
const READ_MAX: usize = 128 << 10;

/// The chain that the server at the other end of `stream` shows for `server_name`, and whose key it has: its handshake is done,
/// ours is not. Nothing is believed or secret here; the caller judges what was shown, and limits the time.
///
/// # Errors
/// When the connection ends or the handshake fails before that, or the name cannot be a server name.
pub async fn shown(stream: &mut TcpStream, server_name: &str, alpn: &[&[u8]]) -> io::Result<Vec<CertificateDer<'static>>> {
    let name = ServerName::try_from(hide_number(server_name)).map_err(invalid)?;
    let mut connection = ClientConnection::new(config(alpn)?, name).map_err(invalid)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    restore_record(&mut hello);
    stream.write_all(&hello).await?;
    let (mut buffer, mut total) = ([0; 8 << 10], 0);
    while connection.is_handshaking() {
        let count = stream.read(&mut buffer).await?;
        total += count;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        if total > READ_MAX {
            return Err(invalid("the server sends too much"));
        }
        let mut read = &buffer[..count];
        while !read.is_empty() {
            connection.read_tls(&mut read)?;
            connection.process_new_packets().map_err(invalid)?;
        }
    }
    Ok(connection.peer_certificates().unwrap_or_default().to_vec())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn config(alpn: &[&[u8]]) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(invalid)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unjudged(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes every certificate: the caller judges. The server must have its key, though.
#[derive(Debug)]
struct Unjudged(Arc<CryptoProvider>);

impl ServerCertVerifier for Unjudged {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// ring, with hashes that see the name as it is sent.
fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.iter().map(Into::into).collect(), ..rustls::crypto::ring::default_provider() }
}

static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
    let suite = |(suite, hash_provider): (&&'static Tls13CipherSuite, &'static Restoring)| Tls13CipherSuite {
        common: CipherSuiteCommon { hash_provider, ..suite.common },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    };
    RINGS.iter().zip(HASHES.iter()).map(suite).collect()
});

static HASHES: LazyLock<Vec<Restoring>> =
    LazyLock::new(|| RINGS.iter().map(|suite| Restoring(suite.common.hash_provider)).collect());

static RINGS: LazyLock<Vec<&'static Tls13CipherSuite>> = LazyLock::new(|| {
    let all = rustls::crypto::ring::DEFAULT_CIPHER_SUITES;
    all.iter().filter_map(rustls::SupportedCipherSuite::tls13).collect()
});

/// A hash that sees the client's hello as it is sent.
struct Restoring(&'static dyn Hash);

impl Hash for Restoring {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Hashing(self.0.start()))
    }
    fn hash(&self, data: &[u8]) -> Output {
        self.0.hash(&restored(data))
    }
    fn output_len(&self) -> usize {
        self.0.output_len()
    }
    fn algorithm(&self) -> HashAlgorithm {
        self.0.algorithm()
    }
}

struct Hashing(Box<dyn Context>);

impl Context for Hashing {
    fn fork_finish(&self) -> Output {
        self.0.fork_finish()
    }
    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.fork()))
    }
    fn finish(self: Box<Self>) -> Output {
        self.0.finish()
    }
    fn update(&mut self, data: &[u8]) {
        self.0.update(&restored(data));
    }
}

/// The name that rustls gets: if the last label is a number, its first digit becomes a capital letter, which no name of the
/// mesh has.
fn hide_number(name: &str) -> String {
    let at = name.rfind('.').map_or(0, |dot| dot + 1);
    let (stem, label) = name.split_at(at);
    let is_number = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let Some(digit) = label.bytes().next().filter(|_| is_number) else { return name.to_owned() };
    format!("{stem}{}{}", char::from(digit - b'0' + b'A'), &label[1..])
}

fn restored(data: &[u8]) -> Cow<'_, [u8]> {
    let Some(at) = hidden_digit(data) else { return Cow::Borrowed(data) };
    let mut data = data.to_vec();
    data[at] = data[at] - b'A' + b'0';
    Cow::Owned(data)
}

/// Puts the digit back into the record that holds the client's hello.
fn restore_record(record: &mut [u8]) {
    const HEADER: usize = 5;
    if let Some(at) = record.get(HEADER..).and_then(hidden_digit) {
        record[HEADER + at] = record[HEADER + at] - b'A' + b'0';
    }
}

/// Where a client's hello has the letter in the place of a digit, if `data` is one that has.
fn hidden_digit(data: &[u8]) -> Option<usize> {
    const CLIENT_HELLO: u8 = 1;
    let mut reader = Reader { data, at: 0 };
    (reader.number(1)? == usize::from(CLIENT_HELLO)).then_some(())?;
    (reader.number(3)? <= data.len() - reader.at).then_some(())?;
    reader.skip(2 + 32)?; // version, random
    for width in [1, 2, 1] {
        let length = reader.number(width)?; // session id, cipher suites, compressions
        reader.skip(length)?;
    }
    reader.number(2)?;
    loop {
        let (kind, length) = (reader.number(2)?, reader.number(2)?);
        if kind == 0 {
            reader.skip(2 + 1)?; // length of the list, type of the only name
            let length = reader.number(2)?;
            let name = data.get(reader.at..reader.at + length)?;
            let label = name.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1);
            return name.get(label)?.is_ascii_uppercase().then_some(reader.at + label);
        }
        reader.skip(length)?;
    }
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self, width: usize) -> Option<usize> {
        let bytes = self.data.get(self.at..self.at + width)?;
        self.at += width;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.data.len())?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ServerConfig, ServerConnection};
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{chain_from_pem, key_from_pem};

    /// A server as Envoy is one: it takes any name. rustls does not, so it reads the letter, and hashes the digit.
    async fn serve(listener: TcpListener, chain: Vec<CertificateDer<'static>>, key: String) -> Vec<u8> {
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key_from_pem(&key).unwrap())
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 4096];
        let count = stream.read(&mut hello).await.unwrap();
        hello.truncate(count);
        let sent = hello.clone();
        if let Some(at) = hello.windows(5).position(|window| window == b".8443") {
            hello[at + 1] = b'I';
        }
        server.read_tls(&mut &hello[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        stream.write_all(&answer).await.unwrap();
        sent
    }

    #[tokio::test]
    async fn a_name_that_ends_in_a_number_is_sent_as_it_is() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let chain = chain_from_pem(&certificate.pem()).unwrap();
        for name in ["sni.msvc.default.gcp.api.8443", "sni.msvc.default.gcp.api.web"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let server = tokio::spawn(serve(listener, chain.clone(), key.serialize_pem()));
            assert_eq!(shown(&mut stream, name, &[]).await.unwrap(), chain, "{name}");
            let sent = server.await.unwrap();
            assert!(sent.windows(name.len()).any(|window| window == name.as_bytes()), "{name} is not in the hello");
        }
    }

    #[test]
    fn only_a_number_is_hidden() {
        for (name, hidden) in [("a.b.80", "a.b.I0"), ("a.0", "a.A"), ("a.b", "a.b"), ("a.8b", "a.8b"), ("", "")] {
            assert_eq!(hide_number(name), hidden);
        }
        assert_eq!(hidden_digit(&[1, 0, 0]), None);
        assert_eq!(hidden_digit(&[1; 200]), None);
    }
}
