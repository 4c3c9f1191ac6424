//! What a client goes by: which servers it trusts, and who it is.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, version};

use super::credentials::{identity, provider, read, roots, unusable};
use super::handshake::Handshake;
use super::tickets::Tickets;
use super::verifier::{Pin, Servers};
use crate::error::{Error, TlsFault};

/// What a client needs for TLS: the authorities, or the very keys, that it trusts, and perhaps a certificate of its
/// own. Give it to [`Builder::tls`](crate::Builder::tls). Clones share the tickets by which a later connection
/// needs no certificates again, for a day after a server has shown its own.
///
/// ```no_run
/// use zerio::Client;
/// use zerio::tls::TlsClient;
///
/// let tls = TlsClient::with_roots_file("ca.pem")?
///     .server_name("zerio.example")?
///     .certificate_files("client-1.pem", "client-1.key")?;
/// let client = Client::connect("127.0.0.1:7000", "client-1")?.tls(tls).start()?;
/// # client.stop();
/// # Ok::<(), zerio::Error>(())
/// ```
#[derive(Clone)]
pub struct TlsClient {
    roots: Option<Arc<RootCertStore>>,
    pins: Vec<Pin>,
    identity: Option<Arc<CertifiedKey>>,
    name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts servers whose certificates come from these authorities, in PEM.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read.
    pub fn with_roots(authorities: &[u8]) -> Result<TlsClient, Error> {
        TlsClient::new(Some(roots(authorities)?), Vec::new())
    }

    /// The same from a file.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read.
    pub fn with_roots_file(authorities: impl AsRef<Path>) -> Result<TlsClient, Error> {
        TlsClient::with_roots(&read(authorities.as_ref())?)
    }

    /// Trusts servers that have one of these keys, whoever has signed their certificates, for whichever name and
    /// time. A key is told by its SHA-256, of its SubjectPublicKeyInfo in DER, as
    /// `openssl x509 -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum` gives it.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where there is none.
    pub fn with_pinned_keys(keys: &[[u8; 32]]) -> Result<TlsClient, Error> {
        if keys.is_empty() {
            return Err(unusable("the pinned keys", "there is none"));
        }
        TlsClient::new(None, keys.to_vec())
    }

    fn new(roots: Option<Arc<RootCertStore>>, pins: Vec<Pin>) -> Result<TlsClient, Error> {
        let config = make(roots.as_ref(), &pins, None)?;
        Ok(TlsClient { roots, pins, identity: None, name: None, config })
    }

    /// Trusts only those of the authorities' servers that have one of these keys too.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] as the first call.
    pub fn and_pinned_keys(mut self, keys: &[[u8; 32]]) -> Result<TlsClient, Error> {
        self.pins.extend_from_slice(keys);
        self.remade()
    }

    /// The name that the server's certificate must be for: a DNS name or an IP address. Without one it is the
    /// address that is connected to.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where that is no name.
    pub fn server_name(mut self, name: &str) -> Result<TlsClient, Error> {
        let parsed = ServerName::try_from(name.to_owned());
        self.name = Some(parsed.map_err(|why| unusable(format!("the server name {name:?}"), why))?);
        Ok(self)
    }

    /// Shows this certificate to a server that asks for one: PEM in memory, those between it and its authority
    /// behind it, and its key.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read, or do not belong together.
    pub fn certificate(mut self, certificate: &[u8], key: &[u8]) -> Result<TlsClient, Error> {
        self.identity = Some(identity(certificate, key)?);
        self.remade()
    }

    /// The same from files.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read, or do not belong together.
    pub fn certificate_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<TlsClient, Error> {
        let (certificate, key) = (read(certificate.as_ref())?, read(key.as_ref())?);
        self.certificate(&certificate, &key)
    }

    fn remade(mut self) -> Result<TlsClient, Error> {
        self.config = make(self.roots.as_ref(), &self.pins, self.identity.as_ref())?;
        Ok(self)
    }

    /// A connection to this address has come about.
    pub(crate) fn begin(&self, address: SocketAddr) -> Result<Handshake, TlsFault> {
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
        Handshake::client(self.config.clone(), name)
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, identity) = (&self.name, self.identity.is_some());
        let mut debug = f.debug_struct("TlsClient");
        debug.field("server_name", name).field("has_certificate", &identity).finish_non_exhaustive()
    }
}

fn make(
    roots: Option<&Arc<RootCertStore>>,
    pins: &[Pin],
    identity: Option<&Arc<CertifiedKey>>,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = |roots: &Arc<RootCertStore>| {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
        verifier.map_err(|why| unusable("the authorities", why))
    };
    let roots = roots.map(verifier).transpose()?;
    let tickets = Arc::new(Tickets::new());
    let servers = Servers { roots, pins: pins.to_vec(), provider: provider(), tickets: tickets.clone() };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|why| unusable("TLS 1.3", why))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(identity.clone()));
            builder.with_client_cert_resolver(resolver)
        }
    };
    config.enable_secret_extraction = true;
    config.resumption = Resumption::store(tickets);
    Ok(Arc::new(config))
}
