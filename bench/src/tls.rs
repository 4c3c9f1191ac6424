//! Who a run's server is under TLS, and how its client knows: a certificate made for the run, whose key stays in the
//! server's process. Both peers that speak TLS have rustls with ring, and so the same cipher suite.
#![forbid(unsafe_code)]

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::failure::Failure;
use crate::job::Said;
use crate::role::say;

/// What the certificate names, and the client expects.
pub(crate) const NAME: &str = "localhost";

/// A server's certificate and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    /// A fresh one, which the client will be told of.
    pub(crate) fn announced() -> Result<Identity, Failure> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
        say(&Said::Certificate(certificate.pem()));
        Ok(Identity { certificate, key })
    }

    pub(crate) fn certificate(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// For who has rustls himself.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Failure> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(Failure::new)?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}

/// Trusts this certificate alone; for who has rustls himself.
pub(crate) fn client(certificate: &str) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(Failure::new)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
