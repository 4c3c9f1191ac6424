//! A peer under TLS that a test leads by hand, record by record.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, ServerConfig};

use super::certs::{Identity, shared};
use super::raw::frame;
use super::{PATIENCE, TestServer};

/// A client made of rustls and a socket, which has been let in.
pub struct Peer {
    pub tls: ClientConnection,
    pub socket: TcpStream,
}

impl Peer {
    pub fn connect(server: &TestServer, id: &str) -> Peer {
        Peer::connect_with(trusting(), server, id)
    }

    pub fn connect_with(config: Arc<ClientConfig>, server: &TestServer, id: &str) -> Peer {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = ClientConnection::new(config, name).unwrap();
        let socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Peer { tls, socket };
        peer.send(id.as_bytes());
        assert_eq!(peer.receive(id.len()), frame(id.as_bytes()), "let in");
        peer
    }

    pub fn send(&mut self, message: &[u8]) {
        rustls::Stream::new(&mut self.tls, &mut self.socket).write_all(&frame(message)).unwrap();
    }

    pub fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; 4 + len];
        rustls::Stream::new(&mut self.tls, &mut self.socket).read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The record of a message, which is not sent.
    pub fn record(&mut self, message: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(&frame(message)).unwrap();
        let mut record = Vec::new();
        self.tls.write_tls(&mut record).unwrap();
        record
    }
}

/// A client of rustls' that trusts the shared authority.
pub fn trusting() -> Arc<ClientConfig> {
    Arc::new(trusts().with_no_client_auth())
}

/// The same, and it gives its keys away.
pub fn extracting() -> Arc<ClientConfig> {
    let mut config = trusts().with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// The same as the first, and it shows who it is.
pub fn showing(identity: &Identity) -> Arc<ClientConfig> {
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    Arc::new(trusts().with_client_auth_cert(chain, key).unwrap())
}

fn trusts() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(shared().0.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_root_certificates(roots)
}

/// A server of rustls' that gives so many tickets.
pub fn giving(tickets: usize) -> Arc<ServerConfig> {
    let identity = &shared().1;
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.send_tls13_tickets = tickets;
    Arc::new(config)
}
