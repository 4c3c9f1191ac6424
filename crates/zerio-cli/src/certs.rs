//! `zerio certs`: an authority for development, and certificates of a server and of clients.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{Write, stdout};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType,
};

use crate::args;
use crate::failure::Failure;

pub(crate) fn run(args: &args::Certs) -> Result<(), Failure> {
    fs::create_dir_all(&args.folder).map_err(Failure::new)?;
    let key = KeyPair::generate().map_err(Failure::new)?;
    let mut params = named("a zerio authority for development");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).map_err(Failure::new)?;
    // Its key is not kept: nobody can sign anything else.
    let issuer = Issuer::new(params, key);
    write(&args.folder, "ca.pem", &authority.pem(), false)?;

    let mut server = named("a zerio server");
    for name in &args.server_names {
        server.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(Failure::new)?),
        });
    }
    server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    sign(&args.folder, "server", &server, &issuer)?;
    for id in &args.clients {
        if id.contains(['/', '\\']) || matches!(id.as_str(), "" | "ca" | "server") {
            return Err(Failure::Usage(format!("a client's certificate can't be named {id:?}")));
        }
        let mut client = named(id);
        let uri = format!("zerio:{id}");
        client.subject_alt_names.push(SanType::URI(uri.try_into().map_err(Failure::new)?));
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        sign(&args.folder, id, &client, &issuer)?;
    }
    let (folder, id) = (args.folder.display(), &args.clients[0]);
    writeln!(
        stdout(),
        "zerio serve --tls-cert {folder}/server.pem --tls-key {folder}/server.key --tls-ca {folder}/ca.pem \
         --require-client-cert\n\
         zerio ping 127.0.0.1:7000 --id {id} --tls-ca {folder}/ca.pem --tls-cert {folder}/{id}.pem \
         --tls-key {folder}/{id}.key"
    )
    .map_err(Failure::output)
}

/// A certificate that has signed itself, for this name, and its key, in PEM. They are others each time, and always of the
/// same lengths: Ed25519 has one for keys and signatures, and the serial number is given.
pub(crate) fn of_one_length(name: &str) -> Result<(String, String), Failure> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(Failure::new)?;
    let mut params = named(name);
    params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(Failure::new)?));
    params.serial_number = Some(1u64.into());
    let certificate = params.self_signed(&key).map_err(Failure::new)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn sign(
    folder: &Path,
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), Failure> {
    let key = KeyPair::generate().map_err(Failure::new)?;
    let certificate = params.signed_by(&key, issuer).map_err(Failure::new)?;
    write(folder, &format!("{name}.pem"), &certificate.pem(), false)?;
    write(folder, &format!("{name}.key"), &key.serialize_pem(), true)
}

/// Writes a new file; a secret one only its owner may read. One that is there is not written over.
fn write(folder: &Path, name: &str, text: &str, secret: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let _ = secret;
    let path = folder.join(name);
    let written = options.open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|why| Failure::new(format!("can't write {}: {why}", path.display())))
}
