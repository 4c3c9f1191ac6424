//! The certificate that the other side has shown, and whose id it is.
#![forbid(unsafe_code)]

use std::fmt;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What stands before a peer id in a URI of a certificate.
const SCHEME: &str = "zerio:";

/// The certificate that the other side has shown. TLS has checked it: it comes from an authority that is trusted
/// here, its time is now, and the other side has its key.
#[derive(Clone)]
pub struct PeerCertificate {
    der: CertificateDer<'static>,
}

impl PeerCertificate {
    pub(super) fn new(der: CertificateDer<'static>) -> PeerCertificate {
        PeerCertificate { der }
    }

    /// Its bytes, in DER: for what these functions do not tell.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 of those bytes, as `openssl x509 -noout -fingerprint -sha256` gives it: one certificate has it, and no
    /// other.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, &self.der).as_ref());
        fingerprint
    }

    /// The DNS names among its subject alternative names.
    pub fn dns_names(&self) -> Vec<String> {
        let names =
            |certificate: EndEntityCert<'_>| certificate.valid_dns_names().map(str::to_owned).collect();
        EndEntityCert::try_from(&self.der).map_or_else(|_| Vec::new(), names)
    }

    /// The URIs among its subject alternative names.
    pub fn uri_names(&self) -> Vec<String> {
        let names =
            |certificate: EndEntityCert<'_>| certificate.valid_uri_names().map(str::to_owned).collect();
        EndEntityCert::try_from(&self.der).map_or_else(|_| Vec::new(), names)
    }

    /// Whether it names this peer id, by the rule that holds where no other is given: one of its subject
    /// alternative names is the URI `zerio:ID`, or the DNS name `ID`, letter by letter. A `*` stands for itself.
    pub fn names(&self, id: &str) -> bool {
        let Ok(certificate) = EndEntityCert::try_from(&self.der) else { return false };
        certificate.valid_dns_names().any(|name| name == id)
            || certificate.valid_uri_names().any(|uri| uri.strip_prefix(SCHEME) == Some(id))
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dns, uris) = (self.dns_names(), self.uri_names());
        f.debug_struct("PeerCertificate").field("dns", &dns).field("uris", &uris).finish_non_exhaustive()
    }
}
