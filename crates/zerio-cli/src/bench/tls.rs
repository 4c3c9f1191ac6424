//! Sessions under TLS: the client knows the server by a certificate from a file, or one that is made on the spot.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use zerio::tls::{TlsClient, TlsServer};
use zerio::{Builder, Client, Config, Connect, Listen, Server};

use crate::failure::Failure;
use crate::tls::BenchTls;

/// For a run's server and its client.
struct Pair {
    server: TlsServer,
    client: TlsClient,
}

static PAIR: OnceLock<Pair> = OnceLock::new();

/// Reads the files that are named, before anything is measured.
pub(super) fn prepare(files: &BenchTls) -> Result<(), Failure> {
    if let Some((server, client)) = files.settings()? {
        PAIR.get_or_init(|| Pair { server, client });
    }
    Ok(())
}

fn pair() -> Result<&'static Pair, Failure> {
    if let Some(pair) = PAIR.get() {
        return Ok(pair);
    }
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(Failure::new)?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = TlsServer::from_pem(certificate.as_bytes(), key.as_bytes())?;
    let client = TlsClient::with_roots(certificate.as_bytes())?;
    Ok(PAIR.get_or_init(|| Pair { server, client }))
}

/// A run's server.
pub(super) fn server(config: Config) -> Result<Builder<Listen>, Failure> {
    let server = Server::bind("127.0.0.1:0")?;
    Ok(if config.tls { server.tls(pair()?.server.clone()) } else { server }.config(config))
}

/// A run's client.
pub(super) fn client(address: std::net::SocketAddr, config: Config) -> Result<Builder<Connect>, Failure> {
    let client = Client::connect(address, "bench")?;
    Ok(if config.tls { client.tls(pair()?.client.clone()) } else { client }.config(config))
}
