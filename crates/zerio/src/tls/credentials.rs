//! Certificates and keys, from files and from memory, in PEM.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::error::Error;

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|why| unusable(path.display(), why))
}

pub(super) fn unusable(what: impl ToString, why: impl ToString) -> Error {
    Error::Credentials { what: what.to_string(), why: why.to_string() }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|why| unusable(what, why))?;
    if all.is_empty() {
        return Err(unusable(what, "no certificate in PEM (BEGIN CERTIFICATE) is in it"));
    }
    Ok(all)
}

/// A certificate, with those between it and its authority behind it, and its key.
pub(super) fn identity(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let chain = certificates("the certificate", certificate)?;
    // Not what the parser says of it: nothing of a key is to stand in an error.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| unusable("the private key", "no private key in PEM (BEGIN PRIVATE KEY) is in it"))?;
    let identity = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|why| unusable("the certificate with this private key", why))?;
    Ok(Arc::new(identity))
}

/// The authorities whose certificates are accepted.
pub(super) fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the authorities' certificates", pem)? {
        roots.add(certificate).map_err(|why| unusable("an authority's certificate", why))?;
    }
    Ok(Arc::new(roots))
}
