//! Certificates and keys, from files and from memory, in PEM. What is read here of a key is overwritten.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
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
    File::open(path).and_then(read_all).map_err(|why| unusable(path.display(), why))
}

/// Not as the standard library does it: of a pipe nobody knows how much comes, and a vector that grows leaves what it held
/// where it was.
fn read_all(mut source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let (mut bytes, mut len) = (Zeroizing::new(vec![0; 16 * 1024]), 0);
    loop {
        if len == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; 2 * len]);
            larger[..len].copy_from_slice(&bytes);
            bytes = larger;
        }
        match source.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
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
        if section.is_encrypted() {
            let plain = "`openssl pkey -in KEY -out PLAIN` decrypts it";
            return Err(unusable(
                what,
                format!("it is encrypted, and nobody is asked for a password here: {plain}"),
            ));
        }
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
