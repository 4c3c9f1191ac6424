//! `zerio certs`: an authority for development, and certificates of a server and of clients.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write, stdout};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType, date_time_ymd,
};

use crate::args;
use crate::failure::Failure;
use crate::shell::quoted;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So long before now a certificate is valid: another machine's clock may be slow.
const BEFORE: Duration = DAY;

/// And so long it is valid in all: as long as the pickiest of those who look, Apple's systems, take a server's
/// (support.apple.com/HT210176).
const LASTS: Duration = DAY.saturating_mul(825);

pub(crate) fn run(args: &args::Certs) -> Result<(), Failure> {
    // All is known to be good before the first file is there.
    let mut wanted = vec![("server", of_server(&args.server_names)?)];
    for id in &args.clients {
        if wanted.iter().any(|(name, _)| *name == id) {
            return Err(Failure::Usage(format!("--client {id:?}: there is one of that name already")));
        }
        wanted.push((id.as_str(), of_client(id)?));
    }
    let made = fs::create_dir_all(&args.folder);
    made.map_err(|why| Failure::writing(format_args!("make {}", args.folder.display()), &why))?;
    let names = wanted.iter().flat_map(|(name, _)| [format!("{name}.pem"), format!("{name}.key")]);
    for name in names.chain(["ca.pem".to_owned()]) {
        let path = args.folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(taken(&path));
        }
    }

    let key = KeyPair::generate().map_err(Failure::new)?;
    let mut params = lasting("a zerio authority for development");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).map_err(Failure::new)?;
    // Its key is not kept: nobody can sign anything else.
    let issuer = Issuer::new(params, key);
    write(&args.folder, "ca.pem", &authority.pem(), false)?;
    for (name, params) in &wanted {
        sign(&args.folder, name, params, &issuer)?;
    }
    let file = |name: &str| quoted(&args.folder.join(name).display().to_string());
    let id = &args.clients[0];
    let [ca, server, server_key] = ["ca.pem", "server.pem", "server.key"].map(file);
    let (client, client_key) = (file(&format!("{id}.pem")), file(&format!("{id}.key")));
    writeln!(
        stdout(),
        "zerio serve --tls-cert {server} --tls-key {server_key} --tls-ca {ca} --require-client-cert\n\
         zerio ping 127.0.0.1:7000 --id {} --tls-ca {ca} --tls-cert {client} --tls-key {client_key}",
        quoted(id)
    )
    .map_err(Failure::output)
}

fn of_server(names: &[String]) -> Result<CertificateParams, Failure> {
    let mut server = lasting("a zerio server");
    for name in names {
        let bad = || {
            let instead = "give names of ASCII letters, as in zerio.example, and addresses";
            Failure::Usage(format!("--server-names {name:?}: no certificate can name that; {instead}"))
        };
        server.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.is_empty() => return Err(bad()),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| bad())?),
        });
    }
    server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    Ok(server)
}

fn of_client(id: &str) -> Result<CertificateParams, Failure> {
    let bad = |why: &str| Failure::Usage(format!("--client {id:?}: {why}; choose another id"));
    if id.contains(['/', '\\']) || matches!(id, "" | "ca" | "server") {
        return Err(bad("its files can't be named so"));
    }
    if id.contains(char::is_control) {
        return Err(bad("no id has a control character in it"));
    }
    let mut client = lasting(id);
    let uri = format!("zerio:{id}").try_into();
    client
        .subject_alt_names
        .push(SanType::URI(uri.map_err(|_| bad("certificates name ids of ASCII alone"))?));
    client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    Ok(client)
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

/// Of this name, from about now on.
fn lasting(common_name: &str) -> CertificateParams {
    let mut params = named(common_name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(BEFORE);
    params.not_after = params.not_before + LASTS;
    params
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
    written.map_err(|why| match why.kind() {
        ErrorKind::AlreadyExists => taken(&path),
        _ => Failure::writing(format_args!("write {}", path.display()), &why),
    })
}

fn taken(path: &Path) -> Failure {
    let what = format!("{} is there and is not written over", path.display());
    Failure::new(format!("{what}: choose another folder, or remove it"))
}
