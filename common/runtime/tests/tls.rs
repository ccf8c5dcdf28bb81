//! The TLS listener against real sockets.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use atoll_runtime::tls::{self, ClientAuth, ServerIdentity, TlsListener};
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    tls::install_provider();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &CertifiedIssuer<'_, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["server".to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn roots(ca: &CertifiedIssuer<'_, KeyPair>) -> RootCertStore {
    tls::roots_from_pem(&ca.pem()).unwrap()
}

fn client(ca: &CertifiedIssuer<'_, KeyPair>) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (chain, key) = leaf(ca);
    (tls::chain_from_pem(&chain).unwrap(), tls::key_from_pem(&key).unwrap())
}

async fn served_certificate(address: &str, ca: &CertifiedIssuer<'_, KeyPair>) -> Vec<u8> {
    let config = tls::client_config(roots(ca), None, &[]).unwrap();
    let stream = tls::connect(address, "server", config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart_and_a_silent_peer_holds_up_nobody() {
    let ca = ca();
    let (chain, key) = leaf(&ca);
    let identity = ServerIdentity::new(&chain, &key).unwrap();
    let config = tls::server_config(identity.clone(), ClientAuth::None, &[]).unwrap();
    let listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    let _silent = TcpStream::connect(&address).await.unwrap();
    let first = served_certificate(&address, &ca).await;
    let (chain, key) = leaf(&ca);
    identity.replace(&chain, &key).unwrap();
    let second = served_certificate(&address, &ca).await;
    assert_eq!(second, tls::chain_from_pem(&chain).unwrap()[0].to_vec());
    assert_ne!(first, second);
    let (_, other_key) = leaf(&ca);
    assert!(identity.replace(&chain, &other_key).is_err(), "a key of another certificate is refused");
}

#[tokio::test]
async fn only_clients_of_the_ca_are_served() {
    let (ca, stranger) = (ca(), ca());
    let (chain, key) = leaf(&ca);
    let identity = ServerIdentity::new(&chain, &key).unwrap();
    let config = tls::server_config(identity, ClientAuth::Required(roots(&ca)), &[]).unwrap();
    let mut listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    for bad in [None, Some(client(&stranger))] {
        let config = tls::client_config(roots(&ca), bad, &[]).unwrap();
        // In TLS 1.3 the client learns of the refusal with its first read.
        if let Ok(mut stream) = tls::connect(&address, "server", config).await {
            assert!(stream.read_u8().await.is_err());
        }
    }
    let good = tls::client_config(roots(&ca), Some(client(&ca)), &[]).unwrap();
    let mut stream = tls::connect(&address, "server", Arc::clone(&good)).await.unwrap();
    let mut served = listener.next().await.unwrap().unwrap();
    served.write_all(b"x").await.unwrap();
    served.flush().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_client_that_may_show_a_certificate_shows_none_or_a_good_one() {
    let [ca, people, stranger] = [ca(), ca(), ca()];
    let (chain, key) = leaf(&ca);
    let identity = ServerIdentity::new(&chain, &key).unwrap();
    let config = tls::server_config(identity, ClientAuth::Optional(roots(&people)), &[]).unwrap();
    let mut listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    let bad = tls::client_config(roots(&ca), Some(client(&stranger)), &[]).unwrap();
    if let Ok(mut stream) = tls::connect(&address, "server", bad).await {
        assert!(stream.read_u8().await.is_err());
    }
    let shown = client(&people);
    let leaf = shown.0[0].clone();
    for (shown, known) in [(None, None), (Some(shown), Some(leaf))] {
        let config = tls::client_config(roots(&ca), shown, &[]).unwrap();
        let _stream = tls::connect(&address, "server", config).await.unwrap();
        let served = listener.next().await.unwrap().unwrap();
        assert_eq!(tls::client_certificate(&served), known);
    }
}

#[tokio::test]
async fn a_pinned_ca_is_found_in_the_chain_and_signs_for_the_name() {
    let (ca, stranger) = (ca(), ca());
    let (chain, key) = leaf(&ca);
    // Shows both CAs, as anybody can who knows them; only one of them signed.
    let identity = ServerIdentity::new(&(chain + &stranger.pem() + &ca.pem()), &key).unwrap();
    let config = tls::server_config(identity, ClientAuth::None, &[]).unwrap();
    let listener = TlsListener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    for (pinned, name, good) in [(&ca, "server", true), (&ca, "other", false), (&stranger, "server", false)] {
        let wanted = pinned.der().to_vec();
        let (config, found) = tls::client_config_pinned(move |der| der == wanted, &[]).unwrap();
        assert_eq!(tls::connect(&address, name, config).await.is_ok(), good, "{name}");
        assert_eq!(found.get().map(|der| der.to_vec()), good.then(|| ca.der().to_vec()), "{name}");
    }
}
