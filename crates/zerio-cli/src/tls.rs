//! The flags for TLS, and what they mean.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use zerio::Error;
use zerio::tls::{TlsClient, TlsServer};

use crate::failure::Failure;
use crate::shell::quoted;

/// For a server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS (`zerio certs` makes what it takes)")]
pub(crate) struct ServerTls {
    /// Speak TLS 1.3, with this certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authorities whose clients are let in (PEM)
    #[arg(long, value_name = "FILE", requires = "require_client_cert")]
    tls_ca: Option<PathBuf>,
    /// Let in only who has a certificate of `--tls-ca` that names his id: as zerio:ID, or as the DNS name ID
    #[arg(long, requires = "tls_ca", requires = "tls_cert")]
    require_client_cert: bool,
}

impl ServerTls {
    /// What the server goes by, if it is to speak TLS.
    pub(crate) fn settings(&self) -> Result<Option<TlsServer>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let tls = TlsServer::from_pem_files(certificate, key)
            .map_err(given(&[("--tls-cert", certificate), ("--tls-key", key)]))?;
        Ok(Some(match &self.tls_ca {
            Some(authorities) => tls
                .require_client_certificates_of_file(authorities)
                .map_err(given(&[("--tls-ca", authorities)]))?,
            None => tls,
        }))
    }
}

/// For both sides of a benchmark.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS, of zerio alone: the bare sockets beside it stay without")]
pub(crate) struct BenchTls {
    /// Speak TLS 1.3, by a certificate that is made on the spot where no files are named
    #[arg(long)]
    tls: bool,
    /// The server's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authorities that each side trusts (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// The name that the server's certificate must be for [default: 127.0.0.1]
    #[arg(long, value_name = "NAME", requires = "tls_cert")]
    server_name: Option<String>,
    /// Let the client in only by a certificate, which must name the peer id bench
    #[arg(long, requires = "client_cert")]
    require_client_cert: bool,
    /// The client's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key", requires = "require_client_cert")]
    client_cert: Option<PathBuf>,
    /// That certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl BenchTls {
    /// All of them, by their names here.
    pub(crate) const FLAGS: [&str; 8] = [
        "tls",
        "tls_cert",
        "tls_key",
        "tls_ca",
        "server_name",
        "require_client_cert",
        "client_cert",
        "client_key",
    ];

    /// Whether there is TLS at all.
    pub(crate) fn is_on(&self) -> bool {
        self.tls || self.tls_cert.is_some()
    }

    /// What both sides go by, where files say so.
    pub(crate) fn settings(&self) -> Result<Option<(TlsServer, TlsClient)>, Failure> {
        let (Some(certificate), Some(key), Some(authorities)) = (&self.tls_cert, &self.tls_key, &self.tls_ca)
        else {
            return Ok(None);
        };
        let mut server = TlsServer::from_pem_files(certificate, key)
            .map_err(given(&[("--tls-cert", certificate), ("--tls-key", key)]))?;
        let mut client =
            TlsClient::with_roots_file(authorities).map_err(given(&[("--tls-ca", authorities)]))?;
        if let Some(name) = &self.server_name {
            client = client.server_name(name)?;
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            server = server.require_client_certificates_of_file(authorities)?;
            client = client
                .certificate_files(certificate, key)
                .map_err(given(&[("--client-cert", certificate), ("--client-key", key)]))?;
        }
        Ok(Some((server, client)))
    }
}

/// For a client.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS (`zerio certs` makes what it takes)")]
pub(crate) struct ClientTls {
    /// Speak TLS 1.3, with servers of these authorities (PEM)
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Show this certificate to a server that asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name that the server's certificate must be for [default: its address]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    server_name: Option<String>,
}

impl ClientTls {
    /// What the client goes by, if it is to speak TLS.
    pub(crate) fn settings(&self) -> Result<Option<TlsClient>, Failure> {
        let Some(authorities) = &self.tls_ca else { return Ok(None) };
        let mut tls = TlsClient::with_roots_file(authorities).map_err(given(&[("--tls-ca", authorities)]))?;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls = tls
                .certificate_files(certificate, key)
                .map_err(given(&[("--tls-cert", certificate), ("--tls-key", key)]))?;
        }
        if let Some(name) = &self.server_name {
            tls = tls.server_name(name)?;
        }
        Ok(Some(tls))
    }
}

/// Where the library says that the certificate or the key can't be used, its user is told which file he gave as which.
fn given(files: &[(&str, &PathBuf)]) -> impl FnOnce(Error) -> Error {
    let flags: Vec<String> =
        files.iter().map(|(flag, file)| format!("{flag} {}", quoted(&file.display().to_string()))).collect();
    let is_one = |what: &str| files.iter().any(|(_, file)| Path::new(what) == file.as_path());
    move |error| match error {
        Error::Credentials { what, why } if !is_one(&what) => {
            Error::Credentials { what: format!("{what} ({})", flags.join(", ")), why }
        }
        error => error,
    }
}
