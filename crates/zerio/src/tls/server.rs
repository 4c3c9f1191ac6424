//! What a server goes by: its certificates, and whose clients' it accepts.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};

use super::certificate::PeerCertificate;
use super::credentials::{identity, provider, read, roots, unusable};
use super::handshake::Handshake;
use super::verifier::Clients;
use crate::error::{Error, TlsFault};

/// What a server needs for TLS: a certificate and its key, and perhaps the authorities whose clients it lets in.
/// Give it to [`Builder::tls`](crate::Builder::tls); keep a clone to change it while the server runs.
///
/// ```no_run
/// use zerio::Server;
/// use zerio::tls::TlsServer;
///
/// let tls = TlsServer::from_pem_files("server.pem", "server.key")?
///     .require_client_certificates_of_file("ca.pem")?;
/// let server = Server::bind("127.0.0.1:7000")?.tls(tls.clone()).start()?;
/// // Later, when there is a new certificate:
/// let fresh = TlsServer::from_pem_files("server.pem", "server.key")?;
/// tls.reload(fresh.require_client_certificates_of_file("ca.pem")?);
/// # server.stop();
/// # Ok::<(), zerio::Error>(())
/// ```
#[derive(Clone)]
pub struct TlsServer {
    current: Arc<RwLock<Current>>,
}

type Rule = Arc<dyn Fn(&PeerCertificate, &str) -> bool + Send + Sync>;

#[derive(Clone)]
struct Current {
    identities: Identities,
    roots: Option<Arc<RootCertStore>>,
    rule: Option<Rule>,
    config: Arc<ServerConfig>,
}

/// The certificates of a server: the first for whoever asks for no name, or for none of the others.
#[derive(Clone, Debug)]
struct Identities {
    first: Arc<CertifiedKey>,
    named: Vec<(String, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let is_asked_for = |name: &str| asked.is_some_and(|asked| asked.eq_ignore_ascii_case(name));
        let named = self.named.iter().find(|(name, _)| is_asked_for(name));
        Some(named.map_or(&self.first, |(_, identity)| identity).clone())
    }
}

impl TlsServer {
    /// From PEM in memory: a certificate, followed by those between it and its authority, and its key.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read, or do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<TlsServer, Error> {
        let identities = Identities { first: identity(certificate, key)?, named: Vec::new() };
        let config = make(&identities, None)?;
        let current = Current { identities, roots: None, rule: None, config };
        Ok(TlsServer { current: Arc::new(RwLock::new(current)) })
    }

    /// The same from files.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read, or do not belong together.
    pub fn from_pem_files(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<TlsServer, Error> {
        TlsServer::from_pem(&read(certificate.as_ref())?, &read(key.as_ref())?)
    }

    /// One more certificate, for clients that ask for this server name: a DNS name, with no wildcard.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] as for the first one, and where nobody can ask for that name.
    pub fn and_for_name(self, name: &str, certificate: &[u8], key: &[u8]) -> Result<TlsServer, Error> {
        DnsName::try_from(name).map_err(|why| unusable(format!("the server name {name:?}"), why))?;
        let identity = identity(certificate, key)?;
        self.change(|current| current.identities.named.push((name.to_owned(), identity)))
    }

    /// Lets in only who shows a certificate of one of these authorities, in PEM. The peer id must be what the
    /// certificate says: by the rule of [`PeerCertificate::names`], or by [`identify`](TlsServer::identify).
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read.
    pub fn require_client_certificates(self, authorities: &[u8]) -> Result<TlsServer, Error> {
        let roots = roots(authorities)?;
        self.change(|current| current.roots = Some(roots))
    }

    /// The same from a file.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] where they can't be read.
    pub fn require_client_certificates_of_file(
        self,
        authorities: impl AsRef<Path>,
    ) -> Result<TlsServer, Error> {
        let authorities = read(authorities.as_ref())?;
        self.require_client_certificates(&authorities)
    }

    /// Whose certificate may have which peer id, in place of the rule of [`PeerCertificate::names`]. It is asked on
    /// the engine's thread for each client that has shown a certificate, before its session begins. A server that has such a
    /// rule and requires no certificates does not start.
    #[must_use]
    pub fn identify(
        self,
        rule: impl Fn(&PeerCertificate, &str) -> bool + Send + Sync + 'static,
    ) -> TlsServer {
        self.write().rule = Some(Arc::new(rule));
        self
    }

    /// From now on whoever connects meets what `fresh` says; sessions that stand stay as they are. Tickets that
    /// were given before are worth nothing any more.
    pub fn reload(&self, fresh: TlsServer) {
        let fresh = fresh.read();
        *self.write() = fresh;
    }

    fn change(self, change: impl FnOnce(&mut Current)) -> Result<TlsServer, Error> {
        let mut current = self.read();
        change(&mut current);
        current.config = make(&current.identities, current.roots.as_ref())?;
        *self.write() = current;
        Ok(self)
    }

    /// Before a server starts with it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let current = self.read();
        if current.rule.is_some() && current.roots.is_none() {
            let why = "it is asked about certificates, and none are required: call `require_client_certificates` too";
            return Err(unusable("the rule given to `identify`", why));
        }
        Ok(())
    }

    /// A connection has come.
    pub(crate) fn begin(&self) -> Result<Handshake, TlsFault> {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        Handshake::server(config)
    }

    /// Whether a client is told how to come again without a whole handshake.
    #[cfg(feature = "sim")]
    pub(crate) fn gives_tickets(&self) -> bool {
        self.read().config.send_tls13_tickets > 0
    }

    /// Whether somebody with this certificate may have this peer id.
    pub(crate) fn allows(&self, certificate: Option<&PeerCertificate>, id: &str) -> bool {
        let current = self.read();
        match (current.rule, certificate) {
            // It may have shaken hands before certificates were required.
            (None, None) => current.roots.is_none(),
            (Some(_), None) => false,
            (None, Some(certificate)) => certificate.names(id),
            (Some(rule), Some(certificate)) => rule(certificate, id),
        }
    }

    fn read(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.read();
        let required = current.roots.is_some();
        f.debug_struct("TlsServer").field("requires_certificates", &required).finish_non_exhaustive()
    }
}

fn make(identities: &Identities, roots: Option<&Arc<RootCertStore>>) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|why| unusable("TLS 1.3", why))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
            let verifier = verifier.build().map_err(|why| unusable("the authorities", why))?;
            builder.with_client_cert_verifier(Arc::new(Clients(verifier)))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(identities.clone()));
    config.enable_secret_extraction = true;
    if roots.is_some() {
        // A ticket brings the certificate of the session that it is from, which rustls does not look at again, and a ticket
        // for the next time: a certificate that has expired would do for ever.
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}
