//! Certificates and keys, from files and from memory, in PEM. What is read here of a key is overwritten.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::pem::{Damaged, sections};
use crate::error::Error;

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    std::fs::read(path).map(Zeroizing::new).map_err(|why| unusable(path.display(), why))
}

pub(super) fn unusable(what: impl ToString, why: impl ToString) -> Error {
    Error::Credentials { what: what.to_string(), why: why.to_string() }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut all = Vec::new();
    for section in sections(pem) {
        let damaged = |Damaged| unusable(what, "its PEM is damaged");
        let section = section.map_err(damaged)?;
        if section.label == b"CERTIFICATE" {
            all.push(CertificateDer::from(section.decode().map_err(damaged)?.to_vec()));
        }
    }
    if all.is_empty() {
        return Err(unusable(what, "no certificate in PEM (BEGIN CERTIFICATE) is in it"));
    }
    Ok(all)
}

/// The first private key, in whichever of the three forms there are.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let what = "the private key";
    for section in sections(pem) {
        let damaged = |Damaged| unusable(what, "its PEM is damaged");
        let section = section.map_err(damaged)?;
        let of_kind: fn(Vec<u8>) -> PrivateKeyDer<'static> = match section.label {
            b"PRIVATE KEY" => |der| PrivateKeyDer::Pkcs8(der.into()),
            b"RSA PRIVATE KEY" => |der| PrivateKeyDer::Pkcs1(der.into()),
            b"EC PRIVATE KEY" => |der| PrivateKeyDer::Sec1(der.into()),
            _ => continue,
        };
        // Moved, not copied: rustls overwrites it.
        return Ok(of_kind(std::mem::take(&mut *section.decode().map_err(damaged)?)));
    }
    Err(unusable(what, "no private key in PEM (BEGIN PRIVATE KEY) is in it"))
}

/// A certificate, with those between it and its authority behind it, and its key.
pub(super) fn identity(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let chain = certificates("the certificate", certificate)?;
    let identity = CertifiedKey::from_der(chain, private_key(key)?, &provider())
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
