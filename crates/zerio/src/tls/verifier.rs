//! Around rustls' verifiers: pinned keys, and telling a certificate that has signed itself from one of an
//! authority that is not known. Nothing is let through that they would not let through, but for a key that is
//! pinned in place of an authority.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::EndEntityCert;

use super::tickets::Tickets;

/// The SHA-256 of a certificate's public key (its SubjectPublicKeyInfo in DER).
pub(super) type Pin = [u8; 32];

/// Why a certificate is not accepted: it has signed itself.
#[derive(Debug, thiserror::Error)]
#[error("the certificate has signed itself, and is not trusted")]
pub(super) struct SelfSigned;

/// Why a certificate is not accepted: its key is none of the pinned ones.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's key is not one of the pinned ones")]
pub(super) struct NotPinned;

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// The same error, but for a certificate that has signed itself, and for one that an authority has signed that only has
/// the name of a trusted one.
fn explain(error: Error, certificate: &CertificateDer<'_>) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            explain(Error::InvalidCertificate(CertificateError::UnknownIssuer), certificate)
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) if is_self_signed(certificate) => {
            other(SelfSigned)
        }
        error => error,
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}

/// What a client goes by: roots, pinned keys, or both, and then both must agree.
pub(super) struct Servers {
    pub(super) roots: Option<Arc<WebPkiServerVerifier>>,
    pub(super) pins: Vec<Pin>,
    pub(super) provider: Arc<CryptoProvider>,
    /// Where it is told whose certificate was accepted.
    pub(super) tickets: Arc<Tickets>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| explain(error, end_entity))?;
        }
        if self.roots.is_none() || !self.pins.is_empty() {
            let certificate = EndEntityCert::try_from(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let key = digest(&SHA256, &certificate.subject_public_key_info());
            if !self.pins.iter().any(|pin| pin[..] == *key.as_ref()) {
                return Err(other(NotPinned));
            }
        }
        self.tickets.verified(server_name, now);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never asked: there is no TLS 1.2. Checking is right all the same.
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("pins", &self.pins.len()).finish_non_exhaustive()
    }
}

/// What a server goes by that requires certificates.
#[derive(Debug)]
pub(super) struct Clients(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now);
        verified.map_err(|error| explain(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
