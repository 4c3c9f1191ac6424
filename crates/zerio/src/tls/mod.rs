//! TLS 1.3 between the rings and the kernel (feature `tls`): who a server is, whom it lets in, and whom a client
//! trusts.
//!
//! The handshake, the certificates and the keys are rustls'. After it the records are sealed and opened in
//! zerio's own memory: many messages share one record, and nothing is allocated.
//!
//! ```
//! use zerio::tls::{TlsClient, TlsServer};
//! use zerio::{Client, Server};
//!
//! # let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
//! # let (certificate, key) = (key.cert.pem(), key.signing_key.serialize_pem());
//! let tls = TlsServer::from_pem(certificate.as_bytes(), key.as_bytes())?;
//! let server = Server::bind("127.0.0.1:0")?.tls(tls).start()?;
//!
//! let tls = TlsClient::with_roots(certificate.as_bytes())?.server_name("localhost")?;
//! let client = Client::connect(server.local_addr(), "client-1")?.tls(tls).start()?;
//! client.send(b"oui")?;
//! # client.stop();
//! # server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! `docs/security.md` says it in full. TLS 1.3 alone is spoken. A connection that ends without `close_notify` is
//! told from one that ends in order ([`TlsFault::Truncated`]). Where a server requires
//! certificates, a peer id is what its certificate says.
#![forbid(unsafe_code)]

mod certificate;
mod client;
mod credentials;
mod fault;
pub(crate) mod handshake;
pub(crate) mod inbound;
pub(crate) mod keys;
mod pem;
pub(crate) mod record;
mod server;
mod tickets;
mod verifier;

pub use certificate::PeerCertificate;
pub use client::TlsClient;
pub use server::TlsServer;

use std::net::SocketAddr;

use handshake::Handshake;

use crate::error::TlsFault;

/// What an engine goes by.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    Server(TlsServer),
    Client(TlsClient),
}

impl Side {
    /// A connection with this address has come about.
    pub(crate) fn begin(&self, address: SocketAddr) -> Result<Handshake, TlsFault> {
        match self {
            Side::Server(server) => server.begin(),
            Side::Client(client) => client.begin(address),
        }
    }

    /// Whether somebody with this certificate may have this peer id.
    pub(crate) fn allows(&self, certificate: Option<&PeerCertificate>, id: &str) -> bool {
        match self {
            Side::Server(server) => server.allows(certificate, id),
            Side::Client(_) => true,
        }
    }
}
